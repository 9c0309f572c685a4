import { checkInteger, checkNumber, checkObject, checkOneOf, checkString, invalid } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import type { Codec } from '../kernel/codec.js'
import type { Random } from '../kernel/random.js'
import type { CacheBackplane } from './backplane.js'
import type { CacheStore } from './store.js'

/** How one entry is kept and renewed. Each option falls back to the manager's `defaults`, then to its own default. */
export interface EntryOptions {
  /** Milliseconds the value is fresh, in both levels. ≥ 0, finite. @defaultValue 300_000 */
  readonly ttlMs?: number | undefined
  /** Milliseconds the value is fresh in the first level, if shorter. ≥ 0. @defaultValue `ttlMs` */
  readonly l1TtlMs?: number | undefined
  /** Shortens each ttl by a random part of up to this fraction, so that entries do not expire together. [0, 1]. @defaultValue 0 */
  readonly jitterRatio?: number | undefined
  /**
   * Milliseconds after the ttl during which the old value may still be served when a load fails or is slow. ≥ 0, finite.
   * @defaultValue 0
   */
  readonly graceMs?: number | undefined
  /** Longest wait in milliseconds for a load when an old value is at hand; the load goes on. ≥ 0. @defaultValue no limit */
  readonly softTimeoutMs?: number | undefined
  /**
   * Longest wait in milliseconds of each call for a load; then the old value, or a `TimeoutError`. The load goes on and later
   * calls join it. ≥ 0. @defaultValue no limit
   */
  readonly hardTimeoutMs?: number | undefined
  /**
   * Loads anew in the background while the value is still fresh: once this fraction of the ttl has passed (0..1), or, with
   * `'xfetch'`, at random with a chance that rises with the time a load takes. Once per entry and process.
   * Source of the latter: Vattani, Chierichetti, Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015.
   * @defaultValue off
   */
  readonly refreshAhead?: number | 'xfetch' | undefined
  /** Milliseconds during which a failed load is not tried again in this process: calls get the old value or the same error. ≥ 0. @defaultValue 0 */
  readonly errorTtlMs?: number | undefined
  /** Names by which `invalidateTags` finds the entry. Any strings. @defaultValue none */
  readonly tags?: readonly string[] | undefined
}

/** An old value, past its ttl and within its grace. */
export interface StaleValue<V> {
  /** As it was stored. */
  readonly value: V
  /** Milliseconds since it was loaded or set. */
  readonly ageMs: number
  /** What the loader passed to `set`. */
  readonly etag?: string | undefined
}

/** What a loader is given. */
export interface LoadContext<V> {
  /** The key, as the caller gave it. */
  readonly key: string
  /** Aborts when nobody waits any more, when the load takes longer than `leaseMs` and another has begun, or at `close`. */
  readonly signal: AbortSignal
  /** The value to fall back on, if there is one. */
  readonly stale?: StaleValue<V> | undefined
  /** Settles what is known only now. Tags are added to those of the call; everything else replaces. */
  set(options: Pick<EntryOptions, 'ttlMs' | 'tags' | 'graceMs'> & { readonly etag?: string | undefined }): void
  /** For `return ctx.notModified()`: keeps the old value for another ttl. @throws InvalidOptionError without `stale`. */
  notModified(): V
  /** For `return ctx.uncached(value)`: callers get it, no level stores it. */
  uncached<T extends V>(value: T): T
}

/**
 * Brings the value of a key from where it comes from. What it throws comes out of `getOrSet` as the same object. It may use the
 * cache, but one that awaits its own key waits for itself.
 */
export type Loader<V> = (context: LoadContext<V>) => V | Promise<V>

/** The first level: this process's memory. */
export interface L1Options {
  /** The least recently used go first. Integer in [1, 2 ** 24]. @defaultValue 10_000 */
  readonly maxEntries?: number | undefined
  /** Bound on the size of all values, estimated as UTF-16 text and 8 bytes a number. Integer ≥ 1. @defaultValue none */
  readonly maxBytes?: number | undefined
  /**
   * How callers are kept from changing each other's values: `'share'` not at all; `'freeze'` makes plain objects and arrays
   * read-only, at any depth; `'clone'` gives each caller a structured clone (microseconds instead of nanoseconds), and refuses what can't be cloned.
   * @defaultValue 'freeze' when NODE_ENV is 'development', else 'share'
   */
  readonly isolate?: 'share' | 'freeze' | 'clone' | undefined
}

