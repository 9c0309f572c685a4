import { checkInteger, checkString, invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { jsonCodec } from '../kernel/codec.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, CorruptDataError, NotFoundError } from '../kernel/errors.js'
import { MOST_MISSED, StreamClosedError, TombstonedError, VersionConflictError } from './errors.js'
import { firstAbove } from './ascending.js'
import type { Event, Metadata, Recorded } from './event.js'
import { INLINE, type InlineProject } from './inline.js'
import { MemoryInline, type AtOnce } from './memory-inline.js'
import { frozenCopy, NOT_PLAIN } from './payload.js'
import { matches } from './query.js'
import { readAllPages } from './read-all.js'
import {
  appendRequests,
  isAsExpected,
  isRepeat,
  missedAfter,
  NO_METADATA,
  pageBounds,
  readBounds,
  type AppendRequest,
  type Condition,
} from './request.js'
import type {
  Append,
  Appended,
  AppendOptions,
  EventStore,
  Page,
  PageOptions,
  Query,
  ReadAllOptions,
  ReadOptions,
  StreamInfo,
} from './store.js'

/** How a {@link MemoryEventStore} keeps time. */
export interface MemoryEventStoreOptions {
  /** For `recordedAt`. @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/** An event as kept: what can be changed (a date, a map) is kept as text and made anew for each reader. */
interface Kept {
  readonly type: string
  readonly id: string
  readonly tags: readonly string[] | undefined
  /** Data and metadata as text, where they hold what can be changed; then these are not there. */
  readonly text: string | undefined
  readonly data: unknown
  readonly metadata: Metadata | undefined
  readonly streamId: string
  /** This and what follows is known when the event is recorded. */
  version: number
  position: number
  at: number
}

interface Stream {
  /** `events[i]` has version `first + i`. */
  readonly events: Kept[]
  version: number
  first: number
  state: StreamInfo['state']
  lastAt: number
}

/** The log in this process's memory: for tests, examples, and as the model that the other stores are measured against. */
export class MemoryEventStore<E extends Event = Event> implements EventStore<E> {
  declare readonly __event?: EventStore<E>['__event']
  readonly #clock: Clock
  readonly #streams = new Map<string, Stream>()
  /** The event at position `i + 1`; `undefined` where it was truncated. */
  readonly #log: (Kept | undefined)[] = []
  /** Positions of the events that carry a tag, in order. */
  readonly #tags = new Map<string, number[]>()
  readonly #results = new Map<string, readonly { stream: string; from: number; version: number; position: number }[]>()
  readonly #events = new Emitter<{ appended: void }>()
  /** There is one from the first inline projection on. */
  #inline: MemoryInline | undefined
  #closed = false

  constructor({ clock = systemClock }: MemoryEventStoreOptions = {}) {
    this.#clock = clock
  }

  async append<T extends E>(
    stream: string,
    events: readonly T[],
    options: AppendOptions & Pick<Append, 'expectedVersion' | 'unless'> = {},
  ): Promise<Appended<T>> {
    checkString('stream', stream)
    const { expectedVersion, unless } = options
    const results = this.#appendAll<T>([{ stream, events, expectedVersion, unless }], options)
    const [appended] = results instanceof Promise ? await results : results
    return appended as Appended<T>
  }

  async appendAll<T extends E>(
    appends: readonly Append<T>[],
    options: AppendOptions = {},
  ): Promise<readonly Appended<T>[]> {
    return this.#appendAll(appends, options)
  }

  /** @internal */
  [INLINE](on: readonly string[] | Query, project: InlineProject<AtOnce>, ready?: () => Promise<unknown>): void {
    this.#inline ??= new MemoryInline()
    this.#inline.add(on, project, ready)
  }

  async #appendInline<T extends E>(
    inline: MemoryInline,
    requests: readonly AppendRequest[],
    written: readonly Kept[][],
    options: AppendOptions,
  ): Promise<readonly Appended<T>[]> {
    this.#checkUsable(options.tx)
    const key = options.idempotencyKey
    if (key !== undefined && this.#results.has(key)) return this.#repeated(key, requests)
    let position = this.#log.length
    this.#checkAll(requests, options)
    for (const events of written) {
      this.#place(events, position)
      position += events.length
    }
    const apply = await inline.project(written.flat().map(recordedOf<Event>))
    this.#checkAll(requests, options) // a stream may have been closed meanwhile
    apply()
    const results = written.map((events) => this.#put<T>(events))
    this.#done(key, results)
    return results
  }

  #checkAll(requests: readonly AppendRequest[], { signal }: AppendOptions): void {
    signal?.throwIfAborted()
    for (const request of requests) this.#check(request)
    for (const { unless } of requests) if (unless) this.#checkCondition(unless)
  }

  /** One synchronous step, and so atomic: checks everything, then writes. With inline projections, in its turn. */
  #appendAll<T extends E>(
    appends: readonly Append<T>[],
    options: AppendOptions,
  ): readonly Appended<T>[] | Promise<readonly Appended<T>[]> {
    this.#checkUsable(options.tx)
    options.signal?.throwIfAborted()
    const requests = appendRequests(appends, options)
    const written = requests.map(keptOf)
    const inline = this.#inline
    if (inline) return inline.inTurn(() => this.#appendInline(inline, requests, written, options))
    const key = options.idempotencyKey
    if (key !== undefined && this.#results.has(key)) return this.#repeated(key, requests)
    this.#checkAll(requests, options)
    const results = written.map((events) => {
      this.#place(events, this.#log.length)
      return this.#put<T>(events)
    })
    this.#done(key, results)
    return results
  }

  #done(key: string | undefined, results: readonly Appended[]): void {
    if (key !== undefined) {
      const kept = results.map(({ stream, version, position, events }) => {
        return { stream, from: version - events.length + 1, version, position }
      })
      this.#results.set(key, kept)
    }
    this.#events.emit('appended', undefined)
  }

  #check({ stream, expected }: AppendRequest): void {
    const found = this.#streams.get(stream)
    const version = found?.version ?? 0
    if (found?.state === 'tombstoned') throw new TombstonedError(stream)
    if (!isAsExpected(version, expected)) {
      const after = missedAfter(expected) ?? version
      const missed = this.#slice(stream, after + 1, version).slice(0, MOST_MISSED)
      throw new VersionConflictError(stream, expected, version, missed.map(recordedOf))
    }
    if (found?.state === 'archived') throw new StreamClosedError(stream, 'is archived')
  }

  #checkCondition({ query, after }: Condition): void {
    const { events } = this.#page(after, Infinity, query)
    const last = events.at(-1)
    if (last) throw new VersionConflictError(undefined, after, last.position, events.slice(0, MOST_MISSED), query)
  }

  /** Sets what is known of the events once they are recorded after `position`. */
  #place(events: readonly Kept[], position: number): void {
    const before = this.#streams.get((events[0] as Kept).streamId)
    const version = before?.version ?? 0
    const at = Math.max(before?.lastAt ?? -Infinity, Math.floor(this.#clock.epochMs()))
    events.forEach((event, i) => {
      event.version = version + i + 1
      event.position = position + i + 1
      event.at = at
    })
  }

  #put<T extends E>(written: Kept[]): Appended<T> {
    const { streamId, version: last, at } = written.at(-1) as Kept
    const before = this.#streams.get(streamId)
    for (const kept of written) {
      this.#log.push(kept)
      before?.events.push(kept)
      if (kept.tags) this.#tag(kept.tags, kept.position)
    }
    if (before) {
      before.version = last
      before.lastAt = at
    } else {
      this.#streams.set(streamId, { events: written, version: last, first: 1, state: 'live', lastAt: at })
    }
    const recorded = written.map(recordedOf<T>)
    return { stream: streamId, version: last, position: this.#log.length, duplicate: false, events: recorded }
  }

  #tag(tags: readonly string[], position: number): void {
    for (const tag of new Set(tags)) {
      const positions = this.#tags.get(tag)
      if (positions) positions.push(position)
      else this.#tags.set(tag, [position])
    }
  }

  #repeated<T extends E>(key: string, requests?: readonly AppendRequest[]): readonly Appended<T>[] {
    const results = this.#results.get(key) ?? []
    if (requests && !isRepeat(results, requests))
      return invalid('idempotencyKey', 'one that was not used for other streams', key)
    return results.map(({ from, ...result }) => {
      return { ...result, duplicate: true, events: this.#slice(result.stream, from, result.version).map(recordedOf<T>) }
    })
  }

  async recall<T extends E = E>(
    idempotencyKey: string,
    { tx }: { readonly tx?: unknown } = {},
  ): Promise<readonly Appended<T>[] | undefined> {
    this.#checkUsable(tx)
    return this.#results.has(checkString('idempotencyKey', idempotencyKey)) ? this.#repeated(idempotencyKey) : undefined
  }

  async *read<T extends E = E>(
    stream: string,
    { signal, tx, ...options }: ReadOptions = {},
  ): AsyncGenerator<Recorded<T>, void, undefined> {
    const { from, to, until, backward, limit } = readBounds(options)
    this.#checkUsable(tx)
    if (this.#streams.get(checkString('stream', stream))?.state === 'tombstoned') throw new TombstonedError(stream)
    const found = this.#slice(stream, from, to).filter((event) => event.at <= until)
    if (backward) found.reverse()
    for (const event of found.slice(0, limit)) {
      signal?.throwIfAborted()
      yield recordedOf<T>(event)
    }
  }

  async readPage<T extends E = E>(options: PageOptions = {}): Promise<Page<T>> {
    const { after, limit, query } = pageBounds(options)
    this.#checkUsable()
    return this.#page(after, limit, query)
  }

  #page<T extends E>(after: number, limit: number, query: Query | undefined): Page<T> {
    const head = this.#log.length
    if (after > head) throw new CorruptDataError(`position ${after} is beyond the end of the log, ${head}`)
    const events: Recorded<T>[] = []
    for (const position of this.#candidates(after, query)) {
      const event = this.#log[position - 1]
      if (!event || !matches(query, event)) continue
      events.push(recordedOf<T>(event))
      if (events.length === limit) return { events, next: position, head }
    }
    return { events, next: head, head }
  }

  /** Positions above `after`, in order, among which all are that `query` picks. */
  *#candidates(after: number, query: Query | undefined): Iterable<number> {
    const lists = query?.items.map(({ tags = [] }) => this.#rarest(tags))
    if (lists?.every((list) => list !== undefined)) {
      const above = lists.map((list) => list.slice(firstAbove(list, after)))
      if (above.length === 1) yield* above[0] as number[]
      else yield* [...new Set(above.flat())].toSorted((a, b) => a - b)
    } else {
      for (let position = after + 1; position <= this.#log.length; position++) yield position
    }
  }

  /** Where the tag stands that fewest events carry; `undefined` without a tag. */
  #rarest(tags: readonly string[]): readonly number[] | undefined {
    let rarest: readonly number[] | undefined
    for (const tag of tags) {
      const positions = this.#tags.get(tag) ?? []
      if (!rarest || positions.length < rarest.length) rarest = positions
    }
    return rarest
  }

  readAll<T extends E = E>(options: ReadAllOptions = {}): AsyncGenerator<Recorded<T>, void, undefined> {
    return readAllPages<T>((page) => this.readPage(page), options)
  }

  wake(fn: () => void): Unsubscribe {
    this.#checkUsable()
    return this.#events.on('appended', fn)
  }

  async info(stream: string, { tx }: { readonly tx?: unknown } = {}): Promise<StreamInfo | undefined> {
    this.#checkUsable(tx)
    const found = this.#streams.get(checkString('stream', stream))
    return found && { version: found.version, first: found.first, state: found.state }
  }

  async truncate(stream: string, before: number): Promise<void> {
    checkInteger('before', before, 0)
    this.#remove(this.#existing(stream), before)
  }

  async archive(stream: string): Promise<void> {
    this.#existing(stream).state = 'archived'
  }

  async tombstone(stream: string): Promise<void> {
    this.#checkUsable()
    checkString('stream', stream)
    const found = this.#streams.get(stream)
    if (found) {
      this.#remove(found, Infinity)
      found.state = 'tombstoned'
    } else {
      this.#streams.set(stream, { events: [], version: 0, first: 1, state: 'tombstoned', lastAt: -Infinity })
    }
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  #existing(stream: string): Stream {
    this.#checkUsable()
    const found = this.#streams.get(checkString('stream', stream))
    if (!found) throw new NotFoundError(`stream ${JSON.stringify(stream)} does not exist`)
    if (found.state === 'tombstoned') throw new TombstonedError(stream)
    return found
  }

  #remove(stream: Stream, before: number): void {
    const removed = stream.events.splice(0, Math.max(0, before - stream.first))
    for (const { position } of removed) this.#log[position - 1] = undefined
    stream.first += removed.length
  }

  #slice(stream: string, from: number, to: number): Kept[] {
    const { events, first } = this.#streams.get(stream) ?? { events: [], first: 1 }
    return events.slice(Math.max(0, from - first), Math.max(0, to - first + 1))
  }

  #checkUsable(tx?: unknown): void {
    if (this.#closed) throw new ClosedError('the event store is closed')
    if (tx !== undefined) invalid('tx', 'none: this store has no transactions', tx)
  }
}

