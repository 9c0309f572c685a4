import { checkInteger, checkNumber, checkString } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { isHoldfastError, StoreError, withoutStack } from '../kernel/errors.js'
import { contextOf, policyOf, type CallContext, type Policy } from '../kernel/policy.js'
import { decisionOf, RateLimitedError, type Decision } from './decision.js'
import { checkLimits, type Limit } from './limit.js'
import { MemoryTokenBucketStore } from './memory.js'
import type { Taken, TokenBucketStore } from './store.js'
import { StandIn, type StoreFailureRule } from './store-failure.js'

export type { StoreFailureRule }

/** What a {@link RateLimiter} limits, and where it counts. */
export interface RateLimiterOptions {
  /** One limit, or several that all must admit a call. Their names differ. */
  readonly limits: Limit | readonly Limit[]
  /** Where the buckets live. @defaultValue a new `MemoryTokenBucketStore` */
  readonly store?: TokenBucketStore | undefined
  /** Stands before each limit's name in the store, so that limiters with like limits can share one. @defaultValue `''` */
  readonly prefix?: string | undefined
  /** Who decides when the store gives no answer. @defaultValue `'allow'` */
  readonly onStoreFailure?: StoreFailureRule | undefined
  /**
   * Milliseconds within which there is a decision: a store that has not answered 2 ms before (or by half of it, if that is
   * later) has failed. > 0. @defaultValue 50
   */
  readonly storeTimeoutMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/** What a {@link RateLimiter} tells its listeners. */
export interface RateLimiterEvents {
  /** A call was refused. */
  readonly refused: { readonly key: string; readonly cost: number; readonly decision: Decision }
  /** The store threw or was too late. */
  readonly storeFailed: { readonly key: string; readonly error: unknown }
}

/** Tokens taken ahead of a piece of work that may not happen. */
export interface Reservation {
  /** Whether the tokens were taken. */
  readonly decision: Decision
  /**
   * Gives the tokens back, once: a second call does nothing more. Nothing is given back where nothing was taken.
   * @throws StoreError when the store can't be reached: they may or may not be back.
   */
  cancel(): Promise<void>
}

/**
 * Limits how often things are done per key (user, address, tenant): one limiter for all keys. Each key has a token bucket
 * per limit; a call passes when all have its cost, and takes it from all in one atomic step, or takes nothing.
 */
export class RateLimiter {
  /** The limits, in the order given. */
  readonly limits: readonly Limit[]
  /** The same under the names that the store sees. */
  readonly #stored: readonly Limit[]
  readonly #store: TokenBucketStore
  readonly #standIn: StandIn
  readonly #storeTimeoutMs: number
  readonly #clock: Clock
  readonly #events = new Emitter<RateLimiterEvents>()

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor({
    limits,
    clock = systemClock,
    store = new MemoryTokenBucketStore({ clock }),
    prefix = '',
    onStoreFailure = 'allow',
    storeTimeoutMs = 50,
  }: RateLimiterOptions) {
    checkString('prefix', prefix, 0)
    this.limits = checkLimits(limits)
    this.#stored = prefix === '' ? this.limits : this.limits.map((l) => ({ ...l, name: prefix + l.name }))
    this.#store = store
    this.#standIn = new StandIn(onStoreFailure, this.limits, clock)
    this.#storeTimeoutMs = checkNumber('storeTimeoutMs', storeTimeoutMs, Number.MIN_VALUE)
    this.#clock = clock
  }

  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof RateLimiterEvents>(name: K, listener: (event: RateLimiterEvents[K]) => unknown): Unsubscribe {
    return this.#events.on(name, listener)
  }

