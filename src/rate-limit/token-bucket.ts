import { checkInteger, checkNumber } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { onAbort } from '../kernel/signal.js'
import { RateLimitedError, type Decision } from './decision.js'
import { meterOf, stateOf, ticksAt, type Meter } from './gcra.js'
import type { Limit } from './limit.js'

/** Shape of a {@link TokenBucket}. */
export interface TokenBucketOptions {
  /** Tokens in the full bucket: the most that passes at once. Integer ≥ 1. */
  readonly capacity: number
  /** Tokens that come back per second. In (0, 100_000_000]; the bucket fills in 70 years or less. */
  readonly refillPerSecond: number
  /** Tokens at the start. Integer in [0, capacity]. @defaultValue `capacity` */
  readonly initial?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/** How long, and among how many, {@link TokenBucket.take} may wait. */
export interface TakeOptions {
  /** Aborting it ends the wait with `signal.reason`; no token is taken, and those behind move up at once. */
  readonly signal?: AbortSignal | undefined
  /** Longest wait in milliseconds; a call that would wait longer is refused at once. ≥ 0. @defaultValue Infinity */
  readonly maxWaitMs?: number | undefined
  /** Most callers that wait, this one included; one more is refused at once. Integer ≥ 0. @defaultValue no limit */
  readonly maxWaiters?: number | undefined
}

interface Waiter {
  readonly tokens: number
  readonly signal: AbortSignal | undefined
  readonly admit: () => void
}

/** Above this rate the ticks of some years no longer fit a double exactly. */
const FASTEST_LOCAL = 1e8

/**
 * One token bucket in this process: over any span of w seconds at most `capacity + refillPerSecond × w` tokens pass.
 * Decides at once, with integers only (GCRA, ITU-T I.371): no token is lost or made by rounding, at any rate.
 */
export class TokenBucket {
  readonly #limit: Limit
  readonly #meter: Meter
  readonly #clock: Clock
  /** Time counts from here, so that ticks stay small. */
  readonly #start: number
  /** The bucket's whole state: the tick at which it is full again. */
  #fullAt: number
  /** Who waits, in order of arrival. A Set: leaving from the middle costs nothing. */
  readonly #waiters = new Set<Waiter>()
  #waitingTokens = 0
  #stopTimer: (() => void) | undefined

  /** @throws InvalidOptionError when a number is out of its range. */
  constructor({ capacity, refillPerSecond, initial = capacity, clock = systemClock }: TokenBucketOptions) {
    checkInteger('capacity', capacity, 1)
    checkInteger('initial', initial, 0, capacity)
    this.#limit = Object.freeze({ name: 'bucket', capacity, refillPerSecond })
    this.#meter = meterOf(this.#limit, FASTEST_LOCAL)
    this.#clock = clock
    this.#start = clock.now()
    this.#fullAt = (capacity - initial) * this.#meter.ticksPerToken
  }

  /** Whole tokens that can be taken now. Integer ≥ 0; 0 while somebody waits. */
  get available(): number {
    return this.#waiters.size > 0 ? 0 : stateOf(this.#backlog(this.#now()), 1, this.#meter).remaining
  }

