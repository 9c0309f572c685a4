import { checkMethods, checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { StoreError } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { checkRedisClient, defineScript, sendRedis, type RedisArg, type RedisClient } from '../kernel/redis.js'
import { hashTagged, nameOf } from '../kernel/redis-names.js'
import { entryArgs, entryOf, type RedisEntry } from './redis-entry.js'
import { DEFAULT_PREFIX } from './redis-names.js'
import { cacheLua } from './redis.lua.js'
import type { CacheLease, CacheStore, Invalidation, StoredEntry } from './store.js'

export type { IoRedisSubscriber, NodeRedisSubscriber, RedisSubscriber } from '../kernel/redis-subscriber.js'
export { RedisCacheBackplane, type RedisCacheBackplaneOptions } from './redis-backplane.js'
export type { RedisClient }

/** How a {@link RedisCacheStore} names its keys. */
export interface RedisCacheStoreOptions {
  /**
   * Stands before every key. On a Cluster all keys of a store are in one slot: that of the hash tag in here, or of the whole. To
   * spread a cache over several servers, use several stores. @defaultValue `'holdfast:{cache}:'`
   */
  readonly prefix?: string | undefined
  /** Times of entries are given by this clock; the server keeps them by its own. @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

const script = defineScript(cacheLua)

/** Keys in one command: longer ones would hold up the server's other clients. */
const MAX_KEYS = 2_000

/** How old the difference between the server's clock and ours may be. */
const OFFSET_MS = 60_000

/** What one call asks of the script. */
interface Call {
  readonly what: 'lease' | 'fill' | 'write' | 'all' | 'keys' | 'tags' | 'state' | 'check'
  readonly names: readonly string[]
  readonly args: readonly RedisArg[]
  readonly resolve: (reply: unknown) => void
  readonly reject: (error: unknown) => void
}

/**
 * The second level in Redis ≥ 6.2, one server or Cluster. Reads are one MGET, and one script call more where entries have tags; all
 * other calls of one tick are one script call, hence one atomic step, by the server's clock. Changes are also published, for a
 * `RedisCacheBackplane` of the same prefix.
 *
 * Entries and leases go when their time is up, or when Redis needs room. State and tags have no time to live, so that policies
 * which evict only what has one leave them; if they are evicted all the same, everything counts as lost. Tags are forgotten when
 * all entries with tags, and leases, from before are past. What is no entry of ours counts as none. A fail-over may lose the last changes,
 * acknowledged ones too.
 */
export class RedisCacheStore implements CacheStore {
  readonly #client: RedisClient
  readonly #clock: Clock
  readonly #prefix: string
  readonly #common: readonly string[]
  readonly #id = randomId()
  #runs = 0
  #tokens = 0
  #queue: Call[] = []
  /** The server's epoch milliseconds less our monotonic ones, and when that was found. */
  #ahead = 0
  #aheadAt = -Infinity

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, { prefix = DEFAULT_PREFIX, clock = systemClock }: RedisCacheStoreOptions = {}) {
    this.#client = checkRedisClient(client)
    this.#prefix = hashTagged(checkString('prefix', prefix, 0))
    this.#clock = checkMethods('clock', clock, ['now', 'epochMs'])
    this.#common = ['s', 't0', 't1'].map((name) => this.#prefix + name)
  }

  async read(keys: readonly string[]): ReturnType<CacheStore['read']> {
    if (this.#clock.now() - this.#aheadAt > OFFSET_MS) await this.state([])
    const parts: Awaited<ReturnType<CacheStore['read']>>[] = []
    for (let from = 0; from === 0 || from < keys.length; from += MAX_KEYS)
      parts.push(await this.#read(keys.slice(from, from + MAX_KEYS)))
    return { entries: parts.flatMap(({ entries }) => entries), seq: Math.min(...parts.map(({ seq }) => seq)) }
  }

  async lease(key: string, ms: number, force = false): Promise<CacheLease> {
    const token = `${this.#id}:${this.#tokens++}`
    const reply = await this.#call('lease', this.#both(key), [token, Math.ceil(ms), force ? 1 : 0])
    const [seq, answer] = reply as [Int, unknown]
    const hit = entryOf(answer, this.#offset())
    if (hit) return { kind: 'hit', entry: hit.entry, seq: Number(seq) }
    return Number(answer) === 1 ? { kind: 'granted', token, seq: Number(seq) } : { kind: 'busy' }
  }

  async fill(key: string, token: string, entry: StoredEntry | undefined, ms: number): Promise<boolean> {
    const what = entry ? [entry.stamp, ...entryArgs(entry, ms, this.#clock.epochMs())] : []
    return Number(await this.#call('fill', this.#both(key), [token, ...what])) === 1
  }

  async write(items: Parameters<CacheStore['write']>[0], origin: string, withinMs: number = Infinity): Promise<number> {
    const epochMs = this.#clock.epochMs()
    const latest = this.#clock.now() + this.#ahead + withinMs
    // What the server's clock says may not be known yet: then there was no connection before that could have been lost.
    const until = this.#aheadAt === -Infinity || latest === Infinity ? 0 : Math.round(latest)
    const names = items.flatMap(({ key }) => this.#both(key))
    const args = items.flatMap(({ entry, ms }) => entryArgs(entry, ms, epochMs))
    const what: Invalidation = { kind: 'keys', keys: items.map(({ key }) => key) }
    const seq = Number(await this.#call('write', names, [message(what, origin), until, ...args]))
    if (seq < 0) throw new StoreError('Redis got the write too late, or for the second time: it was not made')
    return seq
  }

  async invalidate(what: Invalidation, origin: string): Promise<number> {
    const names = what.kind === 'keys' ? what.keys.flatMap((key) => this.#both(key)) : []
    const tags = what.kind === 'tags' ? what.tags.map(nameOf) : []
    const soft = what.kind !== 'all' && what.soft ? 1 : 0
    return Number(await this.#call(what.kind, names, [message(what, origin), soft, ...tags]))
  }

  async state(tags: readonly string[]): ReturnType<CacheStore['state']> {
    const reply = (await this.#call('state', [], tags.map(nameOf))) as [string, Int, Int[]]
    const [epoch, seq, anys] = reply
    return { epoch, seq: Number(seq), tags: tags.map((_, i) => Number(anys[i] ?? 0)) }
  }

  /** Does nothing: the client is the caller's. */
  async [Symbol.asyncDispose](): Promise<void> {}

  async #read(keys: readonly string[]): ReturnType<CacheStore['read']> {
    this.#flush() // what was asked before is to happen before
    const names = [this.#common[0]!, ...keys.map((key) => this.#entry(key))]
    const [state, ...values] = (await sendRedis(this.#client, 'mget', names)) as unknown[]
    const [, number, clear] = STATE.exec(String(state)) ?? []
    if (number === undefined) return { entries: keys.map(() => undefined), seq: (await this.state([])).seq }
    const offsetMs = this.#offset()
    const found = values.map((value) => {
      const entry = entryOf(value, offsetMs)
      return entry && entry.entry.stamp >= Number(clear) ? entry : undefined
    })
    const tags = new Set(found.flatMap((entry) => entry?.tagNames ?? []))
    const entries = tags.size > 0 ? await this.#checkTags(found, [...tags]) : found.map((entry) => entry?.entry)
    return { entries, seq: Number(number) }
  }

  /** The entries that no invalidation of one of their tags has taken; what happened since they were read counts too. */
  async #checkTags(
    found: readonly (RedisEntry | undefined)[],
    names: readonly string[],
  ): Promise<(StoredEntry | undefined)[]> {
    const [clear, anys, hards] = (await this.#call('check', [], names)) as [Int, Int[], Int[]]
    const at = new Map(names.map((name, i) => [name, i]))
    const last = (numbers: readonly Int[], tagNames: readonly string[]): number =>
      Math.max(0, ...tagNames.map((name) => Number(numbers[at.get(name)!] ?? 0)))
    return found.map((each) => {
      if (!each || each.entry.stamp < Number(clear) || each.entry.stamp < last(hards, each.tagNames)) return undefined
      return each.entry.stamp < last(anys, each.tagNames) ? { ...each.entry, freshUntil: 0 } : each.entry
    })
  }

  /** What to add to the server's time for the caller's. */
  #offset(): number {
    return this.#clock.epochMs() - this.#clock.now() - this.#ahead
  }

  #entry(key: string): string {
    return `${this.#prefix}e${nameOf(key)}`
  }

  #both(key: string): [entry: string, lease: string] {
    return [this.#entry(key), `${this.#prefix}l${nameOf(key)}`]
  }

  #call(what: Call['what'], names: readonly string[], args: readonly RedisArg[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#queue.push({ what, names, args, resolve, reject }) === 1) process.nextTick(() => this.#flush())
    })
  }

  /** Sends what waits. */
  #flush(): void {
    let calls: Call[] = []
    let names = 0
    for (const call of this.#queue) {
      if (names + call.names.length > MAX_KEYS && calls.length > 0) {
        void this.#run(calls)
        calls = []
        names = 0
      }
      calls.push(call)
      names += call.names.length
    }
    this.#queue = []
    if (calls.length > 0) void this.#run(calls)
  }

  async #run(calls: readonly Call[]): Promise<void> {
    const id = `${this.#id}:${this.#runs++}`
    const names = [...this.#common, `${this.#prefix}m:${id}`, ...calls.flatMap((call) => call.names)]
    const args: RedisArg[] = [id, `${this.#prefix}changes`]
    for (const call of calls) args.push(call.what, call.names.length, call.args.length, ...call.args)
    try {
      const [now, ...replies] = (await script.run(this.#client, names, args)) as [Int, ...unknown[]]
      this.#aheadAt = this.#clock.now()
      this.#ahead = Number(now) - this.#aheadAt
      for (const [i, { resolve }] of calls.entries()) resolve(replies[i])
    } catch (error) {
      for (const { reject } of calls) reject(error)
    }
  }
}

/** A client may have been told to give numbers as text. */
type Int = number | string

/** What a read needs of the state: the number of the last change, and the number below which every stamp is void. */
const STATE = /^(\d+) (\d+) /

const message = (what: Invalidation, origin: string): string => JSON.stringify({ origin, what })
