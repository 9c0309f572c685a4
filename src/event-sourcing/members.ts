import type { Clock } from '../kernel/clock.js'
import { isHoldfastError } from '../kernel/errors.js'
import type { Checkpoints } from './checkpoints.js'

/** Whose share is worked out. */
export interface MembersOptions {
  readonly name: string
  readonly count: number
  readonly checkpoints: Checkpoints<unknown>
  readonly clock: Clock
  readonly leaseMs: number
  readonly owner: string
}

interface Seen {
  readonly beat: number
  readonly at: number
  readonly moved: boolean
}

/**
 * Who takes part in the work on a subscription's partitions. Each process has a place, by a lease; the place's checkpoint is its
 * heartbeat, even while it works, odd when it has left. The others see it move, or, for as long as a lease, not.
 */
export class Members {
  readonly #seen = new Map<number, Seen>()
  #place: { readonly index: number; readonly epoch: number; readonly beat: number } | undefined

  constructor(private readonly options: MembersOptions) {}

  /** How many partitions are this process's share now: those of all members add up to all partitions. */
  async share(): Promise<number> {
    await this.#beat()
    const { count } = this.options
    const indices = Array.from({ length: count }, (_, i) => i)
    const others = indices.filter((index) => index !== this.#place?.index)
    const alive = await Promise.all(others.map((index) => this.#isAlive(index)))
    const own = this.#place?.index
    if (own === undefined) return 0 // there are as many members as partitions
    const members = others.filter((_, i) => alive[i])
    const rank = members.filter((index) => index < own).length
    const all = members.length + 1
    return Math.floor(count / all) + (rank < count % all ? 1 : 0)
  }

  /** Tells the others at once. */
  async leave(): Promise<void> {
    const place = this.#place
    if (!place) return
    this.#place = undefined
    const { checkpoints } = this.options
    await checkpoints.commit(this.#name(place.index), place.epoch, place.beat, place.beat + 1, async () => {})
    await checkpoints.release(this.#name(place.index), place.epoch)
  }

  async #beat(): Promise<void> {
    const { count, checkpoints, owner, leaseMs } = this.options
    const held = this.#place
    for (let index = held?.index ?? 0; index < (held ? held.index + 1 : count); index++) {
      const name = this.#name(index)
      // oxlint-disable-next-line no-await-in-loop -- the first that is free
      const lease = await checkpoints.acquire(name, owner, leaseMs)
      this.#place = undefined
      if (!lease) continue
      const last = lease.position ?? 0
      const beat = last + 2 - (last % 2)
      try {
        // oxlint-disable-next-line no-await-in-loop -- the first that is free
        await checkpoints.commit(name, lease.epoch, lease.position, beat, async () => {})
      } catch (error) {
        if (isHoldfastError(error, 'FENCED')) continue // paused for longer than the lease
        throw error
      }
      this.#place = { index, epoch: lease.epoch, beat }
      return
    }
  }

  async #isAlive(index: number): Promise<boolean> {
    const { checkpoints, clock, leaseMs } = this.options
    const beat = (await checkpoints.position(this.#name(index))) ?? 1
    const now = clock.now()
    let seen = this.#seen.get(index)
    if (seen?.beat !== beat) {
      seen = { beat, at: now, moved: seen !== undefined }
      this.#seen.set(index, seen)
    }
    return beat % 2 === 0 && seen.moved && now - seen.at <= leaseMs
  }

  #name(index: number): string {
    return `${this.options.name}#member${index}`
  }
}
