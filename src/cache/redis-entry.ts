import type { RedisArg } from '../kernel/redis.js'
import { nameOf, textOf } from '../kernel/redis-names.js'
import type { StoredEntry } from './store.js'

/*
 * An entry in Redis: stamp, fresh until, stored at (16 digits each, by the server's clock), 1 if it has tags, else 0; the time its
 * load took; notes in JSON, if there are any; end of line; the payload. See redis.lua.ts, which reads what it needs of that.
 */

const DIGITS = 16
const HEAD = 3 * DIGITS + 1

/** What is rarely there. */
interface Notes {
  readonly tags?: readonly string[] | undefined
  readonly etag?: string | undefined
  /** How the payload is written; left out for plain text. */
  readonly as?: 'bytes' | 'utf16' | undefined
}

/** An entry as it stands in Redis: times by the server's clock, and tags by their names there. */
export interface RedisEntry {
  readonly entry: StoredEntry
  readonly tagNames: readonly string[]
}

/** The four arguments that stand for an entry, at `epochMs` of the caller's clock: fresh for, old by, kept for, and the rest. */
export function entryArgs(entry: StoredEntry, ms: number, epochMs: number): RedisArg[] {
  const { payload, freshUntil, storedAt, tags, etag, loadMs } = entry
  const { text, as } = writePayload(payload)
  const plain = tags.length === 0 && etag === undefined && as === undefined
  const notes: Notes = { tags: tags.length > 0 ? tags.map(nameOf) : undefined, etag, as }
  const rest = `${tags.length > 0 ? 1 : 0}${loadMs ?? ''}${plain ? '' : JSON.stringify(notes)}\n${text}`
  return [freshUntil - epochMs, epochMs - storedAt, ms, rest]
}

/**
 * What a value of Redis is as an entry; `undefined` when nothing of ours is there.
 * @param offsetMs what to add to the server's time for the caller's
 */
export function entryOf(value: unknown, offsetMs: number): RedisEntry | undefined {
  if (typeof value !== 'string') return undefined
  const line = value.indexOf('\n', HEAD)
  const stamp = Number(value.slice(0, DIGITS))
  if (line < 0 || Number.isNaN(stamp)) return undefined
  const freshUntil = Number(value.slice(DIGITS, 2 * DIGITS))
  const storedAt = Number(value.slice(2 * DIGITS, 3 * DIGITS))
  const middle = line === HEAD ? '' : value.slice(HEAD, line)
  const brace = middle.indexOf('{')
  const notes = brace < 0 ? NONE : (JSON.parse(middle.slice(brace)) as Notes)
  const load = brace < 0 ? middle : middle.slice(0, brace)
  const entry: StoredEntry = {
    payload: readPayload(value.slice(line + 1), notes.as),
    stamp,
    freshUntil: freshUntil === 0 ? 0 : freshUntil + offsetMs,
    storedAt: storedAt + offsetMs,
    tags: notes.tags?.map(textOf) ?? [],
    etag: notes.etag,
    loadMs: load === '' ? undefined : Number(load),
  }
  return { entry, tagNames: notes.tags ?? [] }
}

const NONE: Notes = {}

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
