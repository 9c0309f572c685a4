import { checkInteger } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { adjusted, admits, meterOf, stateOf, ticksAt, type Meter } from './gcra.js'
import type { Limit } from './limit.js'
import { Shelf } from './shelf.js'
import type { BucketState, Taken, TokenBucketStore } from './store.js'

/** How a {@link MemoryTokenBucketStore} keeps its buckets. */
export interface MemoryTokenBucketStoreOptions {
  /**
   * Most buckets held at once (a key under two limits has two). Integer ≥ 1. Over it, the bucket nearest to full among a
   * few is forgotten, and one that has no token left only when all are so: a flood of new keys can't free a blocked one.
   * @defaultValue 1_000_000, about 80 MB
   */
  readonly maxKeys?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/** After this many calls, twice as many buckets are looked at: what is full goes, a little work at a time. */
const SWEEP_EVERY = 64

/** How many buckets are compared when one must go. */
const SAMPLE = 16

/** The buckets of one limit. Those without a token left are kept apart, so that they can go last. */
interface Table {
  readonly meter: Meter
  readonly open: Shelf
  readonly blocked: Shelf
}

/**
 * Buckets in this process's memory. Answers at once, never fails, holds no timer. Full buckets are forgotten a few at a
 * time by the calls that follow, at least two for each call; without calls, memory stays as it is.
 */
export class MemoryTokenBucketStore implements TokenBucketStore {
  readonly #maxKeys: number
  readonly #clock: Clock
  readonly #tables = new Map<string, Table>()
  /** A limiter passes the same list each time: its tables are looked up once. */
  readonly #tablesOf = new WeakMap<readonly Limit[], readonly Table[]>()
  /** The list of the last call, and its tables: mostly it is the same again, and comparing is quicker than looking up. */
  #last: { readonly limits: readonly Limit[]; readonly tables: readonly Table[] } | undefined
  /** All shelves, in the order in which the sweep visits them. */
  readonly #shelves: { readonly shelf: Shelf; readonly meter: Meter }[] = []
  #sweeping = 0
  #calls = 0
  #size = 0

  /** @throws InvalidOptionError when `maxKeys` is no integer ≥ 1. */
  constructor({ maxKeys = 1_000_000, clock = systemClock }: MemoryTokenBucketStoreOptions = {}) {
    this.#maxKeys = checkInteger('maxKeys', maxKeys, 1)
    this.#clock = clock
  }

  /** Buckets held now: those that are not full, and full ones not yet swept. Never above `maxKeys`. */
  get size(): number {
    return this.#size
  }

  take(key: string, cost: number, limits: readonly Limit[]): Taken {
    const tables = this.#open(limits)
    const micros = this.#micros()
    const taken =
      tables.length === 1 ? this.#takeOne(tables[0]!, key, cost, micros) : this.#takeAll(tables, key, cost, micros)
    if (++this.#calls >= SWEEP_EVERY) this.#sweep(micros)
    return taken
  }

  /** What {@link #takeAll} does, for the one limit that most limiters have: in half the time. */
  #takeOne(table: Table, key: string, cost: number, micros: number): Taken {
    const { meter, open, blocked } = table
    const now = ticksAt(micros, meter)
    const place = open.find(key)
    let backlog = place < 0 ? backlogIn(blocked, key, now) : Math.max(0, open.at(place) - now)
    const allowed = admits(backlog, cost, meter)
    if (allowed && cost > 0) {
      backlog += cost * meter.ticksPerToken
      if (place >= 0 && admits(backlog, 1, meter)) open.setAt(place, now + backlog)
      else this.#put(table, key, backlog, micros)
    }
    return { allowed, buckets: [stateOf(backlog, cost, meter)] }
  }

  #takeAll(tables: readonly Table[], key: string, cost: number, micros: number): Taken {
    const backlogs = tables.map((table) => this.#backlog(table, key, micros))
    const allowed = tables.every(({ meter }, i) => admits(backlogs[i]!, cost, meter))
    const buckets = tables.map((table, i): BucketState => {
      let backlog = backlogs[i]!
      if (allowed && cost > 0) this.#put(table, key, (backlog += cost * table.meter.ticksPerToken), micros)
      return stateOf(backlog, cost, table.meter)
    })
    return { allowed, buckets }
  }

