import { checkFunction, checkInteger, checkMethods, checkNumber, checkObject, invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { familyOf } from '../kernel/errors.js'
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
import { RecentQuantile } from './recent-quantile.js'
import type { RetryBudget } from './retry-budget.js'

/** When a second attempt begins. At least one of `delayMs` and `delayQuantile` is set. */
export interface HedgeOptions {
  /**
   * Milliseconds after which another attempt begins beside those that run. ≥ 0. With `delayQuantile` it is used until enough
   * calls were seen. @defaultValue with `delayQuantile`: no hedge until then
   */
  readonly delayMs?: number | undefined
  /**
   * The delay is this quantile of how long the last 256 successful calls took, once 32 were seen: 0.95 hedges about one
   * call in twenty. In (0, 1).
   */
  readonly delayQuantile?: number | undefined
  /** Attempts in all, the first one included. Integer ≥ 1. @defaultValue 2 */
  readonly maxAttempts?: number | undefined
  /**
   * Whether another attempt may follow `error`. After an error of which it says no, none begins; those that run may still win.
   * @defaultValue every error but refusals (`RejectedError`) and mistakes of the caller (`InvalidOptionError` and its family)
   */
  readonly hedgeOn?: ((error: unknown) => boolean) | undefined
  /** What extra attempts are taken from; when it is empty there is none, and the first counts. @defaultValue no limit */
  readonly budget?: Pick<RetryBudget, 'deposit' | 'withdraw'> | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * Starts another attempt when the first is slow, or at once when it has failed; the first success counts, and the signals of
 * the others abort. For work that may happen twice: every attempt may have its effect. `attempt` is 1, 2, … in the
 * order they begin. When all have failed, an `AggregateError` has their errors in that order; when only one was made, its error
 * comes out as it is. The caller's abort ends the call at once, and all attempts. Nothing is left of a call that has ended.
 * Source: Dean & Barroso, "The Tail at Scale", CACM 2013.
 * @throws InvalidOptionError when an option is out of its range.
 */
export function hedge(options: HedgeOptions): Policy {
  const {
    delayMs,
    delayQuantile,
    maxAttempts = 2,
    hedgeOn = mayHelp,
    budget,
    clock = systemClock,
  } = checkObject('options', options)
  if (delayMs === undefined && delayQuantile === undefined)
    invalid('delayMs', 'a number ≥ 0, or delayQuantile', delayMs)
  if (delayMs !== undefined) checkNumber('delayMs', delayMs, 0)
  checkInteger('maxAttempts', maxAttempts, 1)
  checkFunction('hedgeOn', hedgeOn)
  if (budget !== undefined) checkMethods('budget', budget, ['deposit', 'withdraw'])
  checkMethods('clock', clock, ['now', 'setTimer'])
  const seen = delayQuantile === undefined ? undefined : new RecentQuantile(checkQuantile(delayQuantile))

  return policyOf(<T>(operation: Operation<T>, call?: ExecuteOptions) => {
    const outer = contextOf(call)
    if (outer.aborted) return Promise.reject(outer.reason)
    budget?.deposit()
    const startedAt = seen ? clock.now() : 0
    const delay = seen?.value ?? delayMs

    return new Promise<T>((resolve, reject) => {
      const running = new Set<CallContext>()
      const errors: unknown[] = []
      let attempts = 0
      let most = maxAttempts
      let ended = false
      let cancel: (() => void) | undefined
      let forget: (() => void) | undefined

      const end = (winner?: CallContext): void => {
        ended = true
        cancel?.()
        forget?.()
        if (outer !== call) outer.release()
        winner?.release()
        running.delete(winner!)
        if (running.size === 0 || outer.aborted) return
        const reason = new DOMException('another attempt was faster', 'AbortError')
        for (const loser of running) loser.abort(reason)
      }
      const abort = (): void => {
        end()
        reject(outer.reason)
      }
      const mayBegin = (): boolean => attempts < most && (budget === undefined || budget.withdraw())
      const begin = (): void => {
        const number = ++attempts
        const context = contextInside(outer, number)
        running.add(context)
        if (number === 1 && context.followsOthers) forget = outer.onAbort(abort)
        cancel?.()
        cancel =
          number < maxAttempts && delay !== undefined
            ? clock.setTimer(() => mayBegin() && begin(), delay, { keepAlive: true })
            : undefined
        started(operation, context).then(
          (value) => {
            if (ended) return
            seen?.add(clock.now() - startedAt)
            end(context)
            resolve(value)
          },
          (error: unknown) => {
            if (ended) return
            running.delete(context)
            context.release()
            errors[number - 1] = error
            let another: boolean
            try {
              if (!hedgeOn(error)) most = attempts
              if (ended) return // `hedgeOn` has aborted the call
              another = mayBegin()
            } catch (thrown) {
              end()
              return reject(thrown)
            }
            if (another) return begin()
            if (running.size > 0) return
            end()
            reject(attempts === 1 ? error : new AggregateError(errors, `all ${attempts} attempts failed`))
          },
        )
      }
      begin()
    })
  })
}

const mayHelp = (error: unknown): boolean => !['invalid', 'rejected'].includes(familyOf(error)!)

const checkQuantile = (quantile: number): number =>
  typeof quantile === 'number' && quantile > 0 && quantile < 1
    ? quantile
    : invalid('delayQuantile', 'a number in (0, 1)', quantile)
