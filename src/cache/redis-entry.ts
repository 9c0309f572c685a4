import type { RedisArg } from '../kernel/redis.js'
import { nameOf, textOf } from './redis-names.js'
import type { StoredEntry } from './store.js'

/*
 * An entry in Redis: stamp, fresh until, stored at (16 digits each, by the server's clock), 1 or 0 for tags, notes in one line of
 * JSON, the payload. See redis.lua.ts, which reads all but the payload.
 */

const DIGITS = 16
const HEAD = 3 * DIGITS + 1

/** What is not in every entry. */
interface Notes {
  readonly tags?: readonly string[]
  readonly etag?: string
  readonly loadMs?: number
  /** How the payload is written; left out for plain text. */
  readonly as?: 'bytes' | 'utf16'
}

/** The four arguments that stand for an entry, at `epochMs` of the caller's clock: fresh for, old by, kept for, and the rest. */
export function entryArgs(entry: StoredEntry, ms: number, epochMs: number): RedisArg[] {
  const { payload, freshUntil, storedAt, tags, etag, loadMs } = entry
  const names = tags.length > 0 ? tags.map(nameOf) : undefined
  const written = writePayload(payload)
  const notes = { tags: names, etag, loadMs, as: written.as }
  return [freshUntil - epochMs, epochMs - storedAt, ms, `${names ? 1 : 0}${JSON.stringify(notes)}\n${written.text}`]
}

/** The entry, its times by the caller's clock; `undefined` when nothing of ours is there. */
export function entryOf(value: unknown, offsetMs: number): StoredEntry | undefined {
  if (typeof value !== 'string') return undefined
  const line = value.indexOf('\n', HEAD)
  const [stamp, freshUntil, storedAt] = [0, 1, 2].map((i) => Number(value.slice(i * DIGITS, (i + 1) * DIGITS)))
  if (line < 0) return undefined
  const { tags = [], as, ...notes } = JSON.parse(value.slice(HEAD, line)) as Notes
  return {
    payload: readPayload(value.slice(line + 1), as),
    stamp: stamp!,
    freshUntil: freshUntil === 0 ? 0 : freshUntil! + offsetMs,
    storedAt: storedAt! + offsetMs,
    tags: tags.map(textOf),
    ...notes,
  }
}

function writePayload(payload: Uint8Array | string): { text: string; as?: Notes['as'] } {
  if (typeof payload !== 'string') return { text: Buffer.from(payload).toString('base64'), as: 'bytes' }
  if (nameOf(payload).startsWith(':')) return { text: payload }
  return { text: Buffer.from(payload, 'utf16le').toString('base64'), as: 'utf16' }
}

function readPayload(text: string, as: Notes['as']): Uint8Array | string {
  if (as === undefined) return text
  const bytes = Buffer.from(text, 'base64')
  return as === 'bytes' ? new Uint8Array(bytes) : bytes.toString('utf16le')
}