  adjust(key: string, tokens: number, limits: readonly Limit[]): void {
    const micros = this.#micros()
    for (const table of this.#open(limits)) {
      this.#put(table, key, adjusted(this.#backlog(table, key, micros), tokens, table.meter), micros)
    }
    if (++this.#calls >= SWEEP_EVERY) this.#sweep(micros)
  }

  reset(key: string, limits: readonly Limit[]): void {
    for (const { open, blocked } of this.#open(limits)) {
      if (open.delete(key) || blocked.delete(key)) this.#size--
    }
  }

  #micros(): number {
    return Math.round(this.#clock.now() * 1e3) // a clock's 1000.3 ms is a little more or less than that as a double
  }

  #open(limits: readonly Limit[]): readonly Table[] {
    if (this.#last?.limits === limits) return this.#last.tables
    let tables = this.#tablesOf.get(limits)
    if (!tables) {
      tables = limits.map((limit) => this.#table(limit))
      this.#tablesOf.set(limits, tables)
    }
    this.#last = { limits, tables }
    return tables
  }

  #table(limit: Limit): Table {
    const meter = meterOf(limit)
    const id = `${limit.refillPerSecond}:${limit.name}`
    const known = this.#tables.get(id)
    if (known) return { ...known, meter } // another capacity of the same bucket
    const table = { meter, open: new Shelf(), blocked: new Shelf() }
    this.#tables.set(id, table)
    this.#shelves.push({ shelf: table.open, meter }, { shelf: table.blocked, meter })
    return table
  }

  #backlog({ meter, open, blocked }: Table, key: string, micros: number): number {
    const now = ticksAt(micros, meter)
    return backlogIn(open, key, now) || backlogIn(blocked, key, now)
  }

  #put({ meter, open, blocked }: Table, key: string, backlog: number, micros: number): void {
    const isBlocked = !admits(backlog, 1, meter)
    const here = isBlocked ? blocked : open
    const there = isBlocked ? open : blocked
    if (backlog === 0) {
      if (here.delete(key) || there.delete(key)) this.#size--
      return
    }
    const fullAt = ticksAt(micros, meter) + backlog
    const place = here.find(key)
    if (place >= 0) return here.setAt(place, fullAt)
    if (!there.delete(key)) {
      if (this.#size >= this.#maxKeys) this.#evict(micros)
      this.#size++
    }
    here.add(key, fullAt)
  }

  /** Looks at some buckets, going round all of them, and forgets those that are full. */
  #sweep(micros: number): void {
    this.#calls = 0
    let left = 2 * SWEEP_EVERY
    for (let turned = 0; turned <= this.#shelves.length && left > 0; turned++) {
      const { shelf, meter } = this.#shelves[this.#sweeping]!
      const now = ticksAt(micros, meter)
      const before = shelf.size
      left = shelf.sweep(now, left)
      this.#size -= before - shelf.size
      if (left > 0) this.#sweeping = (this.#sweeping + 1) % this.#shelves.length
    }
  }

  #evict(micros: number): void {
    const tables = [...this.#tables.values()]
    const fullest = (kind: 'open' | 'blocked'): Table => tables.reduce((a, b) => (b[kind].size > a[kind].size ? b : a))
    const open = fullest('open')
    const { meter, shelf } = open.open.size > 0 ? { ...open, shelf: open.open } : blockedOf(fullest('blocked'))
    if (shelf.evict(ticksAt(micros, meter), SAMPLE)) this.#size--
  }
}

const blockedOf = (table: Table): { meter: Meter; shelf: Shelf } => ({ meter: table.meter, shelf: table.blocked })

function backlogIn(shelf: Shelf, key: string, now: number): number {
  const place = shelf.find(key)
  return place < 0 ? 0 : Math.max(0, shelf.at(place) - now)
}
