import { checkMethods, checkNumber, checkObject, checkOneOf, invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { TimeoutError, withoutStack } from '../kernel/errors.js'
import { contextInside, policyOf, started, type ExecuteOptions, type Operation, type Policy } from '../kernel/policy.js'

/** How long, and what then. */
export interface TimeoutOptions {
  /** Milliseconds an operation may take. > 0, of any size; `Infinity`: as long as it likes. */
  readonly ms: number
  /**
   * Both abort the operation's signal with the `TimeoutError`. `'aggressive'`: the call then ends at once, and what the
   * operation still does is left to itself; so it does when the caller aborts. `'cooperative'`: the call ends when the operation
   * does; if that returns a value in spite of all, the value is returned. @defaultValue 'aggressive'
   */
  readonly strategy?: 'aggressive' | 'cooperative' | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * Ends calls that take too long, with a `TimeoutError` that is also the reason of the operation's signal. An abort by the
 * caller is never reported as a timeout. Leaves no timer and no listener, and never aborts a signal after the operation is done.
 * @param limit milliseconds, or all options
 * @throws InvalidOptionError when `ms` is not > 0.
 */
export function timeout(limit: number | TimeoutOptions): Policy {
  const {
    ms,
    strategy = 'aggressive',
    clock = systemClock,
  } = typeof limit === 'object' ? checkObject('options', limit) : { ms: limit }
  checkMethods('clock', clock, ['setTimer'])
  if (checkNumber('ms', ms, 0) === 0) invalid('ms', 'a number > 0', ms)
  const aggressive = checkOneOf('strategy', strategy, ['aggressive', 'cooperative']) === 'aggressive'

  return policyOf(<T>(operation: Operation<T>, options?: ExecuteOptions) => {
    const context = contextInside(options)
    if (context.aborted) return Promise.reject(context.reason)

    return new Promise<T>((resolve, reject) => {
      let expired: TimeoutError | undefined
      const expire = (): void => {
        if (context.aborted) return // the caller was first
        expired = withoutStack(() => new TimeoutError(`timed out after ${ms} ms`, ms))
        context.abort(expired)
        if (aggressive) reject(expired)
      }
      const cancel = clock.setTimer(expire, ms, KEEP_ALIVE)
      if (aggressive && context.followsOthers) {
        context.onAbort(() => {
          cancel()
          context.release()
          reject(context.reason)
        })
      }
      started(operation, context).then(
        (value) => {
          cancel()
          context.release()
          resolve(value)
        },
        (error) => {
          cancel()
          context.release()
          reject(expired ?? error)
        },
      )
    })
  })
}

const KEEP_ALIVE = { keepAlive: true }
