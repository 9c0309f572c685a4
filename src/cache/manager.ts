import { checkFunction, checkObject, checkString } from '../kernel/check.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import { Bulk, type ManyLoader } from './bulk.js'
import type { CacheEvents, CacheStats } from './events.js'
import { ABSENT } from './fetcher.js'
import type { Request } from './flight.js'
import { Flights } from './flights.js'
import type { Ack, WriteChange } from './journal.js'
import { Space, keyOfArguments } from './keys.js'
import { Levels } from './levels.js'
import { planOf, withDefaults, type CacheManagerOptions, type EntryOptions, type Loader } from './options.js'
import type { Invalidation } from './store.js'

/** What a manager and its namespaces have in common, and where one of them stands. */
interface View {
  readonly levels: Levels
  readonly flights: Flights
  readonly space: Space
  readonly defaults: EntryOptions | undefined
}

/** A function whose results are cached. */
export interface Wrapped<A extends readonly unknown[], R> {
  /** The cached result for these arguments, or that of one call of the function for all who ask meanwhile. */
  (...args: A): Promise<R>
  /** Takes away the result for these arguments. */
  invalidate(...args: A): Promise<Ack>
}

/**
 * A cache in front of something slow: a bounded level in this process, and optionally a second one shared by many processes.
 * `S` maps keys to the types of their values.
 *
 * A value whose load began before its key was set, or its key, tag or namespace was invalidated, is never stored, and never
 * returned to a call begun after that. One load per key is under way at a time. What another manager on the same second level
 * changed is seen here within `maxStalenessMs`. No call waits for the second level longer than `l2TimeoutMs`.
 *
 * `null`, `undefined` and falsy values are values. After {@link close}, calls reject with `ClosedError`.
 */
export class CacheManager<S extends object = Record<string, unknown>> implements AsyncDisposable {
  readonly #view: View
  readonly #space: Space
  readonly #levels: Levels

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(options?: CacheManagerOptions)
  /** @internal */
  constructor(view: View)
  constructor(options: CacheManagerOptions | View = {}) {
    checkObject('options', options)
    this.#view = 'levels' in options ? options : open(options)
    this.#space = this.#view.space
    this.#levels = this.#view.levels
  }

