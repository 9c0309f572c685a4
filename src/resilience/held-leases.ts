import type { Clock } from '../kernel/clock.js'
import type { TrialLease } from './store.js'

/** Leases of trials under way. Each is renewed until its trial is over. */
export class HeldLeases {
  readonly #held: (TrialLease & { readonly startedAt: number; readonly stop: () => void })[] = []
  readonly #clock: Clock
  readonly #everyMs: number
  readonly #renew: (lease: TrialLease, startedAt: number) => boolean

  /** @param renew returns whether the lease is worth being kept */
  constructor(clock: Clock, everyMs: number, renew: (lease: TrialLease, startedAt: number) => boolean) {
    this.#clock = clock
    this.#everyMs = everyMs
    this.#renew = renew
  }

  /** A trial has begun; its lease was asked for `ageMs` before. */
  hold({ id, generation }: TrialLease, startedAt: number, ageMs: number): void {
    let cancel = (): void => {}
    const lease = { id, generation, startedAt, stop: () => cancel() }
    const renew = (): void => {
      if (this.#renew(lease, startedAt)) cancel = this.#clock.setTimer(renew, this.#everyMs)
    }
    this.#held.push(lease)
    if (ageMs >= this.#everyMs) renew()
    else cancel = this.#clock.setTimer(renew, this.#everyMs - ageMs)
  }

  /** The lease of a trial that began then, which is over; `undefined` when it had none. */
  ended(startedAt: number): TrialLease | undefined {
    const i = this.#held.findIndex((lease) => lease.startedAt === startedAt)
    if (i < 0) return undefined
    const [lease] = this.#held.splice(i, 1)
    lease?.stop()
    return lease
  }

  /** Ends all of this generation. */
  endAll(generation: number): TrialLease[] {
    const all = this.#held.filter((lease) => lease.generation === generation)
    for (const lease of all) {
      this.#held.splice(this.#held.indexOf(lease), 1)
      lease.stop()
    }
    return all
  }
}
