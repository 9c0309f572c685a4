import { systemClock, type Clock } from '../kernel/clock.js'
import type { Checkpoints, SubscriptionLease, Parked } from './checkpoints.js'
import { FencedError } from './errors.js'

/** How {@link MemoryCheckpoints} keep time. */
export interface MemoryCheckpointsOptions {
  /** For the end of leases. @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

interface Entry {
  owner: string
  epoch: number
  until: number
  position: number | undefined
  readonly parked: Parked[]
}

/** Checkpoints in this process's memory: after a restart subscriptions begin again. */
export class MemoryCheckpoints implements Checkpoints {
  readonly #clock: Clock
  readonly #entries = new Map<string, Entry>()

  constructor({ clock = systemClock }: MemoryCheckpointsOptions = {}) {
    this.#clock = clock
  }

  async acquire(name: string, owner: string, ttlMs: number): Promise<SubscriptionLease | undefined> {
    let entry = this.#entries.get(name)
    if (!entry) {
      entry = { owner: '', epoch: 0, until: -Infinity, position: undefined, parked: [] }
      this.#entries.set(name, entry)
    }
    const now = this.#clock.now()
    if (entry.owner !== owner) {
      if (entry.until > now) return undefined
      entry.owner = owner
      entry.epoch++
    }
    entry.until = now + ttlMs
    return { epoch: entry.epoch, position: entry.position }
  }

  async position(name: string): Promise<number | undefined> {
    return this.#entries.get(name)?.position
  }

  async commit(
    name: string,
    epoch: number,
    from: number | undefined,
    to: number,
    work: (tx: undefined) => Promise<void>,
  ): Promise<void> {
    await this.commitWith(name, epoch, from, { to, work: () => work(undefined) })
  }

  /** @internal As {@link commit}; what `work` gives back, if anything, is called in the same moment as the position moves, before it. */
  async commitWith(
    name: string,
    epoch: number,
    from: number | undefined,
    { to, work }: { readonly to: number; readonly work: () => Promise<void | (() => void)> },
  ): Promise<void> {
    this.#held(name, epoch, from)
    const apply = await work()
    const entry = this.#held(name, epoch, from) // asked again: the work took time
    apply?.()
    entry.position = to
  }

  /** @internal Sends the owner away; with `forget`, the name begins anew. */
  fence(name: string, forget = false): void {
    const entry = this.#entries.get(name)
    if (!entry) return
    entry.epoch++
    entry.owner = ''
    entry.until = -Infinity
    if (!forget) return
    entry.position = undefined
    entry.parked.length = 0
  }

  /** @internal {@link position}, at once. */
  positionNow(name: string): number | undefined {
    return this.#entries.get(name)?.position
  }

  async park(name: string, epoch: number, from: number | undefined, event: Parked): Promise<void> {
    const entry = this.#held(name, epoch, from)
    entry.parked.push(event)
    entry.position = event.position
  }

  async parked(name: string): Promise<readonly Parked[]> {
    return [...(this.#entries.get(name)?.parked ?? [])]
  }

  async release(name: string, epoch: number): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry?.epoch !== epoch) return
    entry.owner = ''
    entry.until = -Infinity
  }

  #held(name: string, epoch: number, from: number | undefined): Entry {
    const entry = this.#entries.get(name)
    if (entry?.epoch !== epoch || entry.position !== from) throw new FencedError(name)
    return entry
  }
}
