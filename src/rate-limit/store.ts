import type { Limit } from './limit.js'

/**
 * Where the buckets of a {@link RateLimiter} live. A bucket belongs to one key under one limit (its `name` and
 * `refillPerSecond`; two capacities share a bucket). One that was never touched is full, and a full one is forgotten.
 * Keys and names are any strings. Arguments come checked: integers, limits with different names. A list of limits is not
 * changed after it was passed in. A store in this process answers at once; others with a promise.
 *
 * Contract: `test/conformance/token-bucket-store.ts`.
 */
export interface TokenBucketStore {
  /**
   * Takes `cost` tokens from the bucket of `key` under every limit, or from none: one atomic step, also among callers in
   * other processes. A refused call changes nothing. A cost of 0 never changes anything, and tells what a cost of 1 would.
   * @param cost integer ≥ 0; above a capacity it is always refused
   * @param limits at least one
   * @throws StoreError when the store can't be reached: the tokens may or may not have been taken.
   */
  take(key: string, cost: number, limits: readonly Limit[]): Taken | Promise<Taken>

  /**
   * Puts `tokens` into the bucket of `key` under every limit, in one atomic step; what would go over the top is lost. A
   * negative number takes them even if they are not there: the bucket is then below empty, and refuses until it is back.
   * @param tokens integer
   * @throws StoreError when the store can't be reached: it may or may not have happened.
   */
  adjust(key: string, tokens: number, limits: readonly Limit[]): void | Promise<void>

  /**
   * Makes the bucket of `key` full under every limit, in one atomic step.
   * @throws StoreError when the store can't be reached: it may or may not have happened.
   */
  reset(key: string, limits: readonly Limit[]): void | Promise<void>
}

/** The answer to {@link TokenBucketStore.take}. */
export interface Taken {
  /** Whether every limit admits the cost, so that it was taken; for a cost of 0, whether a cost of 1 would be now. */
  readonly allowed: boolean
  /** The buckets as they are after this call, in the order of the limits. */
  readonly buckets: readonly BucketState[]
}

/** One bucket after a call. */
export interface BucketState {
  /** Whole tokens left. Integer ≥ 0. */
  readonly remaining: number
  /**
   * Whole milliseconds until this bucket alone admits the same cost (1 for a cost of 0); 0 when it does so now, Infinity
   * when its capacity is smaller.
   */
  readonly retryAfterMs: number
  /** Whole milliseconds until it is full, if nobody takes more. 0 when it is full. */
  readonly resetMs: number
}
