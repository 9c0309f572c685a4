import { LRUCache } from 'lru-cache'
import type { Clock } from '../kernel/clock.js'
import type { TagCell } from './fences.js'
import { clone, deepFreeze, sizeOf } from './isolation.js'
import type { Isolation } from './options.js'

/** What is rarely there, apart from the rest so that an entry stays small. */
export interface EntryNotes {
  readonly etag?: string | undefined
  /** Milliseconds the load took, where `'xfetch'` is to decide on the next. */
  readonly spreadMs?: number | undefined
}

/** A value in the first level. Times are whole milliseconds of the monotonic clock: small integers take no room of their own. */
export class LocalEntry {
  constructor(
    readonly value: unknown,
    public freshUntil: number,
    /** From here on, a hit may start a load in the background. At most `freshUntil`. */
    public refreshAt: number,
    /** Until when it may stand in for a load that fails; 0 without grace. */
    readonly graceUntil: number,
    readonly storedAt: number,
    /** The turn at which its read or load began. */
    readonly born: number,
    readonly cells: readonly TagCell[] | undefined,
    readonly notes: EntryNotes | undefined,
  ) {}
}

/** The first level: lru-cache, with expiry, tags and coherence judged by our own fields and clock. */
export class LocalLevel {
  /** Monotonic time until which entries are known to be current; `Infinity` without a second level. */
  coherentUntil = Infinity
  /** Monotonic time from which a hit has that confirmed anew, beforehand. */
  askAt = Infinity
  #lru: LRUCache<string, LocalEntry> | undefined
  readonly #isolate: Isolation
  readonly #sized: boolean

  constructor(
    options: { maxEntries: number; maxBytes: number | undefined; isolate: Isolation } | undefined,
    private readonly clock: Clock,
    /** Told once when a hit comes after {@link askAt}. */
    private readonly ask: () => void = () => {},
  ) {
    this.#isolate = options?.isolate ?? 'share'
    this.#sized = options?.maxBytes !== undefined
    if (options) {
      const { maxEntries: max, maxBytes } = options
      this.#lru = maxBytes === undefined ? new LRUCache({ max }) : new LRUCache({ max, maxSize: maxBytes })
    }
  }

  /** Whether it keeps anything. */
  get inUse(): boolean {
    return this.#lru !== undefined
  }

  get size(): number {
    return this.#lru?.size ?? 0
  }

  /** The entry if it is fresh and known to be current. */
  hit(key: string): LocalEntry | undefined {
    const entry = this.#lru?.get(key)
    if (entry === undefined) return undefined
    const now = this.clock.now()
    if (now >= entry.freshUntil || now >= this.coherentUntil) return undefined
    if (now >= this.askAt) {
      this.askAt = Infinity
      this.ask()
    }
    return entry.cells !== undefined && moved(entry.cells, entry.born, 'any') ? undefined : entry
  }

  /** The entry if it is fresh, whether it is known to be current or not. */
  unverified(key: string): LocalEntry | undefined {
    const entry = this.#lru?.get(key)
    if (entry === undefined || this.clock.now() >= entry.freshUntil) return undefined
    return entry.cells !== undefined && moved(entry.cells, entry.born, 'any') ? undefined : entry
  }

  /** The entry if it is within its grace, fresh or not. */
  forGrace(key: string): LocalEntry | undefined {
    const entry = this.#lru?.peek(key)
    if (entry === undefined || this.clock.now() >= entry.graceUntil) return undefined
    return entry.cells !== undefined && moved(entry.cells, entry.born, 'hard') ? undefined : entry
  }

  put(key: string, entry: LocalEntry): void {
    if (!this.#lru) return
    if (this.#sized) this.#lru.set(key, entry, { size: Math.max(1, 2 * key.length + sizeOf(entry.value)) })
    else this.#lru.set(key, entry)
  }

  remove(key: string): void {
    this.#lru?.delete(key)
  }

  /** Keeps the entry for grace only. */
  expire(key: string): void {
    const entry = this.#lru?.peek(key)
    if (entry) entry.freshUntil = entry.refreshAt = 0
  }

  clear(): void {
    this.#lru?.clear()
  }

  /** Empty from now on. */
  close(): void {
    this.#lru = undefined
  }

  /** The tag cells that entries look at, some of them repeatedly. */
  *cells(): Iterable<TagCell> {
    for (const entry of this.#lru?.values() ?? []) if (entry.cells) yield* entry.cells
  }

  /** A value as it goes in. @throws InvalidPayloadError when it can't be cloned and is to be. */
  keep(value: unknown): unknown {
    if (this.#isolate === 'freeze') return deepFreeze(value)
    return this.#isolate === 'clone' ? clone(value) : value
  }

  /** A value as it goes out. */
  give(value: unknown): unknown {
    return this.#isolate === 'clone' ? clone(value) : value
  }
}

function moved(cells: readonly TagCell[], born: number, kind: 'any' | 'hard'): boolean {
  for (let i = 0; i < cells.length; i++) if ((cells[i] as TagCell)[kind] > born) return true
  return false
}