/** How a `CacheManager` is built. */
export interface CacheManagerOptions {
  /** `false`: no first level, every read asks the second. @defaultValue {} */
  readonly l1?: L1Options | false | undefined
  /** The second level, shared with other managers. It is never closed by the manager. @defaultValue none */
  readonly l2?: CacheStore | undefined
  /**
   * Tells this manager at once what others change in the second level. It is never closed by the manager.
   * @defaultValue none: others' changes are found out within `maxStalenessMs`, and then the first level is emptied
   */
  readonly backplane?: CacheBackplane | undefined
  /** Encodes values for the second level. @defaultValue `jsonCodec` */
  readonly codec?: Codec | undefined
  /** Options of entries that a call leaves out. */
  readonly defaults?: EntryOptions | undefined
  /** Milliseconds after which a change made by another manager is seen here at the latest. > 0. @defaultValue 2_000 */
  readonly maxStalenessMs?: number | undefined
  /**
   * What the first level does while the second can't be asked whether it is still current: `'load'` counts as a miss,
   * `'serve'` serves values that may be older than `maxStalenessMs`. @defaultValue 'load'
   */
  readonly partition?: 'load' | 'serve' | undefined
  /**
   * Longest time in milliseconds that one call waits for a second level that does not answer; after that, no call waits until
   * it is back. One that answers slowly may be asked for a tenth more at each further step of a call. Waiting for a load in
   * another process is not counted. > 0. @defaultValue 50
   */
  readonly l2TimeoutMs?: number | undefined
  /** Milliseconds for which a load has its key to itself: longer than loads take. > 0, finite. @defaultValue 30_000 */
  readonly leaseMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** For jitter and `'xfetch'`. @defaultValue the process generator */
  readonly random?: Random | undefined
}

/** {@link EntryOptions} with every default filled in. */
export interface Plan {
  readonly ttlMs: number
  readonly l1TtlMs: number
  readonly jitterRatio: number
  readonly graceMs: number
  readonly softTimeoutMs: number
  readonly hardTimeoutMs: number
  readonly refreshAhead: number | 'xfetch' | undefined
  readonly errorTtlMs: number
  readonly tags: readonly string[]
}

/** @throws InvalidOptionError when an option is out of its range. */
export function planOf(options: EntryOptions | undefined, defaults: EntryOptions | undefined): Plan {
  const pick = <K extends keyof EntryOptions>(name: K): EntryOptions[K] => options?.[name] ?? defaults?.[name]
  const duration = (name: keyof EntryOptions & `${string}Ms`, byDefault: number, max = Infinity): number =>
    checkNumber(name, pick(name) ?? byDefault, 0, max)
  return {
    ttlMs: duration('ttlMs', 300_000, Number.MAX_SAFE_INTEGER),
    l1TtlMs: duration('l1TtlMs', Infinity),
    jitterRatio: checkNumber('jitterRatio', pick('jitterRatio') ?? 0, 0, 1),
    graceMs: duration('graceMs', 0, Number.MAX_SAFE_INTEGER),
    softTimeoutMs: duration('softTimeoutMs', Infinity),
    hardTimeoutMs: duration('hardTimeoutMs', Infinity),
    refreshAhead: checkRefresh(pick('refreshAhead')),
    errorTtlMs: duration('errorTtlMs', 0),
    tags: checkTags(pick('tags') ?? []),
  }
}

/** `inner` where it says something, else `outer`. */
export function withDefaults(outer: EntryOptions | undefined, inner: EntryOptions | undefined): EntryOptions {
  const said = Object.entries(inner ?? {}).filter(([, value]) => value !== undefined)
  return { ...outer, ...(Object.fromEntries(said) as EntryOptions) }
}

/** @throws InvalidOptionError unless `tags` is an array of strings. */
export function checkTags(tags: readonly string[]): readonly string[] {
  if (!Array.isArray(tags)) return invalid('tags', 'an array of strings', tags)
  for (const tag of tags as readonly unknown[]) checkString('tags', tag, 0)
  return tags
}

const checkRefresh = (value: EntryOptions['refreshAhead']): EntryOptions['refreshAhead'] =>
  value === undefined || value === 'xfetch' ? value : checkNumber('refreshAhead', value, 0, 1)

/** A `Map` holds no more. */
export const MAX_ENTRIES = 2 ** 24

/** The checked form of {@link L1Options}. */
export function l1Of(options: L1Options): { maxEntries: number; maxBytes: number | undefined; isolate: Isolation } {
  const { maxEntries = 10_000, maxBytes, isolate = defaultIsolation() } = checkObject('l1', options)
  return {
    maxEntries: checkInteger('l1.maxEntries', maxEntries, 1, MAX_ENTRIES),
    maxBytes: maxBytes === undefined ? undefined : checkInteger('l1.maxBytes', maxBytes, 1),
    isolate: checkOneOf('l1.isolate', isolate, ['share', 'freeze', 'clone']),
  }
}

/** See {@link L1Options.isolate}. */
export type Isolation = 'share' | 'freeze' | 'clone'

const defaultIsolation = (): Isolation => (process.env['NODE_ENV'] === 'development' ? 'freeze' : 'share')
