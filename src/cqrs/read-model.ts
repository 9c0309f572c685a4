import { checkFunction, checkNumber, checkPositive } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { TimeoutError } from '../kernel/errors.js'
import { CallContext } from '../kernel/policy.js'
import { orAbort } from '../kernel/signal.js'

/** A read model that follows a log of events. A `Subscription` of `holdfast/event-sourcing` is one. */
export interface ReadModel {
  /**
   * Resolves when every event up to `position` is in the read model.
   * @param timeoutMs how long to wait, in milliseconds; default: for good
   * @param signal aborting it ends the wait with its reason
   * @throws TimeoutError when the time is over.
   */
  reached(position: number, timeoutMs?: number, signal?: AbortSignal): Promise<void>
}

/** How a {@link pollingReadModel} looks. */
export interface PollingReadModelOptions {
  /** Milliseconds between two looks while somebody waits. > 0. @defaultValue 50 */
  readonly pollMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * A read model that another process builds, in a database of its own: `position` asks there how far it has come, for
 * instance `select pos from checkpoints where name = 'orders'`, as a number, which some drivers give as text. It is asked only while somebody waits, and once for all who
 * wait at the same time. What it throws ends the wait, and so does an answer that is no number.
 * @throws InvalidOptionError when an option is out of its range.
 */
export function pollingReadModel(
  position: () => number | PromiseLike<number>,
  { pollMs = 50, clock = systemClock }: PollingReadModelOptions = {},
): ReadModel {
  checkFunction('position', position)
  checkPositive('pollMs', pollMs)
  let looking: Promise<number> | undefined
  const look = (): Promise<number> => {
    looking ??= Promise.resolve()
      .then(position)
      .then((reached) => checkNumber('the result of position', reached, -Infinity)) // `NaN < 5` would pass for "reached"
      .finally(() => (looking = undefined))
    return looking
  }

  return {
    async reached(target, timeoutMs = Infinity, signal) {
      checkNumber('position', target, 0)
      checkNumber('timeoutMs', timeoutMs, 0)
      const wait = new CallContext(signal)
      const cancel = clock.setTimer(
        () => {
          looking = undefined // it may hang for good: who asks later asks anew
          wait.abort(new TimeoutError(`the read model did not reach ${target} within ${timeoutMs} ms`, timeoutMs))
        },
        timeoutMs,
        { keepAlive: true },
      )
      try {
        while ((await orAbort(look(), wait.signal)) < target) await clock.sleep(pollMs, wait.signal)
      } finally {
        cancel()
        wait.release()
      }
    },
  }
}
