import { checkObject, checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { randomId } from '../kernel/random.js'
import { defineScript, type RedisArg, type RedisClient, type RedisScript } from '../kernel/redis.js'
import { entryArgs, entryOf } from './redis-entry.js'
import { hashTagged, nameOf } from './redis-names.js'
import { fillLua, invalidateLua, leaseLua, readLua, stateLua, writeLua } from './redis.lua.js'
import type { CacheLease, CacheStore, Invalidation, StoredEntry } from './store.js'

export { RedisCacheBackplane, type RedisCacheBackplaneOptions, type RedisSubscriber } from './redis-backplane.js'
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

const scripts = {
  read: defineScript(readLua),
  lease: defineScript(leaseLua),
  fill: defineScript(fillLua),
  write: defineScript(writeLua),
  invalidate: defineScript(invalidateLua),
  state: defineScript(stateLua),
}

/** Entries read by one script call: longer ones would hold up the server's other clients. */
const MAX_READ = 1_000

/**
 * The second level in Redis ≥ 6.2, one server or Cluster. Each call is one script, hence one atomic step, by the server's clock.
 * Each change is also published, for a `RedisCacheBackplane` of the same prefix.
 *
 * Entries and leases go when their time is up, or when Redis needs room. State and tags have no time to live, so that policies
 * which evict only what has one leave them; if they are evicted all the same, everything counts as lost. Tags are forgotten when
 * the longest-lived entry with tags is past. A fail-over may lose the last changes, acknowledged ones too.
 */
export class RedisCacheStore implements CacheStore {
  readonly #client: RedisClient
  readonly #clock: Clock
  readonly #prefix: string
  readonly #common: readonly string[]
  readonly #id = randomId()
  #calls = 0

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, { prefix = 'holdfast:{cache}:', clock = systemClock }: RedisCacheStoreOptions = {}) {
    this.#client = checkObject('client', client)
    this.#prefix = hashTagged(checkString('prefix', prefix, 0))
    this.#clock = clock
    this.#common = ['s', 't0', 't1'].map((name) => this.#prefix + name)
  }

  async read(keys: readonly string[]): ReturnType<CacheStore['read']> {
    if (keys.length === 0) return { entries: [], seq: (await this.state([])).seq }
    const entries: (StoredEntry | undefined)[] = []
    let oldest = Infinity
    for (let from = 0; from < keys.length; from += MAX_READ) {
      const names = keys.slice(from, from + MAX_READ).map((key) => this.#entry(key))
      const [now, seq, found] = (await this.#run(scripts.read, names, [])) as [Int, Int, unknown[]]
      const offsetMs = this.#offset(now)
      for (const value of found) entries.push(entryOf(value, offsetMs))
      oldest = Math.min(oldest, Number(seq))
    }
    return { entries, seq: oldest }
  }

  async lease(key: string, ms: number, force = false): Promise<CacheLease> {
    const token = this.#unique()
    const reply = await this.#run(scripts.lease, this.#both(key), [token, Math.ceil(ms), force ? 1 : 0])
    const [now, seq, answer] = reply as [Int, Int, unknown]
    const entry = entryOf(answer, this.#offset(now))
    if (entry) return { kind: 'hit', entry, seq: Number(seq) }
    return Number(answer) === 1 ? { kind: 'granted', token, seq: Number(seq) } : { kind: 'busy' }
  }

  async fill(key: string, token: string, entry: StoredEntry | undefined, ms: number): Promise<boolean> {
    const what = entry ? [entry.stamp, ...entryArgs(entry, ms, this.#clock.epochMs())] : [0]
    return Number(await this.#run(scripts.fill, this.#both(key), [token, ...what])) === 1
  }

  async write(items: Parameters<CacheStore['write']>[0], origin: string): Promise<number> {
    const epochMs = this.#clock.epochMs()
    const names = items.flatMap(({ key }) => this.#both(key))
    const args = items.flatMap(({ entry, ms }) => entryArgs(entry, ms, epochMs))
    const what: Invalidation = { kind: 'keys', keys: items.map(({ key }) => key) }
    return Number(await this.#run(scripts.write, names, [message(what, origin), ...args]))
  }

  async invalidate(what: Invalidation, origin: string): Promise<number> {
    const names = what.kind === 'keys' ? what.keys.flatMap((key) => this.#both(key)) : []
    const tags = what.kind === 'tags' ? what.tags.map(nameOf) : []
    const soft = what.kind !== 'all' && what.soft ? 1 : 0
    return Number(await this.#run(scripts.invalidate, names, [message(what, origin), what.kind, soft, ...tags]))
  }

  async state(tags: readonly string[]): ReturnType<CacheStore['state']> {
    const reply = await this.#run(scripts.state, [], tags.map(nameOf))
    const [epoch, seq, numbers] = reply as [string, Int, Int[]]
    return { epoch, seq: Number(seq), tags: numbers.map(Number) }
  }

  /** Does nothing: the client is the caller's. */
  async [Symbol.asyncDispose](): Promise<void> {}

  #run(script: RedisScript, names: readonly string[], args: readonly RedisArg[]): Promise<unknown> {
    const all = [this.#unique(), `${this.#prefix}changes`, ...args]
    return script.run(this.#client, [...this.#common, ...names], all)
  }

  /** What to add to the server's time for the caller's. */
  #offset(now: Int): number {
    return this.#clock.epochMs() - Number(now)
  }

  #unique(): string {
    return `${this.#id}:${this.#calls++}`
  }

  #entry(key: string): string {
    return `${this.#prefix}e${nameOf(key)}`
  }

  #both(key: string): [entry: string, lease: string] {
    return [this.#entry(key), `${this.#prefix}l${nameOf(key)}`]
  }
}

/** A client may have been told to give numbers as text. */
type Int = number | string

const message = (what: Invalidation, origin: string): string => JSON.stringify({ origin, what })