  /** The value, if the first level has it, fresh and known to be current. Never asks anybody. A cached `undefined` looks like none. */
  peek<K extends keyof S & string>(key: K): S[K] | undefined {
    const { local, counters } = this.#levels
    const entry = local.hit(this.#space.nameOf(key))
    if (entry === undefined) return undefined
    counters.l1Hits++
    return local.give(entry.value) as S[K]
  }

  /** The value, if a level has it fresh; a cached `undefined` looks like none, see {@link has}. */
  async get<K extends keyof S & string>(key: K): Promise<S[K] | undefined> {
    const { local, counters } = this.#levels
    const entry = local.hit(this.#space.nameOf(key))
    if (entry === undefined) return (await this.#look([key]))[0]?.value as S[K] | undefined
    counters.l1Hits++
    return local.give(entry.value) as S[K]
  }

  /** Whether a level has a fresh value, of any kind. */
  async has(key: keyof S & string): Promise<boolean> {
    return (await this.#look([key]))[0] !== undefined
  }

  /** The fresh values that a level has, in the order of `keys`; the others are left out. One read of the second level for all. */
  async getMany<K extends keyof S & string>(keys: readonly K[]): Promise<Map<K, S[K]>> {
    const unique = [...new Set(keys)]
    const found = await this.#look(unique)
    const values = new Map<K, S[K]>()
    for (const [i, key] of unique.entries()) if (found[i]) values.set(key, found[i].value as S[K])
    return values
  }

  /**
   * The value if a level has it fresh, else what `load` brings, which is stored. All who ask for the key meanwhile, in this
   * process or another on the same second level, wait for that one load.
   *
   * `fresh`: a stored value will not do; a load that is under way will. `signal`: ends this call with its reason; the load goes
   * on for others, and is aborted when nobody waits for it.
   * @throws TimeoutError after `hardTimeoutMs` without an old value to serve; the load goes on.
   * @throws InvalidPayloadError when the codec can't keep the loaded value for the second level, or `isolate: 'clone'` can't clone
   * it: it is stored nowhere.
   * @throws what `load` threw, without an old value to serve.
   */
  async getOrSet<K extends keyof S & string>(
    key: K,
    load: Loader<S[K]>,
    options?: EntryOptions & { readonly fresh?: boolean | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<S[K]> {
    const { local, counters } = this.#levels
    const entry = local.hit(this.#space.nameOf(key))
    const { flights } = this.#view
    if (entry === undefined || options?.fresh === true)
      return (await flights.obtain(this.#request(key, load as Loader<unknown>, options))) as S[K]
    if (flights.due(entry)) flights.refresh(entry, this.#request(key, load as Loader<unknown>, options))
    counters.l1Hits++
    return local.give(entry.value) as S[K]
  }

  /**
   * As {@link getOrSet} for many keys: those that no level has and nobody else loads are passed to `load` together. Keys that it
   * leaves out are not stored and not in the result, which is in the order of `keys`.
   * @throws what `load` threw, if a key without an old value was among those it was to load.
   */
  async getOrSetMany<K extends keyof S & string>(
    keys: readonly K[],
    load: ManyLoader<K, S[K]>,
    options?: EntryOptions,
  ): Promise<Map<K, S[K]>> {
    checkFunction('load', load)
    const unique = [...new Set(keys)]
    const bulk = new Bulk<K>(unique, load)
    const requests = unique.map((key) => this.#request(key, (context) => bulk.want(key, context), options))
    const pairs = await Promise.all(
      unique.map(async (key, i) => {
        const request = requests[i] as Request
        const decided = (): void => bulk.decided(key)
        const value = await this.#view.flights.obtain({ ...request, many: true, parked: decided }).finally(decided)
        return [key, value] as const
      }),
    )
    return new Map(pairs.filter(([, value]) => value !== ABSENT) as [K, S[K]][])
  }

  /**
   * Stores a value in both levels. A load under way for the key will not replace it.
   * @throws InvalidPayloadError when the codec can't keep it for the second level, or `isolate: 'clone'` can't clone it: nothing
   * has changed.
   */
  async set<K extends keyof S & string>(key: K, value: S[K], options?: EntryOptions): Promise<Ack> {
    const { flights } = this.#view
    const levels = this.#levels
    flights.checkOpen()
    const plan = planOf(options, this.#view.defaults)
    const name = this.#space.nameOf(key)
    const tags = this.#tags(plan.tags)
    const ttlMs = Math.ceil(plan.ttlMs * (1 - plan.jitterRatio * levels.random()))
    const began = levels.clock.now()
    const gone: Invalidation = { kind: 'keys', keys: [name] }
    const storedAt = levels.clock.epochMs()
    const change: Omit<WriteChange, 'basis'> = {
      kind: 'write',
      key: name,
      entry: {
        payload: levels.remote ? levels.codec.encode(value) : '',
        stamp: 0,
        freshUntil: storedAt + ttlMs,
        storedAt,
        tags,
      },
      keepUntil: began + ttlMs + plan.graceMs,
    }
    const kept = levels.local.keep(value)
    levels.apply(gone)
    const watch = levels.fences.watch(name)
    try {
      const ack = await levels.write(change, (write) => (watch.outdated(tags) ? gone : write))
      const newest = !watch.outdated(tags)
      if (levels.remote) levels.apply(gone) // once more: what was read since then may be from before the value was there
      const ageMs = levels.clock.now() - began
      if (newest) levels.put(name, { value: kept, freshMs: ttlMs - ageMs, ageMs, tags }, plan, levels.fences.turn)
      return ack
    } finally {
      watch.end()
    }
  }

  /** Takes entries away, for grace too. */
  async delete(...keys: (keyof S & string)[]): Promise<Ack> {
    return this.#invalidate({ kind: 'keys', keys: keys.map((key) => this.#space.nameOf(key)) })
  }

  /** Makes entries count as expired: loaded anew when asked for, and kept for grace. Keys and tags are two steps. */
  async expire({ keys = [], tags = [] }: Expiry): Promise<Ack> {
    const acks = [
      await this.#invalidate({ kind: 'keys', keys: keys.map((key) => this.#space.nameOf(key)), soft: true }),
      await this.#invalidate({ kind: 'tags', tags: tags.map((tag) => this.#space.nameOf(tag)), soft: true }),
    ]
    return acks.includes('queued') ? 'queued' : 'applied'
  }

  /** Takes all entries of this namespace away that carry one of `tags`, for grace too. Costs the same for any number of entries. */
  async invalidateTags(...tags: string[]): Promise<Ack> {
    return this.#invalidate({ kind: 'tags', tags: tags.map((tag) => this.#space.nameOf(tag)) })
  }

  /** Takes all entries of this namespace away, and of those within it; without a namespace, everything the second level holds. */
  async clear(): Promise<Ack> {
    const own = this.#space.tags.at(-1)
    return this.#invalidate(own === undefined ? { kind: 'all' } : { kind: 'tags', tags: [own] })
  }

  /**
   * A part of this cache with keys and tags of its own. It shares the levels, their bounds and the counters. Any string is a
   * name; the same name is the same part. Closing it does nothing.
   * @param defaults come before those of this manager
   */
  namespace<T extends object>(name: string, defaults?: EntryOptions): CacheManager<T> {
    checkString('name', name, 0)
    return this.#inner<T>(this.#space.inner('n', name), defaults)
  }

  /**
   * `fn` with its results cached by its arguments. Arguments are told apart by type and content at any depth: `1` from `'1'`,
   * `undefined` from `null`, Maps and Sets by what they hold; the order of properties does not matter. `this` is passed on.
   * @param name of the results in the cache: the same name is the same results
   * @throws InvalidPayloadError on a call with functions, symbols, cycles or instances of classes, unless `key` makes the key.
   */
  wrap<A extends readonly unknown[], R>(
    name: string,
    fn: (...args: A) => Promise<R>,
    options?: EntryOptions & { readonly key?: ((...args: A) => string) | undefined },
  ): Wrapped<A, R> {
    checkString('name', name)
    checkFunction('fn', fn)
    const { key: keyOf = (...args: A): string => keyOfArguments(args), ...entry } = options ?? {}
    checkFunction('key', keyOf)
    const results = this.#inner<Record<string, R>>(this.#space.inner('w', name), entry)
    const call = async function (this: unknown, ...args: A): Promise<R> {
      return results.getOrSet(keyOf(...args), () => fn.apply(this, args as never))
    }
    return Object.assign(call, { invalidate: async (...args: A): Promise<Ack> => results.delete(keyOf(...args)) })
  }

  /** The counters since the manager was made, and where it stands. */
  stats(): CacheStats {
    const { counters, local, coherent, remote, queued } = this.#levels
    return { ...counters, l1Entries: local.size, coherent, l2Up: remote?.available ?? false, queued }
  }

  /** Calls `listener` at each event `name`, of all namespaces, until the returned function is called. */
  on<K extends keyof CacheEvents>(name: K, listener: (event: CacheEvents[K]) => unknown): Unsubscribe {
    return this.#levels.emitter.on(name, listener)
  }

  /**
   * Aborts the loads under way, tries within `l2TimeoutMs` to send what is queued, empties the first level and lets go of all
   * timers. The second level stays open: it may have other users.
   */
  async close(): Promise<void> {
    if (this.#space !== Space.root) return
    this.#view.flights.close()
    await this.#levels.close()
  }

  /** As {@link close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What a level has fresh, in the order of `keys`. */
  async #look(keys: readonly string[]): Promise<({ readonly value: unknown } | undefined)[]> {
    const levels = this.#levels
    const { counters, local, fences } = levels
    this.#view.flights.checkOpen()
    const names = keys.map((key) => this.#space.nameOf(key))
    const budget = levels.budget()
    if (!levels.coherent) await levels.confirm(budget)
    const here = names.map((name) => levels.stored(name))
    const watches = names.filter((_, i) => !here[i]).map((name) => fences.watch(name))
    try {
      const there = watches.length > 0 ? await levels.findMany(watches, budget) : []
      const plan = planOf(undefined, this.#view.defaults)
      let next = 0
      return here.map((entry) => {
        if (entry) {
          counters.l1Hits++
          return { value: local.give(entry.value) }
        }
        const [watch, found] = [watches[next]!, there[next++]]
        if (!found || found.freshMs <= 0) {
          counters.misses++
          return undefined
        }
        counters.l2Hits++
        levels.keepFound(watch, found, plan)
        return { value: local.give(found.value) }
      })
    } finally {
      for (const watch of watches) watch.end()
    }
  }

  #request(
    key: string,
    load: Loader<unknown>,
    options:
      | (EntryOptions & { readonly fresh?: boolean | undefined; readonly signal?: AbortSignal | undefined })
      | undefined,
  ): Request {
    const plan = planOf(options, this.#view.defaults)
    return {
      key: this.#space.nameOf(key),
      name: key,
      load: checkFunction('load', load),
      plan,
      tags: this.#tags(plan.tags),
      tagName: (tag) => this.#space.nameOf(tag),
      fresh: options?.fresh ?? false,
      signal: options?.signal,
    }
  }

  #tags(tags: readonly string[]): readonly string[] {
    return [...new Set([...this.#space.tags, ...tags.map((tag) => this.#space.nameOf(tag))])]
  }

  async #invalidate(what: Invalidation): Promise<Ack> {
    this.#view.flights.checkOpen()
    if ((what.kind === 'keys' && what.keys.length === 0) || (what.kind === 'tags' && what.tags.length === 0))
      return 'applied'
    return this.#levels.invalidate(what)
  }

  #inner<T extends object>(space: Space, defaults: EntryOptions | undefined): CacheManager<T> {
    const merged = withDefaults(this.#view.defaults, defaults)
    planOf(merged, undefined) // mistakes show at once
    return new CacheManager<T>({ ...this.#view, space, defaults: merged })
  }
}

/** What to expire: see `CacheManager.expire`. */
export interface Expiry {
  /** Keys, of this namespace. @defaultValue none */
  readonly keys?: readonly string[] | undefined
  /** All entries of this namespace that carry one of these. @defaultValue none */
  readonly tags?: readonly string[] | undefined
}

function open(options: CacheManagerOptions): View {
  const levels: Levels = new Levels(options, (what) => flights.changed(what))
  const flights = new Flights(levels)
  return { levels, flights, space: Space.root, defaults: options.defaults }
}
