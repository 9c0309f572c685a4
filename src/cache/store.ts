/** What an invalidation takes away. */
export type Invalidation =
  | {
      readonly kind: 'keys'
      readonly keys: readonly string[]
      /** `true`: the entries count as expired and are kept for grace. @defaultValue false: they are gone */
      readonly soft?: boolean | undefined
    }
  | {
      readonly kind: 'tags'
      readonly tags: readonly string[]
      /** As with keys. */
      readonly soft?: boolean | undefined
    }
  | { readonly kind: 'all' }

/** One value as a store keeps it. A store keeps every field as it came, but for what {@link CacheStore} says of `stamp`. */
export interface StoredEntry {
  /** The encoded value. */
  readonly payload: Uint8Array | string
  /** The store's sequence number when the load of this value began: a tag invalidated later makes the entry void. */
  readonly stamp: number
  /** Epoch milliseconds until which the value is fresh; past it, only grace may serve it. `0`: expired by an invalidation. */
  readonly freshUntil: number
  /** Epoch milliseconds at which the value was loaded or set. */
  readonly storedAt: number
  /** Any strings, without duplicates; may be empty. */
  readonly tags: readonly string[]
  /** The origin's name for this version of the value, if the loader gave one. */
  readonly etag?: string | undefined
  /** Milliseconds that the load took. */
  readonly loadMs?: number | undefined
}

/** The answer to a request for the right to load a key. */
export type CacheLease =
  /** A fresh entry stands: no load is needed. */
  | { readonly kind: 'hit'; readonly entry: StoredEntry; readonly seq: number }
  /** The caller is the one to load. `token` is what {@link CacheStore.fill} asks for, `seq` the stamp of what is loaded. */
  | { readonly kind: 'granted'; readonly token: string; readonly seq: number }
  /** Someone else loads. */
  | { readonly kind: 'busy' }

/**
 * The second level of a cache: shared by all managers that use it. Contract: `test/conformance/cache-store.ts`.
 *
 * The store numbers its changes: every `write` and every `invalidate` moves `seq` on by one, atomically with the change
 * itself; a `fill` does not. Calls on one store object take effect in the order they were made. Keys and tags are any strings.
 * Every method may reject when the store can't be reached: the change may or may not have happened.
 */
export interface CacheStore extends AsyncDisposable {
  /**
   * The entries of `keys`, in that order, `undefined` where there is none, and the `seq` at which all of them were read. Never an
   * entry that an invalidation before has taken; one that was expired softly comes with `freshUntil` 0.
   */
  read(
    keys: readonly string[],
  ): Promise<{ readonly entries: readonly (StoredEntry | undefined)[]; readonly seq: number }>
  /**
   * Asks for the right to load `key` for `ms` milliseconds. Of all who ask while no fresh entry stands, one is granted; the
   * others are told `busy` until the lease is used, given back, revoked or past.
   * @param force a fresh entry is no reason to refuse: for a reload ahead of time
   */
  lease(key: string, ms: number, force?: boolean): Promise<CacheLease>
  /**
   * Stores what was loaded under a lease and ends the lease. `false`, and nothing stored, when the lease is past or was
   * revoked, or a tag of the entry was invalidated after `entry.stamp`.
   * @param entry `undefined` gives the lease back and stores nothing
   * @param ms how long to keep the entry, fresh and for grace: a whole number > 0, unless the lease is only given back
   */
  fill(key: string, token: string, entry: StoredEntry | undefined, ms: number): Promise<boolean>
  /**
   * Stores all `items` in one atomic step, stamped with the new `seq` whatever stamp they carry, and revokes the leases of
   * their keys. Each is kept for `ms` milliseconds, a whole number > 0. @returns the new `seq`
   * @param origin names the manager that writes, for stores that tell others
   * @param withinMs whoever asks gives up after so many milliseconds: the write must not happen later, nor twice, because others
   * may have written meanwhile. Not for stores whose calls can't be late. @defaultValue no limit
   */
  write(
    items: readonly { readonly key: string; readonly entry: StoredEntry; readonly ms: number }[],
    origin: string,
    withinMs?: number,
  ): Promise<number>
  /**
   * Takes entries away in one atomic step and revokes the leases of the keys (of all keys for `all`), so that a load begun
   * before can't be stored. @returns the new `seq`
   */
  invalidate(what: Invalidation, origin: string): Promise<number>
  /**
   * Where the store stands. `epoch` changes when `seq` starts anew (data lost, another server). `tags`: for each tag the
   * `seq` of its last invalidation, hard or soft; 0 when there was none that the store still knows of.
   */
  state(
    tags: readonly string[],
  ): Promise<{ readonly epoch: string; readonly seq: number; readonly tags: readonly number[] }>
}
