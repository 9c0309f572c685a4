import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import {
  CircuitBreaker,
  compose,
  hedge,
  InvalidOptionError,
  RetryBudget,
  type HedgeOptions,
  type OperationContext,
} from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { deferred, failing, ok } from './calls.js'

const make = (options: Partial<HedgeOptions> = {}) => {
  const clock = new ManualClock()
  return { clock, policy: hedge({ delayMs: 100, clock, ...options }) }
}

/** An operation whose attempts end by hand. */
function byHand() {
  const attempts: (ReturnType<typeof deferred<string>> & { context: OperationContext })[] = []
  const operation = (context: OperationContext): Promise<string> => {
    const attempt = { ...deferred<string>(), context }
    void context.signal
    attempts.push(attempt)
    return attempt.promise
  }
  return { attempts, operation }
}

test('a call that ends in time is made once, and its timer goes', async () => {
  const { clock, policy } = make()
  const { attempts, operation } = byHand()
  const call = policy.execute(operation)
  await clock.advance(99)
  attempts[0]!.resolve('first')
  await expect(call).resolves.toBe('first')
  expect([attempts.length, clock.pendingTimers, attempts[0]!.context.signal.aborted]).toEqual([1, 0, false])
})

test('after the delay another attempt begins; the first success counts, and the signal of the other aborts', async () => {
  const { clock, policy } = make()
  const { attempts, operation } = byHand()
  const call = policy.execute(operation)
  await clock.advance(100)
  expect(attempts.map(({ context }) => context.attempt)).toEqual([1, 2])
  attempts[1]!.resolve('second')
  await expect(call).resolves.toBe('second')
  expect(attempts.map(({ context }) => context.signal.aborted)).toEqual([true, false])
  expect(attempts[0]!.context.signal.reason).toMatchObject({ name: 'AbortError' })
  attempts[0]!.reject(new Error('late, and nobody’s unhandled rejection'))
  await settle()
  expect(clock.pendingTimers).toBe(0)
})

test('the first failure starts the next attempt at once, and the delay counts anew', async () => {
  const { clock, policy } = make({ maxAttempts: 3 })
  const { attempts, operation } = byHand()
  const call = policy.execute(operation)
  await clock.advance(40)
  attempts[0]!.reject(new Error('one'))
  await settle()
  expect(attempts.length).toBe(2)
  await clock.advance(99)
  expect(attempts.length).toBe(2)
  await clock.advance(1)
  expect(attempts.length).toBe(3)
  attempts[2]!.resolve('third')
  await expect(call).resolves.toBe('third')
})

test('when all have failed there is one AggregateError, with the errors in the order of the attempts', async () => {
  const { clock, policy } = make()
  const { attempts, operation } = byHand()
  const call = policy.execute(operation).catch((error: unknown) => error)
  await clock.advance(100)
  const errors = [new Error('first'), new Error('second')]
  attempts[1]!.reject(errors[1])
  await settle()
  attempts[0]!.reject(errors[0])
  const error = (await call) as AggregateError
  expect(error).toBeInstanceOf(AggregateError)
  expect(error.errors).toEqual(errors)
  expect(error.message).toBe('all 2 attempts failed')
  expect(clock.pendingTimers).toBe(0)
})

test('with an empty budget there is no other attempt, and the first counts, also when it fails', async () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 0, minPerSecond: 0, clock })
  const policy = hedge({ delayMs: 100, budget, clock })
  const slow = byHand()
  const call = policy.execute(slow.operation)
  await clock.advance(1_000)
  slow.attempts[0]!.resolve('first')
  await expect(call).resolves.toBe('first')
  expect(slow.attempts.length).toBe(1)

  const error = new Error('its own')
  await expect(policy.execute(() => Promise.reject(error))).rejects.toBe(error)
  expect(clock.pendingTimers).toBe(0)
})

test('extra attempts are taken from the budget, one each', async () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 1, minPerSecond: 0, clock })
  const policy = hedge({ delayMs: 100, budget, clock })
  await expect(policy.execute(failing('no'))).rejects.toThrow('all 2 attempts failed')
  expect(budget.available).toBe(0)
})

