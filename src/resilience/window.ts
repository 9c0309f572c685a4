import { checkInteger, checkNumber, checkObject, checkPositive, invalid } from '../kernel/check.js'

/** A window counts as bad whatever share of calls is at or above these. */
export interface RateThresholds {
  /** Calls that must be in the window before a share of them means anything. Integer ≥ 1. */
  readonly minimumCalls: number
  /** Share of failed calls at which the circuit opens (at it, not only above). In (0, 1]. */
  readonly failureRatio: number
  /** A call that takes this many milliseconds or more is slow, failed or not. > 0. @defaultValue no call is slow */
  readonly slowCallMs?: number | undefined
  /** Share of slow calls at which the circuit opens. In (0, 1]. Only with `slowCallMs`. @defaultValue 1 */
  readonly slowRatio?: number | undefined
}

/** What a closed circuit judges by. Memory and the cost of a result do not grow with the number of calls. */
export type WindowOptions =
  | {
      /** Failures in a row; one success starts the count anew. */
      readonly kind: 'consecutive'
      /** How many in a row open the circuit. Integer ≥ 1. @defaultValue 5 */
      readonly failures?: number | undefined
    }
  | ({
      /** The last `size` calls. */
      readonly kind: 'count'
      /** Integer ≥ `minimumCalls`. One byte each. */
      readonly size: number
    } & RateThresholds)
  | ({
      /** The calls of the last `durationMs` milliseconds, in ten buckets: the oldest tenth is forgotten at once. */
      readonly kind: 'time'
      /** ≥ 1, in milliseconds. */
      readonly durationMs: number
    } & RateThresholds)

/** What a window holds now. */
export interface WindowCounts {
  /** Calls that were judged. Integer ≥ 0. */
  readonly calls: number
  /** Those that failed. */
  readonly failures: number
  /** Those that were slow; one that was slow and failed stands in both. */
  readonly slow: number
}

/** Counts of calls, as far back as the window reaches. */
export interface CallWindow {
  /** Takes in one call that ended at `now`. @returns whether the circuit must open */
  record(failed: boolean, slow: boolean, now: number): boolean
  /** What it holds at `now`. */
  counts(now: number): WindowCounts
  /** Forgets all calls. */
  clear(): void
}

/** A window and the two settings that the circuit itself needs. */
export interface WindowSetup {
  readonly window: CallWindow
  /** `Infinity` when no call is slow. */
  readonly slowCallMs: number
  /** Share of slow trials at which a half-open circuit opens again. */
  readonly slowRatio: number
  /** Whether `record` looks at `now`. */
  readonly needsNow: boolean
}

/** @throws InvalidOptionError for a window that can't be. */
export function windowOf(options: WindowOptions): WindowSetup {
  const kind: unknown = checkObject('window', options).kind
  if (options.kind === 'consecutive') {
    const failures = checkInteger('window.failures', options.failures ?? 5, 1)
    return { window: new ConsecutiveWindow(failures), slowCallMs: Infinity, slowRatio: 1, needsNow: false }
  }
  if (options.kind !== 'count' && options.kind !== 'time')
    return invalid('window.kind', "'consecutive', 'count' or 'time'", kind)
  if (options.slowRatio !== undefined && options.slowCallMs === undefined)
    invalid('window.slowCallMs', 'a number > 0, because slowRatio is set', undefined)
  const limits: Limits = {
    minimumCalls: checkInteger('window.minimumCalls', options.minimumCalls, 1),
    failureRatio: checkRatio('window.failureRatio', options.failureRatio),
    slowRatio: checkRatio('window.slowRatio', options.slowRatio ?? 1),
  }
  const slowCallMs =
    options.slowCallMs === undefined ? Infinity : checkPositive('window.slowCallMs', options.slowCallMs)
  const window =
    options.kind === 'count'
      ? new CountWindow(checkInteger('window.size', options.size, limits.minimumCalls, 2 ** 30), limits)
      : new TimeWindow(checkNumber('window.durationMs', options.durationMs, 1, Number.MAX_SAFE_INTEGER), limits)
  return { window, slowCallMs, slowRatio: limits.slowRatio, needsNow: options.kind === 'time' }
}

/** `value` if it is in (0, 1]. @throws InvalidOptionError otherwise. */
export const checkRatio = (option: string, value: unknown): number =>
  value === 0 ? invalid(option, 'a number in (0, 1]', value) : checkNumber(option, value, 0, 1)

