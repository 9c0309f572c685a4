export { constant, exponential, type Backoff, type BackoffContext, type ExponentialOptions } from './backoff.js'
