import { settledWithin, systemClock } from '../kernel/clock.js'
import type { SqlRow } from '../kernel/postgres.js'
import type { Owned } from './postgres-relay-window.js'

/** What the leases tell. */
interface Told {
  changed(gained: boolean): void
  failed(error: unknown, retryInMs: number): void
}

/** While it waits for a partition that is to be given to become empty. */
const GIVING_MS = 50
/** Shortest time between two questions. */
const SOON_MS = 20

/** The partitions of one relay: its share, renewed three times a lease. @internal */
export class RelayLeases {
  readonly #owned = new Map<number, Owned>()
  #cancel = (): void => {}
  #asking: Promise<void> = Promise.resolve()
  #over = false

  constructor(
    private readonly id: string,
    private readonly leaseMs: number,
    private readonly ask: (statement: 'lease' | 'leave', params: unknown[]) => Promise<SqlRow[]>,
    private readonly told: Told,
  ) {}

  get partitions(): readonly number[] {
    return [...this.#owned.keys()].toSorted((a, b) => a - b)
  }

  /** Those to read from. */
  readable(): ReadonlyMap<number, Owned> {
    return new Map([...this.#owned].filter(([, owned]) => !owned.giving && this.holds(owned)))
  }

  /** Whether this lease still runs. One that was seen to be over is over for good: what was skipped meanwhile is read again under a new one. */
  holds(owned: Owned): boolean {
    if (this.#owned.get(owned.partition) !== owned) return false
    if (owned.until > systemClock.now()) return true
    this.#owned.delete(owned.partition)
    this.told.changed(false)
    return false
  }

  start(): void {
    this.#asking = this.#tick()
  }

  /** Gives all to others. Waits no longer than the lease for a database that does not answer: then it is over in any case. Never rejects. */
  async leave(): Promise<void> {
    this.#over = true
    this.#cancel()
    await settledWithin(systemClock, this.leaseMs, this.#giveAll())
  }

  async #giveAll(): Promise<void> {
    await this.#asking
    this.#owned.clear()
    await this.ask('leave', [this.id]).catch(() => {}) // then the leases run out
  }

  async #tick(): Promise<void> {
    const give = [...this.#owned.values()].filter(
      ({ giving, commits }) => giving && [...commits.values()].every(({ kept }) => kept === 0),
    )
    for (const { partition } of give) this.#owned.delete(partition)
    const asked = systemClock.now()
    let nextMs = this.leaseMs / 3
    try {
      const rows = await this.ask('lease', [this.id, this.leaseMs, give.map(({ partition }) => partition)])
      if (this.#over) return
      const mine = rows.filter((row) => row['partition'] !== null)
      let gained = false
      for (const row of mine) {
        const [partition, epoch] = [Number(row['partition']), Number(row['epoch'])]
        const known = this.#owned.get(partition)
        if (known?.epoch === epoch) known.until = asked + this.leaseMs
        else {
          gained = true
          this.#owned.set(partition, {
            partition,
            epoch,
            until: asked + this.leaseMs,
            giving: false,
            commits: new Map(),
          })
        }
      }
      const still = new Set(mine.map((row) => Number(row['partition'])))
      const lost = [...this.#owned.keys()].filter((partition) => !still.has(partition))
      for (const partition of lost) this.#owned.delete(partition)
      const share = Number(rows[0]?.['share'])
      for (const [i, partition] of this.partitions.entries()) {
        const owned = this.#owned.get(partition)!
        if (owned.giving && i < share) gained = true // what was passed over meanwhile is to be read
        owned.giving = i >= share
      }
      if (this.#owned.size > share) nextMs = Math.min(nextMs, GIVING_MS)
      // Whoever has died is replaced when its lease ends, not a third of one later.
      const others = rows[0]?.['next_ms']
      if (others !== null) nextMs = Math.min(nextMs, Math.max(SOON_MS, Number(others) + 1))
      if (gained || lost.length > 0 || give.length > 0) this.told.changed(gained)
    } catch (error) {
      nextMs = this.leaseMs / 6
      this.told.failed(error, nextMs)
    }
    if (this.#over) return
    this.#cancel = systemClock.setTimer(() => void (this.#asking = this.#tick()), nextMs)
  }
}
