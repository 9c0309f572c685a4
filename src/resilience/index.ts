export { InvalidOptionError, RejectedError, TimeoutError, isHoldfastError, isRejectedError } from '../kernel/errors.js'
export type { Clock } from '../kernel/clock.js'
export type { Unsubscribe } from '../kernel/emitter.js'
export type { Attempt, ExecuteOptions, Operation, OperationContext, Policy } from '../kernel/policy.js'
export type { Random } from '../kernel/random.js'
export { constant, exponential, type Backoff, type BackoffContext, type ExponentialOptions } from './backoff.js'
export { CircuitBreaker } from './circuit-breaker.js'
export { CircuitOpenError } from './circuit-open-error.js'
export type {
  CallOutcome,
  CircuitBreakerOptions,
  CircuitEvents,
  CircuitInitialState,
  CircuitSnapshot,
  CircuitState,
  GrowingOpenMs,
  HalfOpenOptions,
} from './circuit-options.js'
export { compose } from './compose.js'
export { retry, retryHistory, type RetryHistory, type RetryOptions, type RetryStop } from './retry.js'
export { timeout, type TimeoutOptions } from './timeout.js'
export type { RateThresholds, WindowCounts, WindowOptions } from './window.js'
