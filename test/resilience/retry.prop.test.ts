import { getEventListeners } from 'node:events'
import { expect } from 'vitest'
import { retry, retryHistory, type OperationContext, type RetryStop } from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

/** How one try ends, `ms` after its turn has come. */
interface Plan {
  readonly as: 'ok' | 'fail' | 'fatal' | 'ask'
  readonly ms: number
}
interface Failure extends Error {
  readonly fatal: boolean
  readonly retryAfterMs: number | undefined
}
/** What was seen of one try. */
interface Try {
  readonly attempt: number
  readonly startedAt: number
  endedAt: number
  result: unknown
}

const ATTEMPTS = 4
const BACKOFF_MS = 20
const MAX_RETRY_AFTER_MS = 100

const plan = fc.record<Plan>({
  as: fc.constantFrom('fail', 'fail', 'fail', 'ok', 'fatal', 'ask'),
  ms: fc.constantFrom(0, 5, 30, 150),
})
const call = fc.record({
  plans: fc.array(plan, { minLength: ATTEMPTS, maxLength: ATTEMPTS }),
  abortMs: fc.option(fc.nat({ max: 200 }), { nil: undefined, freq: 2 }),
})

prop(
  'in any order of ends, waits and aborts: one try at a time, none too early, too late or too many, and the history tells all',
  [
    fc.array(call, { minLength: 1, maxLength: 4 }),
    fc.option(fc.constantFrom(0, 60, 300), { nil: undefined, freq: 2 }),
    fc.scheduler(),
  ],
  async (calls, maxElapsedMs, scheduler) => {
    const clock = new ManualClock()
    const policy = retry({
      attempts: ATTEMPTS,
      backoff: (attempt) => attempt * BACKOFF_MS,
      retryOn: (error) => !(error as Failure).fatal,
      maxElapsedMs,
      maxRetryAfterMs: MAX_RETRY_AFTER_MS,
      clock,
    })
    const running = calls.map(({ plans, abortMs }) => {
      const controller = new AbortController()
      const tries: Try[] = []
      const startedAt = clock.now()
      let abortedAt = Infinity
      const operation = async ({ attempt, signal }: OperationContext): Promise<string> => {
        expect(tries.every(({ endedAt }) => endedAt < Infinity)).toBe(true) // one at a time
        const { as, ms } = plans[attempt - 1]!
        const one: Try = { attempt, startedAt: clock.now(), endedAt: Infinity, result: undefined }
        tries.push(one)
        expect(signal.aborted).toBe(false)
        await scheduler.schedule(Promise.resolve(), `try ${attempt}`)
        await clock.sleep(ms)
        one.endedAt = clock.now()
        one.result =
          as === 'ok'
            ? 'ok'
            : Object.assign(new Error(as), { fatal: as === 'fatal', retryAfterMs: as === 'ask' ? ms : undefined })
        if (as !== 'ok') throw one.result
        return 'ok'
      }
      let endedAt = Infinity
      const result = policy
        .execute(operation, { signal: controller.signal })
        .then(
          (value) => ({ value }),
          (error: unknown) => ({ error }),
        )
        .finally(() => {
          endedAt = clock.now()
          cancel()
        })
      const cancel = clock.setTimer(() => {
        abortedAt = clock.now()
        controller.abort('stop')
      }, abortMs ?? Infinity)
      return {
        tries,
        controller,
        result,
        startedAt,
        seen: () => ({ abortedAt, endedAt }),
      }
    })
    const all = Promise.all(running.map(({ result }) => result))
    for (let turn = 0; (await Promise.race([all, settle().then(() => 'waits')])) === 'waits'; turn++) {
      if (scheduler.count() > 0 && turn % 2 === 0) await scheduler.waitOne()
      else await clock.advance(7)
    }
    expect(clock.pendingTimers).toBe(0)

    for (const { tries, controller, result, startedAt, seen } of running) {
      const { abortedAt, endedAt } = seen()
      const last = tries.at(-1)!
      expect(tries.map(({ attempt }) => attempt)).toEqual(tries.map((_, i) => i + 1))
      const waitAfter = ({ attempt, result: failure }: Try): number =>
        Math.max(attempt * BACKOFF_MS, (failure as Failure).retryAfterMs ?? 0)
      for (const [i, one] of tries.slice(1).entries()) {
        expect(one.startedAt - tries[i]!.endedAt).toBeGreaterThanOrEqual(waitAfter(tries[i]!))
        expect(one.startedAt).toBeLessThanOrEqual(abortedAt)
        expect(tries[i]!.endedAt + waitAfter(tries[i]!) - startedAt).toBeLessThanOrEqual(maxElapsedMs ?? Infinity)
      }

      const outcome = await result
      if ('value' in outcome) expect(last.result).toBe('ok')
      else if (outcome.error === 'stop') {
        expect(endedAt).toBe(abortedAt) // in a wait, at once
        expect(last.endedAt).toBeLessThanOrEqual(abortedAt)
      } else {
        const failure = last.result as Failure
        expect(outcome.error).toBe(failure)
        let why: RetryStop | undefined
        if (abortedAt <= last.endedAt) why = 'aborted'
        else if (failure.fatal) why = 'not-retryable'
        else if (last.attempt === ATTEMPTS) why = 'attempts'
        else if ((failure.retryAfterMs ?? 0) > MAX_RETRY_AFTER_MS) why = 'retry-after'
        else if (last.endedAt - startedAt + waitAfter(last) > (maxElapsedMs ?? Infinity)) why = 'max-elapsed'
        expect(retryHistory(failure)).toEqual({
          errors: tries.map((one) => one.result),
          attempts: tries.length,
          stoppedBy: why,
          retryAfterMs: failure.retryAfterMs,
        })
      }
      expect(getEventListeners(controller.signal, 'abort')).toEqual([])
    }
  },
)
