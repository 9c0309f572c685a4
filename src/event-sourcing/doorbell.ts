import type { Clock } from '../kernel/clock.js'

/** Waits for a time or until it is rung, whichever is first. A ring that comes while nobody waits ends the next wait at once. */
export class Doorbell {
  #rung = false
  #answer: (() => void) | undefined

  constructor(private readonly clock: Clock) {}

  readonly ring = (): void => {
    this.#rung = true
    this.#answer?.()
  }

  /** Forgets an earlier ring: to be called before looking for what there is to do. */
  reset(): void {
    this.#rung = false
  }

  /** At most one may wait at a time. */
  wait(ms: number, keepAlive: boolean): Promise<void> {
    if (this.#rung) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        cancel()
        this.#answer = undefined
        resolve()
      }
      const cancel = this.clock.setTimer(done, ms, { keepAlive })
      this.#answer = done
    })
  }
}

/** How long to wait before looking again: 10 ms after something came, then twice as long each time, up to `mostMs`. */
export class Patience {
  #ms = 0

  constructor(private readonly mostMs: number) {}

  reset(): void {
    this.#ms = 0
  }

  next(): number {
    this.#ms = Math.min(this.mostMs, this.#ms === 0 ? 10 : this.#ms * 2)
    return this.#ms
  }
}
