import { LRUCache } from 'lru-cache'
import { checkInteger } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { randomId } from '../kernel/random.js'
import { MAX_ENTRIES } from './options.js'
import type { CacheStore, Invalidation, CacheLease, StoredEntry } from './store.js'

/** Size and clock of a {@link MemoryCacheStore}. */
export interface MemoryCacheStoreOptions {
  /** Entries kept; the least recently used go first. As many leases and tags are remembered. Integer in [1, 2 ** 24]. @defaultValue 100_000 */
  readonly maxEntries?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

interface Kept {
  entry: StoredEntry
  readonly expiresAt: number
}

/** `seq` of the last invalidation of a tag, and of the last one that was not soft. */
interface TagVersion {
  readonly any: number
  readonly hard: number
}

/**
 * The second level in this process's memory: for tests, for development, and for several managers in one process. Every
 * method acts at once, so each is atomic. Never rejects.
 */
export class MemoryCacheStore implements CacheStore {
  readonly #clock: Clock
  readonly #maxEntries: number
  readonly #entries: LRUCache<string, Kept>
  readonly #leases = new Map<string, { readonly token: string; readonly expiresAt: number }>()
  readonly #tags = new Map<string, TagVersion>()
  readonly #epoch = randomId()
  #seq = 0
  #tokens = 0
  /** The newest tag version that was forgotten for lack of room: tagged entries older than it can't be trusted. */
  #forgotten = 0

  /** @throws InvalidOptionError when a number is out of its range. */
  constructor({ maxEntries = 100_000, clock = systemClock }: MemoryCacheStoreOptions = {}) {
    this.#maxEntries = checkInteger('maxEntries', maxEntries, 1, MAX_ENTRIES)
    this.#entries = new LRUCache({ max: this.#maxEntries })
    this.#clock = clock
  }

  async read(keys: readonly string[]): ReturnType<CacheStore['read']> {
    return { entries: keys.map((key) => this.#valid(key)), seq: this.#seq }
  }

  async lease(key: string, ms: number, force = false): Promise<CacheLease> {
    const entry = force ? undefined : this.#valid(key)
    if (entry && entry.freshUntil > this.#clock.epochMs()) return { kind: 'hit', entry, seq: this.#seq }
    const now = this.#clock.now()
    const held = this.#leases.get(key)
    if (held && held.expiresAt > now) return { kind: 'busy' }
    const token = String(++this.#tokens)
    this.#leases.delete(key) // and set again, so that the map stays in order of granting
    this.#leases.set(key, { token, expiresAt: now + ms })
    if (this.#leases.size > this.#maxEntries) this.#leases.delete(first(this.#leases)) // its fill will be refused: safe
    return { kind: 'granted', token, seq: this.#seq }
  }

  async fill(key: string, token: string, entry: StoredEntry | undefined, ms: number): Promise<boolean> {
    const lease = this.#leases.get(key)
    if (lease?.token !== token) return false
    this.#leases.delete(key)
    if (!entry || lease.expiresAt <= this.#clock.now() || this.#versionOf(entry).any > entry.stamp) return false
    this.#keep(key, entry, ms)
    return true
  }

  async write(items: Parameters<CacheStore['write']>[0], _origin: string): Promise<number> {
    const seq = ++this.#seq
    for (const { key, entry, ms } of items) {
      this.#leases.delete(key)
      this.#keep(key, { ...entry, stamp: seq }, ms)
    }
    return seq
  }

  async invalidate(what: Invalidation, _origin: string): Promise<number> {
    const seq = ++this.#seq
    switch (what.kind) {
      case 'all':
        this.#entries.clear()
        this.#leases.clear()
        this.#tags.clear()
        break
      case 'keys':
        for (const key of what.keys) {
          this.#leases.delete(key)
          const kept = what.soft ? this.#entries.peek(key) : undefined
          if (kept) kept.entry = { ...kept.entry, freshUntil: 0 }
          else this.#entries.delete(key)
        }
        break
      case 'tags':
        for (const tag of what.tags) this.#markTag(tag, seq, what.soft ?? false)
    }
    return seq
  }

  async state(tags: readonly string[]): ReturnType<CacheStore['state']> {
    return { epoch: this.#epoch, seq: this.#seq, tags: tags.map((tag) => this.#tags.get(tag)?.any ?? 0) }
  }

  /** Forgets everything, as a server that restarts does; whoever still uses it starts from an empty store. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.invalidate({ kind: 'all' }, '')
  }

  #keep(key: string, entry: StoredEntry, ms: number): void {
    this.#entries.set(key, { entry, expiresAt: this.#clock.now() + ms })
  }

  #valid(key: string): StoredEntry | undefined {
    const kept = this.#entries.get(key)
    if (!kept) return undefined
    const { entry } = kept
    const tags = this.#versionOf(entry)
    if (kept.expiresAt <= this.#clock.now() || tags.hard > entry.stamp) {
      this.#entries.delete(key)
      return undefined
    }
    return tags.any > entry.stamp ? { ...entry, freshUntil: 0 } : entry
  }

  #versionOf({ tags }: StoredEntry): TagVersion {
    if (tags.length === 0) return { any: 0, hard: 0 }
    let any = this.#forgotten
    let hard = this.#forgotten
    for (const tag of tags) {
      const version = this.#tags.get(tag)
      if (version) {
        any = Math.max(any, version.any)
        hard = Math.max(hard, version.hard)
      }
    }
    return { any, hard }
  }

  #markTag(tag: string, seq: number, soft: boolean): void {
    const before = this.#tags.get(tag)
    this.#tags.delete(tag) // and set again, so that the map stays in order of invalidation
    this.#tags.set(tag, { any: seq, hard: soft ? (before?.hard ?? 0) : seq })
    if (this.#tags.size > this.#maxEntries) {
      const oldest = first(this.#tags)
      this.#forgotten = this.#tags.get(oldest)?.any ?? 0
      this.#tags.delete(oldest)
    }
  }
}

const first = (map: Map<string, unknown>): string => map.keys().next().value ?? ''
