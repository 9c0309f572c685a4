import { checkInteger, checkObject, checkString, invalid } from '../kernel/check.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, CorruptDataError, NotFoundError } from '../kernel/errors.js'
import { checkRedisClient, defineScript, sendRedis, type RedisClient } from '../kernel/redis.js'
import { hashTagged, nameOf, textOf } from '../kernel/redis-names.js'
import { listen, type Listening, type RedisSubscriber } from '../kernel/redis-subscriber.js'
import { orAbort } from '../kernel/signal.js'
import { MOST_MISSED, StreamClosedError, TombstonedError, VersionConflictError } from './errors.js'
import type { Event, Recorded } from './event.js'
import { readAllPages } from './read-all.js'
import { RedisAppends } from './redis-appends.js'
import { DEFAULT_NAMESPACE } from './redis-namespace.js'
import { appendCall, appendedOf, bodyOf, eventOf, firstResults, queryArgs, tagKey } from './redis-rows.js'
import { hiddenLua, pageLua, purgeLua, readLua, removeLua } from './redis.lua.js'
import {
  appendRequests,
  isAsExpected,
  isRepeat,
  missedAfter,
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

export type { IoRedisSubscriber, NodeRedisSubscriber, RedisSubscriber } from '../kernel/redis-subscriber.js'
export { RedisCheckpoints, type RedisCheckpointsOptions } from './redis-checkpoints.js'
export { RedisSnapshots, type RedisSnapshotsOptions } from './redis-snapshots.js'
export type { RedisClient }

/** Where a {@link RedisEventStore} keeps its log, and for how long what. */
export interface RedisEventStoreOptions {
  /**
   * Stands before every key: stores with different ones share nothing. On a Cluster a log is in one slot: that of the hash tag in here, or of the
   * whole. @defaultValue `'holdfast:{events}:'`
   */
  readonly namespace?: string | undefined
  /**
   * Milliseconds for which the result of an append with an idempotency key is remembered. Integer ≥ 1: a repeat that is later is
   * recorded again. @defaultValue for ever
   */
  readonly idempotencyMs?: number | undefined
  /** A client that does nothing but listen: with it `wake` hears of the appends of other processes. @defaultValue of this process only */
  readonly subscriber?: RedisSubscriber | undefined
}

/** Events fetched at a time when a stream is read. */
const CHUNK = 2_000
/** Events that one call looks at: more would hold up the server's other clients. */
const BUDGET = 2_000
/** Events removed at a time, and tags of them. */
const PURGED = 500
const PURGED_TAGS = 10_000
const STATES = ['live', 'archived', 'tombstoned'] as const

const [pageScript, readScript, removeScript, hiddenScript, purgeScript] = [
  defineScript(pageLua),
  defineScript(readLua),
  defineScript(removeLua),
  defineScript(hiddenLua),
  defineScript(purgeLua),
]

/**
 * The log in Redis ≥ 6.2, one server or Cluster, with one total order. All appends of a tick are one script call, each of them atomic and
 * with a result of its own. Time is the server's. A call that the client sends again because the connection broke is made once.
 *
 * What survives a crash is what Redis is told to keep: with `appendonly yes` and `appendfsync always` every append that was
 * answered; with `everysec` all but the last second or so; without AOF all since the last dump is lost. A fail-over loses what had not
 * been copied. Needs `maxmemory-policy noeviction`: when keys are evicted, CorruptDataError is thrown where that is noticed.
 */
export class RedisEventStore<E extends Event = Event> implements EventStore<E> {
  declare readonly __event?: EventStore<E>['__event']
  readonly #client: RedisClient
  readonly #prefix: string
  readonly #subscriber: RedisSubscriber | undefined
  readonly #appends: RedisAppends
  readonly #events = new Emitter<{ appended: void }>()
  /** End of the log as last told to those who asked. */
  #told = 0
  #listening: Listening | undefined
  #closed = false

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(
    client: RedisClient,
    { namespace = DEFAULT_NAMESPACE, idempotencyMs, subscriber }: RedisEventStoreOptions = {},
  ) {
    this.#client = checkRedisClient(client, 'namespace')
    this.#prefix = hashTagged(checkString('namespace', namespace, 0))
    const keptMs = idempotencyMs === undefined ? 0 : checkInteger('idempotencyMs', idempotencyMs, 1)
    this.#subscriber = subscriber && checkObject('subscriber', subscriber)
    this.#appends = new RedisAppends(this.#client, this.#prefix, keptMs)
  }

  async append<T extends E>(
    stream: string,
    events: readonly T[],
    { expectedVersion, unless, ...options }: AppendOptions & Pick<Append, 'expectedVersion' | 'unless'> = {},
  ): Promise<Appended<T>> {
    checkString('stream', stream)
    const [appended] = await this.appendAll<T>([{ stream, events, expectedVersion, unless }], options)
    return appended as Appended<T>
  }

  async appendAll<T extends E>(
    appends: readonly Append<T>[],
    options: AppendOptions = {},
  ): Promise<readonly Appended<T>[]> {
    const { idempotencyKey: key, signal, tx } = options
    this.#checkUsable(tx)
    signal?.throwIfAborted()
    const requests = appendRequests(appends, options)
    const bodies = requests.map(({ events }) => events.map(bodyOf))
    return orAbort(this.#appendAll<T>(requests, bodies, key), signal)
  }

  async #appendAll<T extends E>(
    requests: readonly AppendRequest[],
    bodies: readonly (readonly string[])[],
    key: string | undefined,
  ): Promise<readonly Appended<T>[]> {
    const after = requests.map(({ unless }) => unless?.after ?? 0)
    for (;;) {
      const call = appendCall(this.#prefix, requests, bodies, after, key)
      // oxlint-disable-next-line no-await-in-loop -- again only when a condition has been looked at in between
      const line = await this.#appends.send(call)
      const rest = line.slice(2)
      if (line.startsWith('d')) return this.#repeated<T>(rest, requests, key)
      if (line.startsWith('l')) throw this.#lost(JSON.parse(rest) as string)
      const numbers = rest.split(' ').map(Number) as [number, number, number]
      if (line.startsWith('x')) throw beyond(numbers[0], numbers[1])
      if (line.startsWith('o')) {
        const appended = appendedOf<T>(requests, numbers)
        this.#tell(appended.at(-1)!.position)
        return appended
      }
      const part = numbers[0] - 1
      const request = requests[part]!
      // oxlint-disable-next-line no-await-in-loop
      if (line.startsWith('r')) throw await this.#refusal(request, numbers[1], numbers[2])
      // oxlint-disable-next-line no-await-in-loop
      after[part] = await this.#checkCondition(request.unless!, after[part]!)
    }
  }

  /** Looks through the log outside of the script, so that it need not look far. @returns up to where the condition holds */
  async #checkCondition({ query, after }: Condition, from: number): Promise<number> {
    const missed: Recorded[] = []
    let last: number | undefined
    for (let at = from; ;) {
      // oxlint-disable-next-line no-await-in-loop -- each page starts where the last one ended
      const { events, next, head } = await this.#page(at, BUDGET, query)
      missed.push(...events.slice(0, MOST_MISSED - missed.length))
      last = events.at(-1)?.position ?? last
      at = next
      if (next < head) continue
      if (last === undefined) return next
      throw new VersionConflictError(undefined, after, last, missed, query)
    }
  }

  /** Why an append was refused. */
  async #refusal({ stream, expected }: AppendRequest, actual: number, state: number): Promise<Error> {
    if (STATES[state] === 'tombstoned') return new TombstonedError(stream)
    if (isAsExpected(actual, expected)) return new StreamClosedError(stream, 'is archived')
    const after = missedAfter(expected) ?? actual
    const missed =
      after < actual ? (await this.#slice(stream, { from: after + 1, to: actual, limit: MOST_MISSED })).events : []
    return new VersionConflictError(stream, expected, actual, missed)
  }

  async recall<T extends E = E>(
    idempotencyKey: string,
    { tx }: { readonly tx?: unknown } = {},
  ): Promise<readonly Appended<T>[] | undefined> {
    this.#checkUsable(tx)
    checkString('idempotencyKey', idempotencyKey)
    const first = await sendRedis(this.#client, 'get', [`${this.#prefix}k${nameOf(idempotencyKey)}`])
    return typeof first === 'string' ? this.#repeated<T>(first) : undefined
  }

  async #repeated<T extends E>(
    first: string,
    requests?: readonly AppendRequest[],
    key?: string,
  ): Promise<readonly Appended<T>[]> {
    const results = firstResults(first)
    if (requests && !isRepeat(results, requests))
      return invalid('idempotencyKey', 'one that was not used for other streams', key)
    return Promise.all(
      results.map(async ({ from, ...result }) => {
        const { events } = await this.#slice<T>(result.stream, { from, to: result.version })
        return { ...result, duplicate: true, events }
      }),
    )
  }

  async *read<T extends E = E>(
    stream: string,
    { tx, signal, ...options }: ReadOptions = {},
  ): AsyncGenerator<Recorded<T>, void, undefined> {
    const { limit, ...bounds } = readBounds(options)
    this.#checkUsable(tx)
    checkString('stream', stream)
    let { from, to } = bounds
    let left = limit
    do {
      signal?.throwIfAborted()
      const size = Math.min(left, CHUNK)
      const part = this.#slice<T>(stream, { ...bounds, from, to, limit: size })
      // oxlint-disable-next-line no-await-in-loop -- each part starts where the last one ended
      const { events, state } = await orAbort(part, signal)
      if (state === 'tombstoned') throw new TombstonedError(stream)
      for (const event of events) {
        signal?.throwIfAborted()
        yield event
      }
      const last = events.at(-1)
      if (!last || events.length < size) return
      left -= events.length
      if (bounds.backward) to = last.version - 1
      else from = last.version + 1
    } while (left > 0)
  }

  async #slice<T extends Event>(
    stream: string,
    bounds: { from: number; to: number; until?: number; backward?: boolean; limit?: number },
  ): Promise<{ state: StreamInfo['state']; events: Recorded<T>[] }> {
    const { from, to, until = Infinity, backward = false, limit = Number.MAX_SAFE_INTEGER } = bounds
    const name = nameOf(stream)
    const args = [this.#prefix, name, from, to, limit, backward ? 1 : 0, until === Infinity ? '' : until]
    const reply = await readScript.run(this.#client, [`${this.#prefix}h`, `${this.#prefix}s${name}`], args)
    const [lost, state, elements] = reply as [string, number | string, string[]]
    if (lost !== '') throw this.#lost(lost)
    const events = elements.map((element) => eventOf<T>(stream, element))
    return { state: STATES[Number(state)] ?? 'live', events: backward ? events.toReversed() : events }
  }

  async readPage<T extends E = E>(options: PageOptions = {}): Promise<Page<T>> {
    const { after, limit, query } = pageBounds(options)
    this.#checkUsable()
    return this.#page(after, limit, query)
  }

  async #page<T extends Event>(after: number, limit: number, query: Query | undefined): Promise<Page<T>> {
    const keys = [`${this.#prefix}h`, `${this.#prefix}log`]
    const items = queryArgs(this.#prefix, query)
    const events: Recorded<T>[] = []
    for (let at = after; ;) {
      const most = Math.min(limit - events.length, BUDGET)
      const budget = query ? BUDGET : most
      // oxlint-disable-next-line no-await-in-loop -- each part starts where the last one ended
      const reply = await pageScript.run(this.#client, keys, [this.#prefix, at, most, budget, ...items])
      const [lost, end, upTo, ...found] = reply as string[]
      if (lost !== '') throw this.#lost(lost!)
      const head = Number(end)
      if (at > head) throw beyond(at, head)
      for (let i = 0; i < found.length; i += 2) events.push(eventOf<T>(textOf(found[i]!), found[i + 1]!))
      if (events.length === limit) return { events, next: events.at(-1)!.position, head }
      at = Number(upTo)
      if (at >= head) return { events, next: head, head }
    }
  }

  readAll<T extends E = E>(options: ReadAllOptions = {}): AsyncGenerator<Recorded<T>, void, undefined> {
    return readAllPages<T>((page) => this.readPage(page), options)
  }

  /** Tells of appends through this object, and with a `subscriber` of those of others; else the latter are found by polling. */
  wake(fn: () => void): Unsubscribe {
    this.#checkUsable()
    if (this.#subscriber && !this.#listening) {
      const listening = listen(this.#subscriber, `${this.#prefix}appended`, (head) => this.#tell(Number(head)))
      this.#listening = listening
      listening.begun.catch(() => {
        if (this.#listening === listening) this.#listening = undefined // only a hint: the next who asks tries again
      })
    }
    return this.#events.on('appended', fn)
  }

  /** Once for each end of the log: it comes with the answer and by message. */
  #tell(head: number): void {
    if (this.#told === head) return
    this.#told = head
    this.#events.emit('appended', undefined)
  }

  async info(stream: string, { tx }: { readonly tx?: unknown } = {}): Promise<StreamInfo | undefined> {
    this.#checkUsable(tx)
    checkString('stream', stream)
    const text = await sendRedis(this.#client, 'hget', [`${this.#prefix}h`, nameOf(stream)])
    if (typeof text !== 'string') return undefined
    const [version = 0, first = 0, , state = 0] = text.split(' ').map(Number)
    return { version, first, state: STATES[state] ?? 'live' }
  }

  async truncate(stream: string, before: number): Promise<void> {
    await this.#remove(stream, checkInteger('before', before, 0), '')
  }

  async archive(stream: string): Promise<void> {
    await this.#remove(stream, 0, 1)
  }

  async tombstone(stream: string): Promise<void> {
    await this.#remove(stream, Number.MAX_SAFE_INTEGER, 2)
  }

  /** Hides what is removed in one step; then removes it, bit by bit. If that is cut short, the next call for this stream goes on. */
  async #remove(stream: string, before: number, state: 1 | 2 | ''): Promise<void> {
    this.#checkUsable()
    const name = nameOf(checkString('stream', stream))
    const [h, log, list] = ['h', 'log', `s${name}`].map((key) => this.#prefix + key) as [string, string, string]
    const was = Number(await removeScript.run(this.#client, [h], [name, before, state]))
    if (was === -1) throw new NotFoundError(`stream ${JSON.stringify(stream)} does not exist`)
    if (was === 2 && state !== 2) throw new TombstonedError(stream)
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop -- bit by bit, so that the server's other clients have their turn
      const reply = await hiddenScript.run(this.#client, [h, list], [name, PURGED])
      const [base, elements] = reply as [string, string[]]
      if (elements.length === 0) return
      let tagged = 0
      const events = elements
        .map((element) => eventOf(stream, element))
        .filter(({ tags = [] }, i) => (tagged += tags.length) <= PURGED_TAGS || i === 0)
      const tags = events.flatMap((e) => (e.tags ?? []).map((tag) => [tagKey(this.#prefix, tag), e.position] as const))
      const keys = [h, log, list, ...tags.map(([key]) => key)]
      const positions = [...events.map((event) => event.position), ...tags.map(([, position]) => position)]
      // oxlint-disable-next-line no-await-in-loop
      await purgeScript.run(this.#client, keys, [this.#prefix, name, base, events.length, ...positions])
    }
  }

  /** Ends every use of the store, and its subscription. The clients stay open. */
  async close(): Promise<void> {
    this.#closed = true
    const listening = this.#listening
    this.#listening = undefined
    void listening?.end().catch(() => {}) // not waited for: there may be no connection
  }

  /** {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #lost(what: string): CorruptDataError {
    const stream = what.startsWith(':') || what.startsWith('!')
    return new CorruptDataError(
      `Redis has lost ${stream ? `events of stream ${JSON.stringify(textOf(what))}` : `the key ${this.#prefix}${what}`}`,
    )
  }

  #checkUsable(tx?: unknown): void {
    if (this.#closed) throw new ClosedError('the event store is closed')
    if (tx !== undefined) invalid('tx', 'none: this store has no transactions', tx)
  }
}

const beyond = (after: number, head: number): CorruptDataError =>
  new CorruptDataError(`position ${after} is beyond the end of the log, ${head}`)
