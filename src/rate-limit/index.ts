export { isHoldfastError } from '../kernel/errors.js'
export { RateLimitedError, type Decision } from './decision.js'
export { perDay, perHour, perMinute, perSecond, type Limit, type LimitOptions } from './limit.js'
export { MemoryTokenBucketStore, type MemoryTokenBucketStoreOptions } from './memory.js'
export {
  RateLimiter,
  type RateLimiterEvents,
  type RateLimiterOptions,
  type Reservation,
  type StoreFailureRule,
} from './rate-limiter.js'
export type { BucketState, Taken, TokenBucketStore } from './store.js'
export { TokenBucket, type TakeOptions, type TokenBucketOptions } from './token-bucket.js'
