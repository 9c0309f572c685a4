import { invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import type { Checkpoints } from './checkpoints.js'
import type { Event } from './event.js'
import { MemoryCheckpoints } from './memory-checkpoints.js'
import type { AtOnce } from './memory-inline.js'
import { MemoryTables, type MemoryTransaction } from './memory-tables.js'
import type { Projection, ProjectionOptions, Projector, Rebuild } from './projection.js'
import { Projections } from './projections.js'
import { checkpointOf, type RevisionId, type Revisions, type Standing } from './revisions.js'
import type { EventStore } from './store.js'
import type { Subscription } from './subscription.js'

/** How a {@link MemoryProjector} keeps time. */
export interface MemoryProjectorOptions {
  /** For the end of leases, and of every wait. @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * Read models in this process's memory, gone with it. What projections write into the tables of `context.tx` is there
 * exactly once; what they change elsewhere may be repeated when they fail.
 */
export class MemoryProjector<E extends Event = Event> implements Projector<E, MemoryTransaction> {
  readonly #revisions: MemoryRevisions
  readonly #projections: Projections<E, MemoryTransaction>

  constructor(store: EventStore<E>, { clock = systemClock }: MemoryProjectorOptions = {}) {
    this.#revisions = new MemoryRevisions(clock)
    this.#projections = new Projections(store, this.#revisions, clock)
  }

  inline<P extends E>(projection: Projection<P, MemoryTransaction>): void {
    this.#projections.inline(projection)
  }

  run<P extends E>(projection: Projection<P, MemoryTransaction>, options?: ProjectionOptions): Subscription {
    return this.#projections.run(projection, options)
  }

  rebuild<P extends E>(projection: Projection<P, MemoryTransaction>, options?: ProjectionOptions): Promise<Rebuild> {
    return this.#projections.rebuild(projection, options)
  }

  position(name: string): Promise<number> {
    return this.#projections.position(name)
  }

  /** The rows of a table, by its name without a revision: of the live one. Empty when there are none. */
  table<V = unknown>(name: string): ReadonlyMap<string, V> {
    return this.#revisions.table(name) as ReadonlyMap<string, V>
  }
}

type SetUp = Parameters<Revisions<MemoryTransaction>['setUp']>[1]

interface Entry {
  live: number
  wanted: number | undefined
  setups: number
  readonly generations: Map<number, number>
}

class MemoryRevisions implements Revisions<MemoryTransaction> {
  readonly checkpoints: Checkpoints<MemoryTransaction>
  readonly #tables = new MemoryTables()
  readonly #inner: MemoryCheckpoints
  readonly #entries = new Map<string, Entry>()
  /** Set-ups that are under way. */
  readonly #settingUp = new Map<string, Promise<number>>()
  /** Which tables each checkpoint has asked the name of, and what readers of the name are given. */
  readonly #named = new Map<string, Set<string>>()
  readonly #stable = new Map<string, string>()
  /** The projection that each table belongs to: there is one stable name for both. */
  readonly #owners = new Map<string, string>()

  constructor(clock: Clock) {
    const inner = new MemoryCheckpoints({ clock })
    this.#inner = inner
    this.checkpoints = {
      acquire: (...args) => inner.acquire(...args),
      position: (name) => inner.position(name),
      park: (...args) => inner.park(...args),
      parked: (name) => inner.parked(name),
      release: (...args) => inner.release(...args),
      commit: (name, epoch, from, to, work) => {
        const tx = this.#tables.begin()
        return inner.commitWith(name, epoch, from, { to, work: () => work(tx).then(() => () => tx.apply()) })
      },
    }
  }

  table(name: string): ReadonlyMap<string, unknown> {
    return this.#tables.get(this.#stable.get(name) ?? '')
  }

  enlist(atOnce: unknown): MemoryTransaction {
    const tx = this.#tables.begin()
    const list = atOnce as AtOnce
    list.push(() => tx.apply())
    return tx
  }

  tableName(table: string, id: RevisionId): string {
    const versioned = `${table}_v${id.revision}`
    const owner = this.#owners.get(table) ?? id.name
    if (owner !== id.name) return invalid('table', 'a name that no other projection has', table)
    this.#owners.set(table, id.name)
    const named = this.#named.get(checkpointOf(id)) ?? new Set()
    this.#named.set(checkpointOf(id), named.add(table))
    const entry = this.#entries.get(id.name)
    if (!entry || entry.live === id.revision) this.#stable.set(table, versioned)
    return versioned
  }

  setUp(id: RevisionId, setup: SetUp): Promise<number> {
    const done = this.#entries.get(id.name)?.generations.get(id.revision)
    if (done !== undefined) return Promise.resolve(done)
    const key = checkpointOf(id)
    let settingUp = this.#settingUp.get(key)
    if (!settingUp) {
      settingUp = this.#setUp(id, setup).finally(() => this.#settingUp.delete(key))
      this.#settingUp.set(key, settingUp)
    }
    return settingUp
  }

  async #setUp(id: RevisionId, setup: SetUp): Promise<number> {
    const { name, revision } = id
    const tx = this.#tables.begin()
    await setup(tx, (table) => this.tableName(table, id))
    tx.apply()
    const entry = this.#entries.get(name) ?? { live: revision, wanted: undefined, setups: 0, generations: new Map() }
    this.#entries.set(name, entry)
    entry.generations.set(revision, ++entry.setups)
    if (entry.live === revision) this.#show(id)
    return entry.setups
  }

  #show(id: RevisionId): void {
    for (const table of this.#named.get(checkpointOf(id)) ?? []) this.#stable.set(table, `${table}_v${id.revision}`)
  }

  async standing(id: RevisionId): Promise<Standing | undefined> {
    const entry = this.#entries.get(id.name)
    if (!entry) return undefined
    const mark = this.#inner.positionNow(checkpointOf({ ...id, revision: entry.live })) ?? 0
    const generation = entry.generations.get(id.revision)
    return { generation, live: entry.live, mark, wanted: entry.wanted === id.revision }
  }

  async want({ name, revision }: RevisionId): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry && entry.live !== revision) entry.wanted = revision
  }

  async switchTo(
    id: RevisionId,
    { epoch, position }: { readonly epoch: number; readonly position: number },
    drain: (tx: MemoryTransaction, to: number, mayRead: boolean) => Promise<boolean>,
  ): Promise<number | undefined> {
    const entry = this.#entries.get(id.name)
    if (!entry) return undefined
    const old = checkpointOf({ ...id, revision: entry.live })
    const to = this.#inner.positionNow(old) ?? 0
    if (to < position) return undefined
    const tx = this.#tables.begin()
    let switched = false
    const work = async (): Promise<() => void> => {
      await drain(tx, to, true)
      return () => {
        if (this.#inner.positionNow(old) !== to || entry.wanted !== id.revision) throw MOVED
        this.#inner.fence(old)
        tx.apply()
        entry.live = id.revision
        entry.wanted = undefined
        this.#show(id)
        switched = true
      }
    }
    await this.#inner.commitWith(checkpointOf(id), epoch, position, { to, work }).catch((error: unknown) => {
      if (error !== MOVED) throw error
    })
    return switched ? to : undefined
  }

  async discard(id: RevisionId, drop: ((tx: MemoryTransaction) => Promise<void>) | undefined): Promise<void> {
    const entry = this.#entries.get(id.name)
    if (!entry?.generations.has(id.revision)) return
    if (entry.live === id.revision) return invalid('revision', 'one that is not live', id.revision)
    const checkpoint = checkpointOf(id)
    entry.generations.delete(id.revision)
    if (entry.wanted === id.revision) entry.wanted = undefined
    this.#inner.fence(checkpoint, true)
    const tx = this.#tables.begin()
    await drop?.(tx)
    tx.apply()
    const tables = this.#named.get(checkpoint) ?? []
    this.#named.delete(checkpoint)
    const others = [...entry.generations.keys()].map((revision) => this.#named.get(checkpointOf({ ...id, revision })))
    for (const table of tables) {
      this.#tables.drop(`${table}_v${id.revision}`)
      if (!others.some((named) => named?.has(table))) this.#owners.delete(table)
    }
  }
}

/** The live revision has moved on meanwhile. */
const MOVED = new Error('moved')
