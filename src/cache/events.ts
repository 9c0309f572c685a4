/** What a `CacheManager` tells its listeners. Keys are the caller's own, without the namespace. */
export interface CacheEvents {
  /** A load has brought a value. `ms`: milliseconds it took. */
  load: { readonly key: string; readonly ms: number }
  /** A load has failed; callers may have got an old value instead. */
  loadError: { readonly key: string; readonly error: unknown }
  /** A loaded value was not stored, because something it depends on was changed while it was loaded. */
  fenced: { readonly key: string }
  /** An old value was served. `error`: why the load failed, if it did. */
  stale: { readonly key: string; readonly error?: unknown }
  /**
   * The first level was emptied: the second has changed in ways not known here (`gap`), or starts anew (`epoch`).
   */
  dropped: { readonly reason: 'gap' | 'epoch' }
  /** The second level failed or was too slow, and is out of use until `l2Up`; or what it holds can't be read (`operation` `'decode'`). */
  l2Error: { readonly operation: string; readonly error: unknown }
  /** The second level is in use again. */
  l2Up: { readonly queued: number }
  /** A queued change has reached the second level. `queued`: how many still wait. */
  replayed: { readonly queued: number }
}

/** Counters since the manager was made, and where it stands now. Shared by a manager and its namespaces. */
export interface CacheStats {
  /** Reads answered by the first level. */
  readonly l1Hits: number
  /** Reads answered by the second level. */
  readonly l2Hits: number
  /** Reads that neither level could answer; for `getOrSet`, those that waited for a load of another call too. */
  readonly misses: number
  /** Calls of loaders. */
  readonly loads: number
  /** Loads that failed. */
  readonly loadErrors: number
  /** Loaded values that were not stored because something changed meanwhile. */
  readonly fenced: number
  /** Old values served. */
  readonly staleServed: number
  /** Entries in the first level, expired ones included. */
  readonly l1Entries: number
  /** Whether the first level is known to be current; always true without a second. */
  readonly coherent: boolean
  /** Whether the second level is in use; false without one. */
  readonly l2Up: boolean
  /** Changes that wait for the second level. */
  readonly queued: number
}

/** The counting part of {@link CacheStats}. */
export type Counters = {
  -readonly [K in 'l1Hits' | 'l2Hits' | 'misses' | 'loads' | 'loadErrors' | 'fenced' | 'staleServed']: CacheStats[K]
}

/** All at zero. */
export const newCounters = (): Counters => ({
  l1Hits: 0,
  l2Hits: 0,
  misses: 0,
  loads: 0,
  loadErrors: 0,
  fenced: 0,
  staleServed: 0,
})