interface Limits {
  readonly minimumCalls: number
  readonly failureRatio: number
  readonly slowRatio: number
}

// Divides, and never multiplies: 3 / 10 is the same double as 0.3, but 0.3 * 10 need not be 3.
const opens = (calls: number, failures: number, slow: number, limits: Limits): boolean =>
  failures + slow > 0 && // spares a healthy circuit the divisions
  calls >= limits.minimumCalls &&
  (failures / calls >= limits.failureRatio || slow / calls >= limits.slowRatio)

class ConsecutiveWindow implements CallWindow {
  #failures = 0
  readonly #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  record(failed: boolean): boolean {
    this.#failures = failed ? this.#failures + 1 : 0
    return this.#failures >= this.#limit
  }

  counts(): WindowCounts {
    return { calls: this.#failures, failures: this.#failures, slow: 0 }
  }

  clear(): void {
    this.#failures = 0
  }
}

const FAILED = 1
const SLOW = 2

class CountWindow implements CallWindow {
  #ring: Uint8Array | undefined // made at the first call: a hundred thousand idle circuits own none
  #next = 0
  #calls = 0
  #failures = 0
  #slow = 0
  readonly #size: number
  readonly #limits: Limits

  constructor(size: number, limits: Limits) {
    this.#size = size
    this.#limits = limits
  }

  record(failed: boolean, slow: boolean): boolean {
    const ring = (this.#ring ??= new Uint8Array(this.#size))
    const oldest = ring[this.#next]!
    if (this.#calls < this.#size) this.#calls++
    this.#failures += (failed ? 1 : 0) - (oldest & FAILED)
    this.#slow += (slow ? 1 : 0) - (oldest >> 1)
    ring[this.#next] = (failed ? FAILED : 0) | (slow ? SLOW : 0)
    this.#next = this.#next + 1 === this.#size ? 0 : this.#next + 1
    return opens(this.#calls, this.#failures, this.#slow, this.#limits)
  }

  counts(): WindowCounts {
    return { calls: this.#calls, failures: this.#failures, slow: this.#slow }
  }

  clear(): void {
    this.#ring?.fill(0)
    this.#next = this.#calls = this.#failures = this.#slow = 0
  }
}

const BUCKETS = 10

class TimeWindow implements CallWindow {
  #buckets: Float64Array | undefined // calls, failures, slow of each bucket; made at the first call
  #last = 0 // number of the newest bucket, counted from the clock's start
  #lastEndsAt = 0
  #calls = 0
  #failures = 0
  #slow = 0
  readonly #bucketMs: number
  readonly #limits: Limits

  constructor(durationMs: number, limits: Limits) {
    this.#bucketMs = durationMs / BUCKETS
    this.#limits = limits
  }

  record(failed: boolean, slow: boolean, now: number): boolean {
    const buckets = (this.#buckets ??= new Float64Array(3 * BUCKETS))
    if (now >= this.#lastEndsAt) this.#expire(now)
    const at = 3 * (this.#last % BUCKETS)
    this.#calls++
    buckets[at]!++
    if (failed) {
      this.#failures++
      buckets[at + 1]!++
    }
    if (slow) {
      this.#slow++
      buckets[at + 2]!++
    }
    return opens(this.#calls, this.#failures, this.#slow, this.#limits)
  }

  counts(now: number): WindowCounts {
    this.#expire(now)
    return { calls: this.#calls, failures: this.#failures, slow: this.#slow }
  }

  clear(): void {
    this.#buckets?.fill(0)
    this.#calls = this.#failures = this.#slow = 0
  }

  #expire(now: number): void {
    const current = Math.floor(now / this.#bucketMs)
    this.#lastEndsAt = (current + 1) * this.#bucketMs
    if (current <= this.#last) return
    const buckets = this.#buckets
    if (!buckets || current - this.#last >= BUCKETS) this.clear()
    else {
      for (let n = this.#last + 1; n <= current; n++) {
        const at = 3 * (n % BUCKETS)
        this.#calls -= buckets[at]!
        this.#failures -= buckets[at + 1]!
        this.#slow -= buckets[at + 2]!
        buckets.fill(0, at, at + 3)
      }
    }
    this.#last = current
  }
}
