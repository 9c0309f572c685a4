import { checkMethods, checkNumber, checkObject, checkPositive } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { withoutStack } from '../kernel/errors.js'
import { RetryBudgetExhaustedError } from './retry-budget-exhausted-error.js'

/** How much may be tried again. */
export interface RetryBudgetOptions {
  /** Extra tries per first try: 0.1 lets the load grow by a tenth at most. In [0, 1000]. @defaultValue 0.2 */
  readonly ratio?: number | undefined
  /** Extra tries per second that are always there, so that a caller with little load may try again too. ≥ 0. @defaultValue 10 */
  readonly minPerSecond?: number | undefined
  /** How far back first tries count, in milliseconds. > 0. @defaultValue 10_000 */
  readonly windowMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * A limit on extra tries, as a share of the first ones: when everything fails, retries and hedges do not become a load of
 * their own. Shared by all policies it is given to. Whenever one is granted, the extra tries of the last window are at most
 * `ratio` × its first tries + `minPerSecond` × its seconds (it is forgotten by tenths). Holds no timer, and as much memory for a million calls as for one.
 * Source: the retry budgets of Finagle and Linkerd.
 */
export class RetryBudget {
  readonly #ratio: number
  readonly #floor: number
  readonly #sliceMs: number
  readonly #clock: Clock
  readonly #firsts = new Float64Array(SLICES)
  readonly #extras = new Float64Array(SLICES)
  #last = 0

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(options: RetryBudgetOptions = {}) {
    const { ratio = 0.2, minPerSecond = 10, windowMs = 10_000, clock = systemClock } = checkObject('options', options)
    this.#ratio = checkNumber('ratio', ratio, 0, 1_000)
    this.#floor = (checkNumber('minPerSecond', minPerSecond, 0, 1e9) * checkPositive('windowMs', windowMs)) / 1_000
    this.#sliceMs = windowMs / SLICES
    this.#clock = checkMethods('clock', clock, ['now'])
  }

  /** Extra tries that would be granted now. ≥ 0; a part of one is none yet. */
  get available(): number {
    this.#expire()
    return Math.max(0, sum(this.#firsts) * this.#ratio + this.#floor - sum(this.#extras))
  }

  /** Counts a first try. */
  deposit(): void {
    this.#expire()
    this.#firsts[this.#last % SLICES]!++
  }

  /** Takes one extra try, if there is one. @returns whether there was */
  withdraw(): boolean {
    if (this.available < 1) return false
    this.#extras[this.#last % SLICES]!++
    return true
  }

  /**
   * As {@link withdraw}, for loops that are written by hand.
   * @throws RetryBudgetExhaustedError when there is none: nothing was taken.
   */
  take(): void {
    if (!this.withdraw()) throw withoutStack(() => new RetryBudgetExhaustedError('retry budget is exhausted'))
  }

  #expire(): void {
    const now = Math.min(Math.floor(this.#clock.now() / this.#sliceMs), Number.MAX_SAFE_INTEGER) // beyond it `slice++` stands still
    for (let slice = Math.max(this.#last, now - SLICES) + 1; slice <= now; slice++) {
      this.#firsts[slice % SLICES] = 0
      this.#extras[slice % SLICES] = 0
    }
    if (now > this.#last) this.#last = now
  }
}

const SLICES = 10

const sum = (numbers: Float64Array): number => numbers.reduce((a, b) => a + b, 0)
