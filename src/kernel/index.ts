export { systemClock, type Clock } from './clock.js'
export { jsonCodec, type Codec } from './codec.js'
export type { Unsubscribe } from './emitter.js'
export {
  ClosedError,
  ConflictError,
  CorruptDataError,
  HoldfastError,
  InvalidOptionError,
  InvalidPayloadError,
  NotFoundError,
  RejectedError,
  StoreError,
  TimeoutError,
  UncertainError,
  familyOf,
  isConflictError,
  isHoldfastError,
  isRejectedError,
  isUncertainError,
  type ErrorFamily,
  type PayloadIssue,
} from './errors.js'
export type { Attempt, ExecuteOptions, Operation, OperationContext, Policy } from './policy.js'
export type { SqlDatabase, SqlEmbedded, SqlPool, SqlQueryable } from './postgres.js'
export type { Random } from './random.js'
export type { IoRedisLike, NodeRedisLike, RedisClient } from './redis.js'
export type { StandardSchema } from './schema.js'
