import type { Clock } from '../kernel/clock.js'
import type { CallContext } from '../kernel/policy.js'

/** One call that waits. */
export interface Waiter {
  /** Aborted: the call leaves at once. */
  readonly context: CallContext
  /** How long it waits at most. */
  readonly waitMs: number
  /** Whether it may begin or must go, and what it then does; `undefined`: it waits on, which a `late` one never does. */
  decide(late: boolean): (() => void) | undefined
  /** Ends the call that was aborted. */
  gone(): void
}

/** Calls that wait for a trial, in the order they came. Each holds one timer; no call waits, no timer. */
export class Waiters {
  readonly #waiting = new Set<(late?: boolean) => boolean>()
  #passes = 0

  /** How many wait. */
  get size(): number {
    return this.#waiting.size
  }

  /** @param settle brings the circuit up to date when the time of one is up, which may let others in */
  add(waiter: Waiter, clock: Clock, settle: () => void): void {
    const { context, waitMs } = waiter
    const leave = (): void => {
      this.#waiting.delete(look)
      cancel()
      forget()
    }
    const look = (late = false): boolean => {
      const act = waiter.decide(late)
      if (!act) return false
      leave() // first: what it does may change the circuit, and wake all
      act()
      return true
    }
    const cancel = clock.setTimer(
      () => {
        settle()
        if (this.#waiting.has(look)) look(true)
      },
      waitMs,
      { keepAlive: true },
    )
    const forget = context.onAbort(() => {
      leave()
      waiter.gone()
    })
    this.#waiting.add(look)
  }

  /**
   * Lets each decide, in order, up to the first that must wait on: so must those behind it. Who enters may change the
   * circuit: that asks for another pass after this one, never for one inside it, in which a call could enter twice.
   */
  wake(): void {
    if (this.#waiting.size === 0 || this.#passes++ > 0) return
    try {
      for (let seen = 0; seen < this.#passes;) {
        seen = this.#passes
        for (const look of this.#waiting) if (!look()) break
      }
    } finally {
      this.#passes = 0
    }
  }
}
