import { RejectedError } from '../kernel/errors.js'

/**
 * All places are taken, and so is the queue, or a place did not come free in time. The user's function did not run. Has no
 * stack trace: where the call stands, its `await` shows.
 */
export class BulkheadFullError extends RejectedError {
  readonly code = 'BULKHEAD_FULL'

  override get name(): string {
    return 'BulkheadFullError'
  }
}
