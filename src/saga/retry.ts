import type { BackoffContext } from '../kernel/backoff.js'
import { reportError } from '../kernel/report.js'
import type { RetryPlan } from './definition.js'

/** Whether a body that has failed `failures` times, the last with `error`, gets another attempt. A `when` that throws says no. */
export function mayRetry(plan: RetryPlan, failures: number, error: unknown): boolean {
  if (failures >= plan.attempts) return false
  try {
    return plan.when(error)
  } catch (thrown) {
    reportError(thrown)
    return false
  }
}

/** Milliseconds before the next attempt, finite and ≥ 0. A `backoff` that throws or gives no such number means 0. */
export function delayBefore(plan: RetryPlan, failures: number, error: unknown, context: BackoffContext): number {
  try {
    const delay = plan.backoff(failures, error, context)
    if (delay >= 0 && delay < Infinity) return delay
    reportError(new TypeError(`backoff gave ${delay} ms: not a finite number ≥ 0`))
  } catch (thrown) {
    reportError(thrown)
  }
  return 0
}
