import { RejectedError } from '../kernel/errors.js'

/** A `RetryBudget` has no extra try left. The extra try did not run; what the first one did is another matter. */
export class RetryBudgetExhaustedError extends RejectedError {
  readonly code = 'RETRY_BUDGET_EXHAUSTED'

  override get name(): string {
    return 'RetryBudgetExhaustedError'
  }
}
