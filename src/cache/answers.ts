import { CorruptDataError } from '../kernel/errors.js'
import type { CacheLease, CacheStore, Invalidation, StoredEntry } from './store.js'

/*
 * A store is somebody else's code and data. An answer that is none makes the call fail like any other, instead of breaking
 * what reads it.
 */

type Entries = Awaited<ReturnType<CacheStore['read']>>
type State = Awaited<ReturnType<CacheStore['state']>>

/** @throws CorruptDataError unless it is a list of `count` entries. */
export function checkEntries(answer: Entries, count: number): Entries {
  const { entries } = (answer ?? {}) as Partial<Entries>
  if (!Array.isArray(entries) || entries.length !== count) return corrupt('read')
  if (!entries.every((entry: unknown) => entry === undefined || isEntry(entry))) return corrupt('read')
  return answer
}

/** @throws CorruptDataError unless it is one of the three kinds of answer. */
export function checkLease(answer: CacheLease): CacheLease {
  switch (answer?.kind) {
    case 'busy':
      return answer
    case 'hit':
      return isEntry(answer.entry) ? answer : corrupt('lease')
    case 'granted':
      return typeof answer.token === 'string' && Number.isSafeInteger(answer.seq) ? answer : corrupt('lease')
    default:
      return corrupt('lease')
  }
}

/** @throws CorruptDataError unless it is a number of a change. */
export const checkSeq = (answer: number): number => (Number.isSafeInteger(answer) ? answer : corrupt('write'))

/** @throws CorruptDataError unless it has an epoch and a number. */
export const checkState = (answer: State): State =>
  typeof answer?.epoch === 'string' && Number.isSafeInteger(answer.seq) ? answer : corrupt('state')

/** Whether a message of another process says what to take away. */
export function isInvalidation(value: unknown): value is Invalidation {
  const { kind, keys, tags } = (value ?? {}) as { kind?: unknown; keys?: unknown; tags?: unknown }
  if (kind === 'all') return true
  const names = kind === 'keys' ? keys : kind === 'tags' ? tags : undefined
  return Array.isArray(names) && names.every((name) => typeof name === 'string')
}

function isEntry(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { tags, stamp, freshUntil, storedAt } = value as Partial<StoredEntry>
  return Array.isArray(tags) && [stamp, freshUntil, storedAt].every((field) => typeof field === 'number')
}

function corrupt(operation: string): never {
  throw new CorruptDataError(`the second level answered ${operation} with something that is no such answer`)
}
