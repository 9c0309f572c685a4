import { checkInteger, checkObject, checkOneOf, checkString, invalid } from '../kernel/check.js'
import { randomId } from '../kernel/random.js'
import type { Event, Metadata } from './event.js'
import { checkQuery } from './query.js'
import type {
  Append,
  AppendCondition,
  AppendOptions,
  ExpectedVersion,
  PageOptions,
  Query,
  ReadOptions,
} from './store.js'

/** An event with everything a store records but its place. */
export interface NewEvent {
  readonly type: string
  readonly data: unknown
  readonly id: string
  readonly tags: readonly string[]
  readonly metadata: Metadata
}

/** What must not have been recorded, checked and complete. */
export interface Condition {
  readonly query: Query
  readonly after: number
}

/** One stream's part of an append, checked and complete. */
export interface AppendRequest {
  readonly stream: string
  /** Whether the caller named the stream. */
  readonly named: boolean
  readonly expected: ExpectedVersion
  readonly events: readonly NewEvent[]
  readonly unless: Condition | undefined
}

/** Checks what an adapter's `append` or `appendAll` was given. @throws InvalidOptionError. */
export function appendRequests(appends: readonly Append[], options: AppendOptions): readonly AppendRequest[] {
  if (!Array.isArray(appends) || appends.length === 0) return invalid('appends', 'an array that is not empty', appends)
  if (options.idempotencyKey !== undefined) checkString('idempotencyKey', options.idempotencyKey)
  if (options.metadata !== undefined) checkMetadata('metadata', options.metadata)
  const requests = appends.map((append) => appendRequest(append, options.metadata))
  if (requests.length > 1 && new Set(requests.map((r) => r.stream)).size < requests.length)
    return invalid('appends', 'each stream once', appends)
  return requests
}

function appendRequest(append: Append, metadata: Metadata | undefined): AppendRequest {
  const { stream, events, expectedVersion = 'any', unless } = checkObject('appends', append)
  if (stream !== undefined) checkString('stream', stream)
  if (!Array.isArray(events) || events.length === 0) return invalid('events', 'an array that is not empty', events)
  return {
    stream: stream ?? randomId(),
    named: stream !== undefined,
    expected: checkExpected(expectedVersion),
    events: events.map((event) => newEvent(event, metadata)),
    unless: checkCondition(unless),
  }
}

function checkCondition(unless: AppendCondition | undefined): Condition | undefined {
  if (unless === undefined) return undefined
  const { query, after = 0 } = checkObject('unless', unless)
  checkInteger('unless.after', after, 0)
  const { items } = checkQuery(checkObject('query', query)) as Query
  return items.length > 0 ? { query, after } : undefined
}

/** What an event without them has: one for all. */
const NO_TAGS: readonly string[] = Object.freeze([])
/** As {@link NO_TAGS}. */
export const NO_METADATA: Metadata = Object.freeze({})

function newEvent(event: Event, metadata: Metadata | undefined): NewEvent {
  const { type, data, id = randomId(), tags = NO_TAGS, metadata: own = NO_METADATA } = checkObject('event', event)
  checkString('event type', type)
  checkString('event id', id)
  if (!Array.isArray(tags)) invalid('event tags', 'an array', tags)
  for (const tag of tags) checkString('event tag', tag)
  if (own !== NO_METADATA) checkMetadata('event metadata', own)
  return { type, data, id, tags, metadata: metadata ? { ...metadata, ...own } : own }
}

/** Whether every store gives `value` back as it is, key by key: of a `Date` or an `Error` nothing would be left. */
export function isMetadata(value: unknown): value is Metadata {
  if (typeof value !== 'object' || value === null || Object.getOwnPropertySymbols(value).length > 0) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** `value` if it is metadata. @throws InvalidOptionError otherwise. */
export const checkMetadata = (option: string, value: Metadata): Metadata =>
  isMetadata(value) ? value : invalid(option, 'a plain object', value)

/** Whether what an idempotency key was first used for are the streams of `requests`. */
export const isRepeat = (first: readonly { readonly stream: string }[], requests: readonly AppendRequest[]): boolean =>
  first.length === requests.length && requests.every(({ named, stream }, i) => !named || stream === first[i]?.stream)

/** `expected` if it is an expectation. @throws InvalidOptionError otherwise. */
export function checkExpected(expected: ExpectedVersion): ExpectedVersion {
  if (typeof expected === 'number') return checkInteger('expectedVersion', expected, 0)
  return checkOneOf<'any' | 'no-stream' | 'exists'>('expectedVersion', expected, ['any', 'no-stream', 'exists'])
}

/** Whether a stream at `version` (0: it does not exist) is as `expected`. */
export const isAsExpected = (version: number, expected: ExpectedVersion): boolean =>
  expected === 'any' || (expected === 'exists' ? version > 0 : version === (expected === 'no-stream' ? 0 : expected))

/** The versions after which a conflict has missed events: `undefined` when the expectation names none. */
export const missedAfter = (expected: ExpectedVersion): number | undefined =>
  expected === 'no-stream' ? 0 : typeof expected === 'number' ? expected : undefined

/** The bounds of a reading, checked and complete. */
export interface Bounds {
  readonly from: number
  readonly to: number
  /** Epoch milliseconds. */
  readonly until: number
  readonly backward: boolean
  readonly limit: number
}

/** Checks what an adapter's `read` was given. @throws InvalidOptionError. */
export function readBounds({
  fromVersion = 1,
  toVersion = Number.MAX_SAFE_INTEGER,
  asOf,
  direction = 'forward',
  limit = Number.MAX_SAFE_INTEGER,
}: ReadOptions): Bounds {
  const until = asOf === undefined ? Infinity : asOf instanceof Date ? asOf.getTime() : NaN
  if (Number.isNaN(until)) return invalid('asOf', 'a valid Date', asOf)
  return {
    from: checkInteger('fromVersion', fromVersion, 0),
    to: checkInteger('toVersion', toVersion, 0),
    until,
    backward: checkOneOf('direction', direction, ['forward', 'backward']) === 'backward',
    limit: checkInteger('limit', limit, 0),
  }
}

/** Checks what an adapter's `readPage` was given. @throws InvalidOptionError. */
export function pageBounds({ after = 0, limit = 1_000, query }: PageOptions): {
  readonly after: number
  readonly limit: number
  readonly query: Query | undefined
} {
  return {
    after: checkInteger('after', after, 0),
    limit: checkInteger('limit', limit, 1),
    query: checkQuery(query),
  }
}
