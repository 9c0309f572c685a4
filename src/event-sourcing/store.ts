import type { Unsubscribe } from '../kernel/emitter.js'
import type { Event, Metadata, Recorded } from './event.js'

/**
 * What a stream must look like for an append to happen. A number: its last version is exactly that (0: no event yet).
 * `'no-stream'`: it was never appended to. `'exists'`: it was. `'any'`: whatever it is; such an append never conflicts.
 * Truncated and archived streams exist.
 */
export type ExpectedVersion = number | 'any' | 'no-stream' | 'exists'

/** Picks events: those that satisfy any of `items`. No item: no event. */
export interface Query {
  /** In any order. */
  readonly items: readonly QueryItem[]
}

/** Satisfied by an event that has one of `types` and all of `tags`; what is left out is no condition. */
export interface QueryItem {
  /** Not empty. */
  readonly types?: readonly string[] | undefined
  /** Not empty. */
  readonly tags?: readonly string[] | undefined
}

/**
 * Lets an append happen only if no event that `query` picks was recorded after position `after`: a decision on events of any
 * streams (dynamic consistency boundary). Source: Sara Pellegrini, "Killing the Aggregate" (2023).
 */
export interface AppendCondition {
  /** Picks the events that the decision was made on. No item: no condition. */
  readonly query: Query
  /** `next` or `head` of the page up to which they were read. Integer ≥ 0. @defaultValue 0: no such event at all */
  readonly after?: number | undefined
}

/** One stream's part of {@link EventStore.appendAll}. */
export interface Append<E extends Event = Event> {
  /** Any string that is not empty. @defaultValue a stream of its own, named by a random UUID: for events found by their tags */
  readonly stream?: string | undefined
  /** At least one, in order. */
  readonly events: readonly E[]
  /** @defaultValue 'any' */
  readonly expectedVersion?: ExpectedVersion | undefined
  /** @defaultValue none */
  readonly unless?: AppendCondition | undefined
}

/** How an append is made. */
export interface AppendOptions {
  /**
   * Names the command behind the append, in the whole store: a repeat records nothing and returns the first result,
   * whatever the streams look like by then. At the same moment too.
   */
  readonly idempotencyKey?: string | undefined
  /** A transaction of the store's own database, begun by the caller: recorded when it commits, not otherwise. */
  readonly tx?: unknown
  /** Aborted before: nothing is recorded. While the append is under way: it may or may not be recorded. */
  readonly signal?: AbortSignal | undefined
  /** Put under each event's own metadata, key by key. */
  readonly metadata?: Metadata | undefined
}

/** What an append came to. */
export interface Appended<E extends Event = Event> {
  /** Name of the stream, as given or drawn. */
  readonly stream: string
  /** Version of the last event appended. */
  readonly version: number
  /** Position of the last event appended. */
  readonly position: number
  /** Whether this is the result of an earlier call with the same idempotency key. */
  readonly duplicate: boolean
  /** The events as recorded. Of a duplicate: those of the first call, less what was truncated since. */
  readonly events: readonly Recorded<E>[]
}

/** Which part of a stream is read. Bounds are inclusive and hold together. */
export interface ReadOptions {
  /** @defaultValue 1 */
  readonly fromVersion?: number | undefined
  /** @defaultValue the last */
  readonly toVersion?: number | undefined
  /** Only what was recorded at this moment or before: the stream as it stood then. */
  readonly asOf?: Date | undefined
  /** `'backward'`: newest first. The bounds stay what they are. @defaultValue 'forward' */
  readonly direction?: 'forward' | 'backward' | undefined
  /** At most so many, from the end at which reading starts. Integer ≥ 0. @defaultValue all */
  readonly limit?: number | undefined
  /** Reads within this transaction of the caller's, and so what it has appended itself. */
  readonly tx?: unknown
  /** Aborting it ends the reading with its reason. */
  readonly signal?: AbortSignal | undefined
}

/** Which part of the log a page holds. */
export interface PageOptions {
  /** Only positions above it. Integer ≥ 0. @defaultValue 0 */
  readonly after?: number | undefined
  /** At most so many events. Integer ≥ 1. @defaultValue 1_000 */
  readonly limit?: number | undefined
  /** @defaultValue every event */
  readonly query?: Query | undefined
}

/** Which part of the log is read. */
export interface ReadAllOptions extends PageOptions {
  /** At most so many events in all. Integer ≥ 0. @defaultValue all */
  readonly limit?: number | undefined
  /** Aborting it ends the reading with its reason. */
  readonly signal?: AbortSignal | undefined
}

