import { RejectedError } from '../kernel/errors.js'

/**
 * The circuit is open, isolated, or half-open with its trials under way. The user's function did not run. `retryAfterMs` is
 * the rest of the open time, or how long the oldest trial may still take, or `undefined` when the circuit is isolated.
 * `cause` is the failure that opened the circuit. Has no stack trace: where the call stands, its `await` shows.
 */
export class CircuitOpenError extends RejectedError {
  readonly code = 'CIRCUIT_OPEN'

  override get name(): string {
    return 'CircuitOpenError'
  }
}
