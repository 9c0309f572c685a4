import { checkFunction, checkInteger, checkMethods, checkNumber, checkObject } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { familyOf, isHoldfastError } from '../kernel/errors.js'
import {
  contextInside,
  contextOf,
  policyOf,
  started,
  type CallContext,
  type ExecuteOptions,
  type Operation,
  type Policy,
} from '../kernel/policy.js'
import { systemRandom, type Random } from '../kernel/random.js'
import { exponential, type Backoff } from './backoff.js'
import type { RetryBudget } from './retry-budget.js'
import { retryAfterOf } from './retry-after.js'

/** When to try again, and when to stop. */
export interface RetryOptions {
  /** Tries in all, the first one included. Integer ≥ 1, or `Infinity`. @defaultValue 3 */
  readonly attempts?: number | undefined
  /** How long to wait before the next try. @defaultValue `exponential()` */
  readonly backoff?: Backoff | undefined
  /**
   * Whether to try again after `error`; `attempt` is the try that threw it, from 1. Is not asked after the caller has aborted.
   * What it throws ends the call.
   * @defaultValue whatever was thrown, but for mistakes in the caller's code (`InvalidOptionError` and its family)
   */
  readonly retryOn?: ((error: unknown, attempt: number) => boolean) | undefined
  /**
   * Whether a returned `value` is a failure to try again after, such as a response 503; the last one is returned as it is.
   * Otherwise as {@link retryOn}. @defaultValue no value is
   */
  readonly retryOnValue?: ((value: unknown, attempt: number) => boolean) | undefined
  /** No try begins later than this many milliseconds after the first; a wait that would end later is not begun. ≥ 0. @defaultValue no limit */
  readonly maxElapsedMs?: number | undefined
  /** A `Retry-After` or `retryAfterMs` longer than this ends the call at once. In milliseconds, ≥ 0. @defaultValue 60_000 */
  readonly maxRetryAfterMs?: number | undefined
  /**
   * What extra tries are taken from; when it is empty, the call ends with the error it has. Share one among all that call the
   * same service. @defaultValue no limit
   */
  readonly budget?: Pick<RetryBudget, 'deposit' | 'withdraw'> | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** For the jitter of the backoff. @defaultValue Math.random */
  readonly random?: Random | undefined
}

/** Why a retry stopped without success. */
export type RetryStop =
  /** All tries are used up. */
  | 'attempts'
  /** `retryOn` said no. */
  | 'not-retryable'
  /** The next wait would end after `maxElapsedMs`. */
  | 'max-elapsed'
  /** The other side asks for a wait longer than `maxRetryAfterMs`. */
  | 'retry-after'
  /** The `budget` has no extra try left. */
  | 'budget'
  /** A circuit inside is open, and there is no `maxElapsedMs` to wait within. */
  | 'circuit-open'
  /** The caller aborted while the last try ran. */
  | 'aborted'

/** What went before the error that came out of a retry. */
export interface RetryHistory {
  /** What the tries threw (or returned, when `retryOnValue` refused it), oldest first; the last is the error itself. At most the latest 100. */
  readonly errors: readonly unknown[]
  /** How many tries there were. Integer ≥ 1. */
  readonly attempts: number
  /** Why there was no other. */
  readonly stoppedBy: RetryStop
  /** What the other side asked to wait after the last try, in milliseconds. */
  readonly retryAfterMs: number | undefined
}

/** Beside the errors, not on them: a frozen error can't take a property, and one thrown by two calls should keep none. */
const histories = new WeakMap<object, RetryHistory>()

/**
 * The tries behind an error (or refused value) that came out of {@link retry}; `undefined` for anything else, and for what is
 * no object. When calls share one error object, the history is that of the one that ended last.
 */
export function retryHistory(error: unknown): RetryHistory | undefined {
  return typeof error === 'object' && error !== null ? histories.get(error) : undefined
}

/**
 * Tries again what has failed, after a wait. The error of the last try comes out as the same object; {@link retryHistory} has
 * those before and says why it stopped. What the other side asks for (`Retry-After`, `retryAfterMs`) is waited for at least.
 * Around an open circuit it stops, or with `maxElapsedMs` waits for the trial if that is in time. An abort during a wait ends the
 * call at once with `signal.reason`.
 * @throws InvalidOptionError when an option is out of its range.
 */
