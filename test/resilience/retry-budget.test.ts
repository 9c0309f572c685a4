import { expect, test } from 'vitest'
import {
  compose,
  constant,
  hedge,
  isHoldfastError,
  retry,
  RetryBudget,
  retryHistory,
  type RetryBudgetOptions,
} from '../../src/resilience/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { failing } from './calls.js'

test('extra tries are a share of the first ones', () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 0.5, minPerSecond: 0, clock })
  expect(budget.withdraw()).toBe(false)
  for (let i = 0; i < 4; i++) budget.deposit()
  expect(budget.available).toBe(2)
  expect([budget.withdraw(), budget.withdraw(), budget.withdraw()]).toEqual([true, true, false])
})

test('a few are always there, and come back with time', async () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 0, minPerSecond: 1, windowMs: 3_000, clock })
  expect([1, 2, 3, 4].map(() => budget.withdraw())).toEqual([true, true, true, false])
  await clock.advance(3_000)
  expect(budget.withdraw()).toBe(true)
})

test('first tries count as long as the window, also when nobody has looked for hours', async () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 1, minPerSecond: 0, windowMs: 10_000, clock })
  budget.deposit()
  await clock.advance(8_000)
  expect(budget.available).toBe(1)
  await clock.advance(2_000)
  expect(budget.available).toBe(0)
  budget.deposit()
  await clock.advance(1e9)
  expect(budget.available).toBe(0)
})

test('a retry whose budget is empty ends with the error of the function, and its history says so', async () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 0, minPerSecond: 0.1, windowMs: 10_000, clock })
  const policy = retry({ attempts: 5, backoff: constant(0), budget, clock })
  let tries = 0
  const failure = new Error('down')
  const call = policy.execute(() => (tries++, Promise.reject(failure)))
  await expect(call).rejects.toBe(failure)
  expect(tries).toBe(2)
  expect(retryHistory(failure)).toMatchObject({ stoppedBy: 'budget', attempts: 2 })
})

test('a storm of failing calls is tried again only as often as the shared budget allows', async () => {
  const clock = new ManualClock()
  const budget = new RetryBudget({ ratio: 0.1, minPerSecond: 0, clock })
  const policy = compose(
    retry({ attempts: 10, backoff: constant(0), budget, clock }),
    hedge({ delayMs: 10, budget, clock }),
  )
  let tries = 0
  const call = (): Promise<unknown> => policy.execute(() => (tries++, failing('down')()))
  await Promise.allSettled(Array.from({ length: 1_000 }, call))
  expect(tries).toBeGreaterThan(1_000)
  expect(tries).toBeLessThanOrEqual(1_300) // each of the two deposits for the calls that it sees
})

test('take() throws what says that the extra try did not run', () => {
  const budget = new RetryBudget({ ratio: 0, minPerSecond: 0.1 })
  budget.take()
  try {
    budget.take()
    expect.unreachable()
  } catch (error) {
    expect(isHoldfastError(error, 'RETRY_BUDGET_EXHAUSTED')).toBe(true)
    expect(error).toMatchObject({ name: 'RetryBudgetExhaustedError', family: 'rejected' })
  }
})

test.each([
  [{ ratio: -1 }, 'ratio: expected a number in [0, 1000], got -1'],
  [{ minPerSecond: NaN }, 'minPerSecond: expected a number in [0, 1000000000], got NaN'],
  [{ windowMs: 0 }, 'windowMs: expected a finite number > 0, got 0'],
  [{ clock: {} }, 'clock.now: expected a function, got undefined'],
])('options %j: %s', (options, message) => {
  expect(() => new RetryBudget(options as RetryBudgetOptions)).toThrow(message)
})

prop(
  'whenever one is granted, the extra tries of the last window are at most the share of its first ones and the floor',
  [
    fc.double({ min: 0, max: 2, noNaN: true }),
    fc.integer({ min: 0, max: 5 }),
    fc.array(fc.record({ afterMs: fc.nat({ max: 700 }), first: fc.boolean() }), { maxLength: 200 }),
  ],
  async (ratio, minPerSecond, steps) => {
    const clock = new ManualClock()
    const windowMs = 2_000
    const budget = new RetryBudget({ ratio, minPerSecond, windowMs, clock })
    const firsts: number[] = []
    const extras: number[] = []
    for (const { afterMs, first } of steps) {
      await clock.advance(afterMs)
      const now = clock.now()
      if (first) {
        budget.deposit()
        firsts.push(now)
        continue
      }
      if (!budget.withdraw()) continue
      extras.push(now)
      const within = (times: readonly number[], ms: number) => times.filter((at) => at > now - ms).length
      const most = ratio * within(firsts, windowMs + 1) + (minPerSecond * windowMs) / 1_000
      // The oldest slice is forgotten at once: what is surely still counted lies within nine tenths of the window.
      expect(within(extras, windowMs * 0.9)).toBeLessThanOrEqual(most + 1e-9)
    }
  },
)

test('a window shorter than the clock can tell does not hang', () => {
  const clock = new ManualClock({ now: 1e9 })
  const budget = new RetryBudget({ ratio: 1, minPerSecond: 0, windowMs: 1e-9, clock })
  budget.deposit()
  expect([budget.withdraw(), budget.withdraw()]).toEqual([true, false])
})
