import type { Clock } from '../kernel/clock.js'
import { TimeoutError } from '../kernel/errors.js'

/** A position that only others move, and those who wait for it. */
export class Progress {
  #position = 0
  readonly #waiting = new Set<{ readonly position: number; settle(error?: Error): void }>()

  constructor(private readonly clock: Clock) {}

  get position(): number {
    return this.#position
  }

  /** Whether somebody waits. */
  get awaited(): boolean {
    return this.#waiting.size > 0
  }

  moveTo(position: number): void {
    this.#position = position
    for (const entry of this.#waiting) if (entry.position <= position) entry.settle()
  }

  /** @throws TimeoutError after `timeoutMs` milliseconds. What {@link end} was given. */
  reach(position: number, timeoutMs: number): Promise<void> {
    if (this.#position >= position) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const entry = {
        position,
        settle: (error?: Error) => {
          cancel()
          this.#waiting.delete(entry)
          if (error) reject(error)
          else resolve()
        },
      }
      const late = (): void =>
        entry.settle(new TimeoutError(`position ${position} was not reached: it is ${this.#position}`, timeoutMs))
      const cancel = this.clock.setTimer(late, timeoutMs, { keepAlive: true })
      this.#waiting.add(entry)
    })
  }

  /** Lets everybody down who waits. */
  end(error: Error): void {
    for (const entry of this.#waiting) entry.settle(error)
  }
}