export function retry(settings: RetryOptions = {}): Policy {
  const {
    attempts = 3,
    backoff = exponential(),
    retryOn = mayHelp,
    retryOnValue,
    maxElapsedMs,
    maxRetryAfterMs = 60_000,
    budget,
    clock = systemClock,
    random = systemRandom,
  } = checkObject('options', settings)
  if (attempts !== Infinity) checkInteger('attempts', attempts, 1)
  checkFunction('backoff', backoff)
  checkFunction('retryOn', retryOn)
  if (retryOnValue !== undefined) checkFunction('retryOnValue', retryOnValue)
  if (maxElapsedMs !== undefined) checkNumber('maxElapsedMs', maxElapsedMs, 0)
  checkNumber('maxRetryAfterMs', maxRetryAfterMs, 0)
  if (budget !== undefined) checkMethods('budget', budget, ['deposit', 'withdraw'])
  checkMethods('clock', clock, ['now', 'epochMs', 'setTimer'])
  checkFunction('random', random)

  /** How long to wait after a try that failed, or why not to try again. */
  const plan = (tries: Tries, failure: unknown): number | RetryStop => {
    const { attempt, previousMs, retryAfterMs, startedAt } = tries
    if (attempt >= attempts) return 'attempts'
    if (retryAfterMs !== undefined && (retryAfterMs > maxRetryAfterMs || retryAfterMs === Infinity))
      return 'retry-after'
    if (isHoldfastError(failure, 'CIRCUIT_OPEN') && (maxElapsedMs === undefined || retryAfterMs === undefined))
      return 'circuit-open'
    const backoffMs = checkNumber(
      'backoff',
      backoff(attempt, failure, { previousMs, random }),
      0,
      Number.MAX_SAFE_INTEGER,
    )
    const waitMs = Math.max(backoffMs, retryAfterMs ?? 0)
    if (maxElapsedMs !== undefined && clock.now() - startedAt + waitMs > maxElapsedMs) return 'max-elapsed'
    return budget && !budget.withdraw() ? 'budget' : waitMs // last: what is withdrawn is used
  }

  /** What follows a first try that has thrown `result`, or returned it (`returned`) and may have to do it again. */
  const goOn = async <T>({ operation, context, tries }: Call<T>, result: unknown, returned: boolean): Promise<T> => {
    for (;;) {
      const decides = returned && retryOnValue ? retryOnValue : retryOn
      const again = !context.aborted && decides(result, tries.attempt)
      if (returned && !again) return result as T

      tries.errors.push(result)
      if (tries.errors.length > KEPT_ERRORS) tries.errors.shift()
      tries.retryAfterMs = retryAfterOf(result, clock)
      const decision = again ? plan(tries, result) : context.aborted ? 'aborted' : 'not-retryable'
      if (typeof decision === 'string') {
        remember(result, tries, decision)
        if (returned) return result as T
        throw result
      }
      tries.previousMs = decision
      if (decision > 0 && !context.aborted) await pause(decision, context, clock)
      if (context.aborted) throw context.reason // perhaps by `retryOn` or `backoff`

      const own = contextInside(context, ++tries.attempt)
      returned = false
      try {
        result = await operation(own)
        if (!retryOnValue) return result as T
        returned = true
      } catch (error) {
        result = error
      } finally {
        own.release()
      }
    }
  }

  // Most calls end with their first try: it makes nothing that only the others need.
  return policyOf(<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T> => {
    const context = contextOf(options)
    if (context.aborted) return Promise.reject(context.reason)
    budget?.deposit()
    const startedAt = maxElapsedMs === undefined ? 0 : clock.now()
    const first = context.attempt === 1 ? context : contextInside(context, 1)
    const more = (result: unknown, returned: boolean): Promise<T> => {
      const tries: Tries = { attempt: 1, startedAt, previousMs: undefined, retryAfterMs: undefined, errors: [] }
      // The signal of the first try must not abort once that is over: so the rest has a context of its own.
      const rest = contextInside(options)
      if (first !== context) first.release()
      if (context !== options) context.release()
      return goOn({ operation, context: rest, tries }, result, returned).finally(() => rest.release())
    }
    return started(operation, first).then(
      (value) => {
        if (retryOnValue) return more(value, true)
        if (first !== context) first.release()
        if (context !== options) context.release()
        return value
      },
      (error) => more(error, false),
    )
  })
}

const KEPT_ERRORS = 100

const mayHelp = (error: unknown): boolean => familyOf(error) !== 'invalid'

/** One call, once its first try has not been enough. */
interface Call<T> {
  readonly operation: Operation<T>
  readonly context: CallContext
  readonly tries: Tries
}

/** How far one call has come. */
interface Tries {
  attempt: number
  readonly startedAt: number
  previousMs: number | undefined
  retryAfterMs: number | undefined
  readonly errors: unknown[]
}

function remember(failure: unknown, { errors, attempt, retryAfterMs }: Tries, stoppedBy: RetryStop): void {
  if (typeof failure === 'object' && failure !== null)
    histories.set(failure, { errors, attempts: attempt, stoppedBy, retryAfterMs })
}

/** Resolves after `ms`; rejects with the reason as soon as the call is aborted. Makes no signal. */
function pause(ms: number, context: CallContext, clock: Clock): Promise<void> {
  return new Promise((resolve, reject) => {
    const cancel = clock.setTimer(
      () => {
        forget()
        resolve()
      },
      ms,
      { keepAlive: true },
    )
    const forget = context.onAbort(() => {
      cancel()
      reject(context.reason)
    })
  })
}