/** The events as they are kept, but for their place. @throws InvalidPayloadError for what the codec can't keep. */
function keptOf({ stream: streamId, events }: AppendRequest): Kept[] {
  return events.map((event): Kept => {
    const { type, id } = event
    const tags = event.tags.length > 0 ? Object.freeze([...event.tags]) : undefined
    const data = frozenCopy(event.data)
    const metadata = event.metadata === NO_METADATA ? NO_METADATA : (frozenCopy(event.metadata) as Metadata)
    const kept = { type, id, tags, text: undefined, data, metadata, streamId, version: 0, position: 0, at: 0 }
    if (data !== NOT_PLAIN && (metadata as unknown) !== NOT_PLAIN) return kept
    const text = `[${jsonCodec.encode(event.data)},${jsonCodec.encode(event.metadata)}]` // one by one: an error names a place in one of them
    return { ...kept, text, data: undefined, metadata: undefined }
  })
}

/** Spelled out: a rest or a spread would cost more than all the rest of an append. */
function recordedOf<E extends Event>(kept: Kept): Recorded<E> {
  let { data, metadata } = kept
  if (kept.text !== undefined) [data, metadata] = jsonCodec.decode(kept.text) as [unknown, Metadata]
  const event = {
    type: kept.type,
    data,
    id: kept.id,
    streamId: kept.streamId,
    version: kept.version,
    position: kept.position,
    recordedAt: new Date(kept.at),
    metadata,
  }
  if (kept.tags) return { ...event, tags: kept.tags } as unknown as Recorded<E>
  return event as unknown as Recorded<E>
}
