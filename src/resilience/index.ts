export { InvalidOptionError, RejectedError, TimeoutError, isHoldfastError, isRejectedError } from '../kernel/errors.js'
export type { Clock } from '../kernel/clock.js'
export type { Unsubscribe } from '../kernel/emitter.js'
export type { Attempt, ExecuteOptions, Operation, OperationContext, Policy } from '../kernel/policy.js'
export type { Random } from '../kernel/random.js'
export { constant, exponential, type Backoff, type BackoffContext, type ExponentialOptions } from './backoff.js'
export {
  adaptiveConcurrency,
  type AdaptiveConcurrency,
  type AdaptiveConcurrencyEvents,
  type AdaptiveConcurrencyOptions,
} from './adaptive-concurrency.js'
export { bulkhead, type Bulkhead, type BulkheadEvents, type BulkheadOptions, type QueueOptions } from './bulkhead.js'
export { BulkheadFullError } from './bulkhead-full-error.js'
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
  TrialRules,
} from './circuit-options.js'
export { compose, type Composed } from './compose.js'
export { fallback, type FallbackOf, type FallbackOptions, type FallbackPolicy } from './fallback.js'
export { hedge, type HedgeOptions } from './hedge.js'
export { RetryBudget, type RetryBudgetOptions } from './retry-budget.js'
export { RetryBudgetExhaustedError } from './retry-budget-exhausted-error.js'
export { MemoryCircuitBreakerStore, type MemoryCircuitBreakerStoreOptions } from './memory.js'
export type {
  CircuitBreakerStore,
  CircuitLedger,
  CircuitMember,
  FleetOptions,
  LocalCircuit,
  SharedCircuit,
  SharedCircuitState,
  TrialLease,
  TrialResult,
} from './store.js'
export { retry, retryHistory, type RetryHistory, type RetryOptions, type RetryStop } from './retry.js'
export { timeout, type TimeoutOptions } from './timeout.js'
export type { RateThresholds, WindowCounts, WindowOptions } from './window.js'
