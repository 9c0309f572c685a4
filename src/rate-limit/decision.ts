import { RejectedError } from '../kernel/errors.js'
import type { Limit } from './limit.js'
import type { Taken } from './store.js'

/** What a limiter says to one call. */
export interface Decision {
  /** Whether it may pass. */
  readonly allowed: boolean
  /** Whole tokens left under {@link limit}. Integer ≥ 0. */
  readonly remaining: number
  /**
   * Whole milliseconds until the same call would pass, if nobody else takes tokens. 0 when it may pass; Infinity when it costs
   * more than the capacity.
   */
  readonly retryAfterMs: number
  /** Whole milliseconds until the bucket of {@link limit} is full, if nobody takes more. */
  readonly resetMs: number
  /** The limit that refuses (of several, the one that refuses longest); else the one with the fewest tokens left. */
  readonly limit: Limit
  /** Whether the store gave no answer in time, so that `onStoreFailure` decided. */
  readonly storeFailed: boolean
}

/** A rate limit refuses. The function did not run; `retryAfterMs` is `Infinity` when it costs more than the capacity. */
export class RateLimitedError extends RejectedError {
  readonly code = 'RATE_LIMITED'

  constructor(
    /** The decision behind it. */
    readonly decision: Decision,
  ) {
    const { limit, retryAfterMs, storeFailed } = decision
    const advice = retryAfterMs === Infinity ? 'costs more than its capacity' : `retry after ${retryAfterMs} ms`
    super(
      `rate limit '${limit.name}' refuses${storeFailed ? ', its store having failed' : ''}: ${advice}`,
      retryAfterMs,
    )
  }

  override get name(): string {
    return 'RateLimitedError'
  }
}

/** The decision that follows from what the store says of each limit. */
export function decisionOf({ allowed, buckets }: Taken, limits: readonly Limit[], storeFailed: boolean): Decision {
  let at = 0
  for (let i = 1; i < buckets.length; i++) {
    const tighter = allowed
      ? buckets[i]!.remaining < buckets[at]!.remaining
      : buckets[i]!.retryAfterMs > buckets[at]!.retryAfterMs
    if (tighter) at = i
  }
  const { remaining, retryAfterMs, resetMs } = buckets[at]!
  // An admitted call has nothing to wait for, though its bucket may not have as much again.
  return { allowed, remaining, retryAfterMs: allowed ? 0 : retryAfterMs, resetMs, limit: limits[at]!, storeFailed }
}
