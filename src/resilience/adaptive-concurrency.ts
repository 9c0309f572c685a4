import { checkFunction, checkInteger, checkObject, checkOneOf } from '../kernel/check.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { isHoldfastError } from '../kernel/errors.js'
import type { Attempt, ExecuteOptions, Operation } from '../kernel/policy.js'
import { systemRandom, type Random } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import { queueOf, type Bulkhead, type BulkheadEvents, type QueueOptions } from './bulkhead.js'
import { aimd, gradient, vegas, type LimitAlgorithm } from './concurrency-limit.js'
import { Gate } from './gate.js'

/** How the limit is found. */
export interface AdaptiveConcurrencyOptions extends QueueOptions {
  /**
   * `'gradient'` and `'vegas'` look at how long calls take, and so react before any is lost: `'gradient'` for servers whose times
   * vary, `'vegas'` for those with steady times. `'aimd'` looks at drops alone. @defaultValue 'gradient'
   */
  readonly algorithm?: 'gradient' | 'vegas' | 'aimd' | undefined
  /** Where the limit starts. Integer in [`min`, `max`]. @defaultValue 20, or the nearest to it that is allowed */
  readonly initial?: number | undefined
  /** The limit is never lower. Integer ≥ 1. @defaultValue 1 */
  readonly min?: number | undefined
  /** The limit is never higher. Integer ≥ `min`. @defaultValue 1_000 */
  readonly max?: number | undefined
  /**
   * Whether what a call threw says that the other side is overloaded. Other errors tell nothing of load and are not looked at;
   * neither are calls that their caller has aborted. @defaultValue a `TimeoutError`
   */
  readonly isDropped?: ((error: unknown) => boolean) | undefined
  /** For the moments at which time without load is measured. @defaultValue Math.random */
  readonly random?: Random | undefined
}

/** What an adaptive limit tells those who listen. */
export interface AdaptiveConcurrencyEvents extends BulkheadEvents {
  /** The limit has changed. Integers. */
  limitChange: { readonly from: number; readonly to: number }
}

/** A limit on the calls that run at once, which finds itself. */
export interface AdaptiveConcurrency extends Bulkhead {
  /** Calls that may run at once now. Integer in [`min`, `max`]. */
  readonly limit: number
  /** Calls `listener` at each event `name`. What it throws is reported, and changes nothing. @returns stops it */
  on<K extends keyof AdaptiveConcurrencyEvents>(
    name: K,
    listener: (event: AdaptiveConcurrencyEvents[K]) => unknown,
  ): Unsubscribe
}

/**
 * A bulkhead that finds its size: it lets in more as long as the other side keeps up, and less as soon as it does not.
 * Calls beyond the limit wait or are refused with `BulkheadFullError`, as under `bulkhead`. Memory does not grow with
 * the number of calls, and an idle one holds no timer. Source: Netflix's concurrency-limits.
 * @throws InvalidOptionError when an option is out of its range.
 */
export function adaptiveConcurrency(options: AdaptiveConcurrencyOptions = {}): AdaptiveConcurrency {
  return new AdaptiveGate(options)
}

const isTimeout = (error: unknown): boolean => isHoldfastError(error, 'TIMEOUT')

class AdaptiveGate implements AdaptiveConcurrency {
  readonly #gate: Gate
  readonly #min: number
  readonly #max: number
  readonly #algorithm: LimitAlgorithm
  readonly #isDropped: (error: unknown) => boolean
  #exact: number
  #events: Emitter<AdaptiveConcurrencyEvents> | undefined
  // The round so far.
  #ended = 0
  #succeeded = 0
  #tookMs = 0
  #busiest = 0
  #dropped = false

  constructor(options: AdaptiveConcurrencyOptions) {
    const {
      algorithm = 'gradient',
      min = 1,
      max = 1_000,
      initial,
      isDropped = isTimeout,
      random = systemRandom,
    } = checkObject('options', options)
    this.#min = checkInteger('min', min, 1)
    this.#max = checkInteger('max', max, min)
    this.#exact = checkInteger('initial', initial ?? Math.min(max, Math.max(min, 20)), min, max)
    this.#isDropped = checkFunction('isDropped', isDropped)
    checkFunction('random', random)
    checkOneOf('algorithm', algorithm, ['gradient', 'vegas', 'aimd'])
    this.#algorithm = algorithm === 'aimd' ? aimd() : algorithm === 'vegas' ? vegas(random) : gradient(random)
    const queue = queueOf(options)
    const { clock } = queue
    this.#gate = new Gate(this.#exact, queue, {
      begin: (running) => {
        if (running > this.#busiest) this.#busiest = running
        return clock.now()
      },
      end: (begunAt, failed, error, aborted) => {
        if (!aborted) this.#see(clock.now() - begunAt, failed, error)
      },
    })
  }

  get limit(): number {
    return this.#gate.limit
  }

  get running(): number {
    return this.#gate.running
  }

  get queued(): number {
    return this.#gate.queued
  }

  on<K extends keyof AdaptiveConcurrencyEvents>(
    name: K,
    listener: (event: AdaptiveConcurrencyEvents[K]) => unknown,
  ): Unsubscribe {
    if (name === 'limitChange') return (this.#events ??= new Emitter()).on(name, listener)
    return this.#gate.on(name, listener as never)
  }

  execute<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T> {
    return this.#gate.execute(operation, options)
  }

  attempt<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<Attempt<T>> {
    return this.#gate.attempt(operation, options)
  }

  wrap<A extends unknown[], T>(fn: (...args: A) => T | PromiseLike<T>): (...args: A) => Promise<T> {
    return this.#gate.wrap(fn)
  }

  #judge(error: unknown): boolean {
    try {
      return this.#isDropped(error)
    } catch (thrown) {
      reportError(thrown)
      return isTimeout(error)
    }
  }

  #see(tookMs: number, failed: boolean, error: unknown): void {
    if (!failed) {
      this.#succeeded++
      this.#tookMs += tookMs
    } else if (this.#judge(error)) this.#dropped = true
    else return // an error that comes quickly would pass for a server without load
    if (++this.#ended < Math.max(FEWEST, this.#exact)) return

    const rttMs = this.#succeeded === 0 ? undefined : this.#tookMs / this.#succeeded
    const round = { rttMs, busiest: this.#busiest, dropped: this.#dropped }
    this.#ended = this.#succeeded = this.#tookMs = this.#busiest = 0
    this.#dropped = false
    this.#exact = Math.min(this.#max, Math.max(this.#min, this.#algorithm.next(this.#exact, round)))
    const from = this.#gate.limit
    const to = Math.round(this.#exact)
    if (from === to) return
    this.#gate.limit = to
    this.#events?.emit('limitChange', { from, to })
  }
}

/** Calls of a round, at least: fewer say too little. */
const FEWEST = 10