  /**
   * Takes `cost` tokens under every limit, or none. Never rejects for a failing store: `onStoreFailure` decides then.
   * @param cost integer ≥ 0; 0 is {@link peek} @defaultValue 1
   * @throws InvalidOptionError when an argument is anything else: nothing has changed.
   */
  consume(key: string, cost: number = 1): Promise<Decision> {
    let asked: Promise<Taken>
    try {
      check(key, cost)
      const answer = this.#store.take(key, cost, this.#stored)
      // A store in this process has answered already: not async, this makes one promise and nothing else.
      if (!isPromise(answer)) return Promise.resolve(this.#told(key, cost, decisionOf(answer, this.limits, false)))
      asked = this.#inTime(answer)
    } catch (error) {
      asked = Promise.reject(error)
    }
    return this.#answered(key, cost, asked)
  }

  /** What a call of cost 1 would be told now. Takes nothing. @throws InvalidOptionError when `key` is no string. */
  peek(key: string): Promise<Decision> {
    return this.consume(key, 0)
  }

  /**
   * Puts `cost` tokens back under every limit; what would go over the top is lost. What has come back by itself since they
   * were taken is not reckoned with, so give back soon.
   * @param cost integer ≥ 0 @defaultValue 1
   * @throws InvalidOptionError when an argument is anything else: nothing has changed.
   * @throws StoreError when the store fails: it may or may not have happened.
   */
  async refund(key: string, cost: number = 1): Promise<void> {
    check(key, cost)
    await this.#change(key, () => this.#store.adjust(key, cost, this.#stored))
  }

  /**
   * Takes `cost` tokens under every limit even if they are not there: `key` is refused until they have come back.
   * @param cost integer ≥ 0 @defaultValue 1
   * @throws InvalidOptionError when an argument is anything else: nothing has changed.
   * @throws StoreError when the store fails: it may or may not have happened.
   */
  async penalize(key: string, cost: number = 1): Promise<void> {
    check(key, cost)
    await this.#change(key, () => this.#store.adjust(key, -cost, this.#stored))
  }

  /**
   * Makes every bucket of `key` full.
   * @throws InvalidOptionError when `key` is no string.
   * @throws StoreError when the store fails: it may or may not have happened.
   */
  async reset(key: string): Promise<void> {
    check(key, 0)
    await this.#change(key, () => this.#store.reset(key, this.#stored))
  }

  /**
   * As {@link consume}, and can be undone. Look at `decision.allowed`: a refused reservation holds nothing.
   * @throws InvalidOptionError as there.
   */
  async reserve(key: string, cost: number = 1): Promise<Reservation> {
    const decision = await this.consume(key, cost)
    let cancelled: Promise<void> | undefined
    const cancel = async (): Promise<void> => {
      if (!decision.allowed) return
      if (decision.storeFailed) this.#standIn.refund(key, cost)
      else await this.refund(key, cost)
    }
    return { decision, cancel: () => (cancelled ??= cancel()) }
  }

  /**
   * This limiter as a policy around calls on behalf of `key`. A call that is aborted while the store is asked may be counted.
   * @param cost integer ≥ 0, of each call @defaultValue 1
   * @throws InvalidOptionError when an argument is anything else. Calls are refused with {@link RateLimitedError}.
   */
  for(key: string, cost: number = 1): Policy {
    check(key, cost)
    return policyOf(async (operation, options) => {
      const call = contextOf(options)
      try {
        if (call.aborted) throw call.reason
        const asked = this.consume(key, cost)
        const decision = await (options ? orAborted(asked, call) : asked)
        if (!decision.allowed) throw withoutStack(() => new RateLimitedError(decision))
        return await operation(call)
      } finally {
        if (call !== options) call.release()
      }
    })
  }

  /** The decision once the store has answered or failed. */
  async #answered(key: string, cost: number, asked: Promise<Taken>): Promise<Decision> {
    let decision: Decision
    try {
      decision = decisionOf(await asked, this.limits, false)
    } catch (error) {
      if (isHoldfastError(error, 'INVALID_OPTION')) throw error
      if (this.#events.has('storeFailed')) this.#events.emit('storeFailed', { key, error })
      decision = this.#standIn.take(key, cost)
    }
    return this.#told(key, cost, decision)
  }

  /** `decision`, of which listeners have heard. */
  #told(key: string, cost: number, decision: Decision): Decision {
    if (!decision.allowed && cost > 0 && this.#events.has('refused'))
      this.#events.emit('refused', { key, cost, decision })
    return decision
  }

  async #change(key: string, change: () => void | Promise<void>): Promise<void> {
    try {
      const done = change()
      if (isPromise(done)) await this.#inTime(done)
    } catch (error) {
      if (isHoldfastError(error, 'INVALID_OPTION')) throw error
      if (this.#events.has('storeFailed')) this.#events.emit('storeFailed', { key, error })
      throw isHoldfastError(error) ? error : new StoreError('the store failed', { cause: error })
    }
  }

  /** Settles as `answer` does, if it does so in time; what comes later is nobody's any more. */
  #inTime<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const ms = this.#storeTimeoutMs
      const late = (): void => reject(withoutStack(() => new StoreError(`the store gave no answer within ${ms} ms`)))
      const cancel = this.#clock.setTimer(late, Math.max(ms / 2, ms - TIMER_MS), { keepAlive: true })
      answer.then(
        (value) => {
          cancel()
          resolve(value)
        },
        (error) => {
          cancel()
          reject(error)
        },
      )
    })
  }
}

/** So much later than asked a timer may fire on a host that is idle: it is taken off what the caller waits. */
const TIMER_MS = 2

function check(key: string, cost: number): void {
  if (typeof key !== 'string') checkString('key', key, 0)
  if (!(Number.isSafeInteger(cost) && cost >= 0)) checkInteger('cost', cost, 0)
}

/** Also a promise of another realm, or of another library. */
const isPromise = <T>(value: T | Promise<T>): value is Promise<T> =>
  typeof (value as { then?: unknown } | undefined)?.then === 'function'

/** Settles as `answer` does, unless `call` is aborted first: then at once, with its reason. */
function orAborted<T>(answer: Promise<T>, call: CallContext): Promise<T> {
  return new Promise((resolve, reject) => {
    const forget = call.onAbort(() => reject(call.reason))
    answer.finally(forget).then(resolve, reject)
  })
}
