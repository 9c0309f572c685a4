import { checkNumber } from '../kernel/check.js'
import { sleepOn, type Clock } from '../kernel/clock.js'

/** Where a {@link ManualClock} starts. */
export interface ManualClockOptions {
  /** First value of `now()`, in milliseconds. ≥ 0. @defaultValue 1_000 */
  readonly now?: number | undefined
  /** First value of `epochMs()`. @defaultValue 2026-01-01T00:00:00Z */
  readonly epochMs?: number | undefined
}

/** A clock that stands still until it is told to move. For tests: nothing waits, and the order of timers is fixed. */
export class ManualClock implements Clock {
  #now: number
  #epochOffset: number
  #order = 0
  readonly #timers = new Set<{ readonly at: number; readonly order: number; readonly fn: () => void }>()

  /** @throws InvalidOptionError when a number is out of its range. */
  constructor({ now = 1_000, epochMs = Date.UTC(2026, 0, 1) }: ManualClockOptions = {}) {
    this.#now = checkNumber('now', now, 0, LONGEST)
    this.#epochOffset = checkNumber('epochMs', epochMs, -8.64e15, 8.64e15) - now
  }

  now(): number {
    return this.#now
  }

  epochMs(): number {
    return Math.floor(this.#now + this.#epochOffset)
  }

  /** How many timers wait: 0 shows that nothing was left behind. */
  get pendingTimers(): number {
    return this.#timers.size
  }

  /** Milliseconds until the next timer falls due; `Infinity`: none waits. */
  get nextTimerMs(): number {
    const next = this.#next(Infinity)
    return next ? Math.max(0, next.at - this.#now) : Infinity
  }

  setTimer(fn: () => void, ms: number): () => void {
    if (ms === Infinity) return () => {}
    const timer = { at: this.#now + Math.max(0, ms), order: this.#order++, fn }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal)
  }

  /**
   * Moves time on by `ms` milliseconds and fires what falls due, in order of time, then of making. Promises settle before
   * the first timer, between two, and after the last; timers that are made meanwhile fire too when they fall due.
   * @throws InvalidOptionError when `ms` is negative or no number. What a timer throws comes out too; the time is then its own.
   */
  async advance(ms: number): Promise<void> {
    const end = this.#now + checkNumber('ms', ms, 0, LONGEST)
    await settle()
    for (let next = this.#next(end); next; next = this.#next(end)) {
      this.#now = Math.max(this.#now, next.at)
      this.#timers.delete(next)
      next.fn()
      await settle()
    }
    this.#now = Math.max(this.#now, end) // another advance() may have gone further meanwhile
  }

  /** Sets the wall clock forward or, with a negative number, back, as an operator or NTP does. `now()` does not notice. */
  jumpEpoch(ms: number): void {
    this.#epochOffset += checkNumber('ms', ms, -LONGEST, LONGEST)
  }

  #next(end: number): { readonly at: number; readonly order: number; readonly fn: () => void } | undefined {
    let first: { readonly at: number; readonly order: number; readonly fn: () => void } | undefined
    for (const timer of this.#timers) {
      if (timer.at <= end && (!first || timer.at < first.at || (timer.at === first.at && timer.order < first.order)))
        first = timer
    }
    return first
  }
}

const LONGEST = Number.MAX_SAFE_INTEGER

/** Lets every promise that can settle without I/O or timers do so. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