test('the caller’s abort ends the call and every attempt at once, and leaves nothing', async () => {
  const { clock, policy } = make()
  const { attempts, operation } = byHand()
  const controller = new AbortController()
  const call = policy.execute(operation, { signal: controller.signal })
  await clock.advance(100)
  controller.abort('enough')
  await expect(call).rejects.toBe('enough')
  expect(attempts.map(({ context }) => context.signal.reason as unknown)).toEqual(['enough', 'enough'])
  expect([clock.pendingTimers, getEventListeners(controller.signal, 'abort').length]).toEqual([0, 0])
  await expect(policy.execute(operation, { signal: controller.signal })).rejects.toBe('enough')
  expect(attempts.length).toBe(2)
})

test('a refusal and a mistake of the caller start no other attempt, and come out as they are', async () => {
  const clock = new ManualClock()
  const open = new CircuitBreaker({ clock, initialState: { state: 'open' } })
  const policy = compose(hedge({ delayMs: 100, clock }), open)
  expect(await policy.attempt(ok)).toMatchObject({ ok: false, error: { code: 'CIRCUIT_OPEN' } })
  let runs = 0
  const wrong = make().policy.execute(() => {
    runs++
    throw new InvalidOptionError('wrong')
  })
  await expect(wrong).rejects.toThrow('wrong')
  expect(runs).toBe(1)
})

test('hedgeOn decides what another attempt may follow; what it throws ends the call', async () => {
  let runs = 0
  const no = make({ hedgeOn: (error) => (error as Error).message !== 'final' }).policy
  await expect(no.execute(() => (runs++, failing('final')()))).rejects.toThrow('final')
  expect(runs).toBe(1)
  const { clock, policy } = make({
    hedgeOn: () => {
      throw new Error('from hedgeOn')
    },
  })
  await expect(policy.execute(failing('no'))).rejects.toThrow('from hedgeOn')
  expect(clock.pendingTimers).toBe(0)
})

test('after an error of which hedgeOn says no none begins, whatever the others come to', async () => {
  const hedgeOn = (error: unknown): boolean => (error as Error).message !== 'final'
  const { clock, policy } = make({ delayMs: 10, maxAttempts: 4, hedgeOn })
  const began: number[] = []
  const call = policy.execute(async ({ attempt }) => {
    began.push(attempt)
    await clock.sleep(attempt === 1 ? 15 : 50)
    throw new Error(attempt === 1 ? 'final' : 'again')
  })
  const ended = expect(call).rejects.toMatchObject({ errors: [{ message: 'final' }, { message: 'again' }] })
  await clock.advance(200)
  await ended
  expect(began).toEqual([1, 2])
  expect(clock.pendingTimers).toBe(0)
})

test('the delay follows the quantile of what was seen, once that is enough, and forgets', async () => {
  const { clock, policy } = make({ delayMs: undefined, delayQuantile: 0.9 })
  const take = async (ms: number): Promise<number> => {
    let attempts = 0
    const call = policy.execute(() => (attempts++, clock.sleep(ms)))
    await clock.advance(ms * 3)
    await call
    return attempts
  }
  for (let i = 1; i <= 31; i++) expect(await take(i)).toBe(1) // too few to know
  await take(32)
  expect(await take(28)).toBe(1)
  expect(await take(40)).toBe(2)
  for (let i = 0; i < 272; i++) await take(500)
  expect(await take(450)).toBe(1)
})

test('two hundred calls on one signal leave one listener, and none at the end', async () => {
  const { clock, policy } = make()
  const { signal } = new AbortController()
  const { attempts, operation } = byHand()
  const calls = Array.from({ length: 200 }, () => policy.execute(operation, { signal }))
  await clock.advance(100)
  expect(getEventListeners(signal, 'abort')).toHaveLength(1)
  for (const { resolve } of attempts) resolve('ok')
  await Promise.all(calls)
  expect([getEventListeners(signal, 'abort').length, clock.pendingTimers]).toEqual([0, 0])
})

