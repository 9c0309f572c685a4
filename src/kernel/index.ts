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
export type {
  Attempt,
  AttemptDone,
  AttemptRefused,
  ExecuteOptions,
  Operation,
  OperationContext,
  Policy,
} from './policy.js'
export type { SqlDatabase, SqlEmbedded, SqlPool, SqlPoolClient, SqlQueryable, SqlResult } from './postgres.js'
export type { Random } from './random.js'
export type { IoRedisLike, NodeRedisLike, RedisClient } from './redis.js'
export type { SchemaFailure, SchemaIssue, SchemaResult, SchemaSuccess, SchemaTypes, StandardSchema } from './schema.js'