  /**
   * Takes `tokens` and says `true`, or changes nothing and says `false`: also while others wait, who came first.
   * A cost of 0 tells whether 1 could be taken.
   * @param tokens integer ≥ 0 @defaultValue 1
   * @throws InvalidOptionError when `tokens` is anything else: nothing has changed.
   */
  tryTake(tokens: number = 1): boolean {
    if (!(Number.isSafeInteger(tokens) && tokens >= 0)) checkInteger('tokens', tokens, 0)
    if (this.#waiters.size > 0) return false
    return this.#tryTakeAt(this.#now(), tokens)
  }

  /** As {@link tryTake}, and tells what is left and when to come back. @throws InvalidOptionError as there. */
  decide(tokens: number = 1): Decision {
    checkInteger('tokens', tokens, 0)
    const now = this.#now()
    const allowed = this.#waiters.size === 0 && this.#tryTakeAt(now, tokens)
    return this.#decision(now, tokens, allowed)
  }

  /**
   * Takes `tokens`, waiting for them if need be. First come, first served: a big cost at the head is not overtaken.
   * @param tokens integer ≥ 0 @defaultValue 1
   * @throws InvalidOptionError when an argument is out of its range.
   * @throws RateLimitedError at once, when the cost is above the capacity, the wait would be longer than `maxWaitMs`, or
   * there would be more than `maxWaiters`. Nothing was taken.
   */
  take(tokens: number = 1, { signal, maxWaitMs = Infinity, maxWaiters }: TakeOptions = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      checkInteger('tokens', tokens, 0)
      checkNumber('maxWaitMs', maxWaitMs, 0)
      if (maxWaiters !== undefined) checkInteger('maxWaiters', maxWaiters, 0)
      if (signal?.aborted) return reject(signal.reason)
      const now = this.#now()
      if (tokens === 0 || (this.#waiters.size === 0 && this.#tryTakeAt(now, tokens))) return resolve()
      const { retryAfterMs } = this.#decision(now, tokens, false)
      if (retryAfterMs === Infinity || retryAfterMs > maxWaitMs || this.#waiters.size >= (maxWaiters ?? Infinity))
        return reject(new RateLimitedError(this.#decision(now, tokens, false)))
      this.#wait(tokens, resolve, reject, signal)
    })
  }

  #wait(tokens: number, resolve: () => void, reject: (reason: unknown) => void, signal?: AbortSignal): void {
    const waiter: Waiter = {
      tokens,
      signal,
      admit: () => {
        forget?.()
        resolve()
      },
    }
    const forget =
      signal &&
      onAbort(signal, () => {
        const wasFirst = waiter === this.#first()
        this.#leave(waiter)
        reject(signal.reason)
        if (wasFirst) this.#serve()
      })
    this.#waiters.add(waiter)
    this.#waitingTokens += tokens
    if (this.#waiters.size === 1) this.#serve()
  }

  /** Admits from the head as far as the tokens go, and comes back when there are enough for the next. */
  #serve(): void {
    this.#stopTimer?.()
    this.#stopTimer = undefined
    const now = this.#now()
    for (const waiter of this.#waiters) {
      if (waiter.signal?.aborted) {
        this.#leave(waiter) // by the signal that freed the head too: its caller is told when its turn to hear comes
        continue
      }
      if (!this.#tryTakeAt(now, waiter.tokens)) {
        const { retryAfterMs } = stateOf(this.#backlog(now), waiter.tokens, this.#meter)
        this.#stopTimer = this.#clock.setTimer(() => this.#serve(), retryAfterMs, { keepAlive: true })
        return
      }
      this.#leave(waiter)
      waiter.admit()
    }
  }

  #leave(waiter: Waiter): void {
    if (this.#waiters.delete(waiter)) this.#waitingTokens -= waiter.tokens
  }

  #first(): Waiter | undefined {
    for (const waiter of this.#waiters) return waiter
    return undefined
  }

  #decision(now: number, tokens: number, allowed: boolean): Decision {
    const { ticksPerToken } = this.#meter
    // Those who wait have as good as taken theirs.
    const backlog = this.#backlog(now) + this.#waitingTokens * ticksPerToken
    const { remaining, retryAfterMs, resetMs } = stateOf(backlog, tokens, this.#meter)
    return {
      allowed,
      remaining,
      retryAfterMs: allowed ? 0 : Math.max(1, retryAfterMs), // there may be enough, for those whose timer is late
      resetMs,
      limit: this.#limit,
      storeFailed: false,
    }
  }

  #tryTakeAt(now: number, tokens: number): boolean {
    const { ticksPerToken, size } = this.#meter
    const before = this.#fullAt > now ? this.#fullAt : now
    const after = before + (tokens || 1) * ticksPerToken
    if (after - now > size) return false
    if (tokens > 0) this.#fullAt = after
    return true
  }

  #backlog(now: number): number {
    return Math.max(0, this.#fullAt - now)
  }

  #now(): number {
    return ticksAt(Math.round((this.#clock.now() - this.#start) * 1e3), this.#meter)
  }
}