/** Part of the log, in order of position. */
export interface Page<E extends Event = Event> {
  /** Those that the query picks, at most as many as asked for. */
  readonly events: readonly Recorded<E>[]
  /** Give it as `after` to go on; safe to store even when the query matched nothing. Never below `after`. */
  readonly next: number
  /** Position up to which the log is settled: nothing can appear at or below it any more. */
  readonly head: number
}

/** What is known about a stream. */
export interface StreamInfo {
  /** Version of the last event ever appended; 0 for a name that was tombstoned before its first event. */
  readonly version: number
  /** The lowest version that can still be read; `version + 1` when nothing can. */
  readonly first: number
  /** `'archived'`: closed to appends, readable. `'tombstoned'`: its events are gone, its name is spent. */
  readonly state: 'live' | 'archived' | 'tombstoned'
}

/**
 * An append-only log of events, in streams. Contract: `test/conformance/event-store.ts`.
 *
 * What is read equals what was appended; what a reader does to it changes nothing here (it may be frozen). After {@link close}
 * every method throws ClosedError. Where a server is involved every method may throw StoreError; after a write it then
 * may or may not have happened.
 */
export interface EventStore<E extends Event = Event> {
  /** Never there: lets the compiler find `E` in a store that it is given. A class that implements the port declares it. */
  readonly __event?: { of(event: E): void }['of'] | undefined

  /**
   * Adds `events` to the end of `stream`, all or none, in one atomic step: of several calls that expect one version
   * exactly one succeeds, the others conflict. Appends with `'any'` wait for each other and all succeed.
   * @throws VersionConflictError when the stream is not as expected, or the log not as `unless` says: nothing was written; has the
   * events missed.
   * @throws TombstonedError, StreamClosedError when the stream takes no more events: nothing was written.
   * @throws CorruptDataError when `unless.after` is beyond the end of the log, as for {@link readPage}: nothing was written.
   * Of several things in the way, what is wrong with a stream is told before what is wrong with a condition.
   * @throws InvalidPayloadError when an event holds what can't be stored as it is: nothing was written.
   * @throws InvalidOptionError for no events, an empty name, or an idempotency key first used for other streams.
   */
  append<T extends E>(
    stream: string,
    events: readonly T[],
    options?: AppendOptions & Pick<Append, 'expectedVersion' | 'unless'>,
  ): Promise<Appended<T>>

  /**
   * {@link append} to several streams, all or nothing, each at most once. Positions follow the order given; so do the results.
   * @throws as {@link append}, also InvalidOptionError for a stream given twice: nothing was written anywhere.
   */
  appendAll<T extends E>(appends: readonly Append<T>[], options?: AppendOptions): Promise<readonly Appended<T>[]>

  /** What the call with this idempotency key came to, in the order of its streams; `undefined` if there was none. */
  recall<T extends E = E>(
    idempotencyKey: string,
    options?: { readonly tx?: unknown },
  ): Promise<readonly Appended<T>[] | undefined>

  /**
   * A stream's events in order of version. An unknown stream has none. What is appended while reading may be included, and
   * what is truncated meanwhile left out. @throws TombstonedError when the stream was tombstoned; while reading: not always in memory.
   */
  read<T extends E = E>(stream: string, options?: ReadOptions): AsyncIterable<Recorded<T>>

  /**
   * The next events of the whole log, in order of position. Never goes past a position where an event may still be
   * committed, and never waits for one that was rolled back: who reads page after page misses nothing.
   * @throws CorruptDataError when `after` is beyond the end of the log: it is not the log that the position came from.
   */
  readPage<T extends E = E>(options?: PageOptions): Promise<Page<T>>

  /** {@link readPage}, page after page, up to where the log is settled when the last page is read. */
  readAll<T extends E = E>(options?: ReadAllOptions): AsyncIterable<Recorded<T>>

  /** Calls `fn` when there may be something new. A hint that can be lost: who polls stays correct without it. */
  wake(fn: () => void): Unsubscribe

  /** `undefined` for a stream that was never appended to. With `tx`, as it stands in this transaction of the caller's. */
  info(stream: string, options?: { readonly tx?: unknown }): Promise<StreamInfo | undefined>

  /**
   * Removes the stream's events with a version below `before`, for good. The version stays: appends go on from it.
   * @throws NotFoundError for an unknown stream. @throws TombstonedError.
   */
  truncate(stream: string, before: number): Promise<void>

  /** Closes the stream to appends; it stays readable. Again: no change. @throws NotFoundError for an unknown stream. @throws TombstonedError. */
  archive(stream: string): Promise<void>

  /** Removes the stream's events for good; its name can never be used again, not even if it was never used. */
  tombstone(stream: string): Promise<void>

  /** Ends every use of the store. What was handed in (a connection pool) stays open. */
  close(): Promise<void>
}