test.each([
  [{}, 'delayMs: expected a number ≥ 0, or delayQuantile, got undefined'],
  [{ delayMs: -1 }, 'delayMs: expected a number ≥ 0, got -1'],
  [{ delayQuantile: 1 }, 'delayQuantile: expected a number in (0, 1), got 1'],
  [{ delayQuantile: '0.5' }, 'delayQuantile: expected a number in (0, 1), got "0.5"'],
  [{ delayMs: 1, maxAttempts: 0 }, 'maxAttempts: expected an integer ≥ 1, got 0'],
  [{ delayMs: 1, budget: {} }, 'budget.deposit: expected a function, got undefined'],
  [{ delayMs: 1, clock: {} }, 'clock.now: expected a function, got undefined'],
])('options %j: %s', (options, message) => {
  expect(() => hedge(options as HedgeOptions)).toThrow(message)
})

prop(
  'in any order of delays, ends and aborts: one winner, the losers aborted, errors complete, nothing left',
  [
    fc.integer({ min: 1, max: 4 }),
    fc.array(fc.record({ ms: fc.nat({ max: 300 }), fails: fc.boolean() }), { minLength: 4, maxLength: 4 }),
    fc.option(fc.nat({ max: 400 }), { nil: undefined }),
    fc.scheduler(),
  ],
  async (maxAttempts, plans, abortMs, scheduler) => {
    const { clock, policy } = make({ maxAttempts })
    const controller = new AbortController()
    const contexts: OperationContext[] = []
    const ended: boolean[] = []
    const operation = async (context: OperationContext): Promise<number> => {
      const number = context.attempt
      const { ms, fails } = plans[number - 1]!
      contexts.push(context)
      void context.signal
      await clock.sleep(ms)
      await scheduler.schedule(Promise.resolve(), `attempt ${number}`)
      ended[number] = true
      if (fails) throw new Error(`${number}`)
      return number
    }
    const call = policy.execute(operation, { signal: controller.signal })
    const result = call.then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    )
    if (abortMs !== undefined) clock.setTimer(() => controller.abort('stop'), abortMs)
    void clock.advance(5_000)
    while ((await Promise.race([result, settle().then(() => 'waits')])) === 'waits') {
      if (scheduler.count() > 0) await scheduler.waitOne()
    }
    const outcome = await result
    expect(contexts.map(({ attempt }) => attempt)).toEqual(contexts.map((_, i) => i + 1))
    expect(contexts.length).toBeLessThanOrEqual(maxAttempts)
    const aborted = contexts.map(({ signal }) => signal.aborted)
    if ('value' in outcome) {
      expect(plans[outcome.value - 1]!.fails).toBe(false)
      expect(aborted[outcome.value - 1]).toBe(false)
      contexts.forEach(({ attempt }, i) => {
        if (attempt !== outcome.value && !ended[attempt]) expect(aborted[i]).toBe(true)
      })
    } else if (outcome.error === 'stop') {
      expect(aborted.every((is, i) => is || ended[i + 1])).toBe(true)
    } else {
      expect(contexts.length).toBe(maxAttempts)
      expect(plans.slice(0, maxAttempts).every(({ fails }) => fails)).toBe(true)
      const errors = maxAttempts === 1 ? [outcome.error] : (outcome.error as AggregateError).errors
      expect(errors.map((error) => (error as Error).message)).toEqual(contexts.map(({ attempt }) => `${attempt}`))
    }
    await clock.advance(5_000)
    while (scheduler.count() > 0) await scheduler.waitOne()
    await settle()
    expect(clock.pendingTimers).toBe(0)
    expect(getEventListeners(controller.signal, 'abort')).toEqual([])
  },
)

test('after hedgeOn has aborted the call no attempt begins, and no timer is left', async () => {
  const { clock, policy } = make({ maxAttempts: 3, hedgeOn: () => (controller.abort('enough'), true) })
  const controller = new AbortController()
  let runs = 0
  const operation = (): never => {
    runs++
    throw new Error('no')
  }
  await expect(policy.execute(operation, { signal: controller.signal })).rejects.toBe('enough')
  expect(clock.pendingTimers).toBe(0)
  await clock.advance(1_000)
  expect(runs).toBe(1)
})
