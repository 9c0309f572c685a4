import { RejectedError, withoutStack } from '../kernel/errors.js'
import type { CircuitState } from './circuit-options.js'

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

/** What `attempt` returns for a refusal. An error costs more than the whole refusal: it is made when it is read. */
export class Refusal {
  readonly ok = false
  #error: CircuitOpenError | undefined
  readonly #name: string | undefined
  readonly #state: CircuitState
  readonly #retryAfterMs: number | undefined
  readonly #cause: unknown

  constructor(name: string | undefined, state: CircuitState, retryAfterMs: number | undefined, cause: unknown) {
    this.#name = name
    this.#state = state
    this.#retryAfterMs = retryAfterMs
    this.#cause = cause
  }

  get error(): CircuitOpenError {
    const message = `circuit${this.#name === undefined ? '' : ` '${this.#name}'`} is ${this.#state}`
    const options = this.#cause === undefined ? undefined : { cause: this.#cause }
    return (this.#error ??= withoutStack(() => new CircuitOpenError(message, this.#retryAfterMs, options)))
  }
}
