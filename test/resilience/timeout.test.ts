import { getEventListeners } from 'node:events'
import { expect, test, vi } from 'vitest'
import { isHoldfastError, timeout, type TimeoutError, type TimeoutOptions } from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { deferred, failing, ok } from './calls.js'

const strategies = ['aggressive', 'cooperative'] as const
const make = (options: Partial<TimeoutOptions> = {}) => {
  const clock = new ManualClock()
  return { clock, policy: timeout({ ms: 100, clock, ...options }) }
}
const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

test('by default a call ends when its time is up, whatever the function does', async () => {
  const { clock, policy } = make()
  const late = deferred()
  const result = policy.execute(() => late.promise).catch((e: unknown) => e)
  await clock.advance(99)
  expect(clock.pendingTimers).toBe(1)
  await clock.advance(1)
  const error = await result
  expect(error).toMatchObject({
    name: 'TimeoutError',
    code: 'TIMEOUT',
    timeoutMs: 100,
    message: 'timed out after 100 ms',
  })
  expect(isHoldfastError(error, 'TIMEOUT')).toBe(true)
  late.reject(new Error('late, and nobody’s unhandled rejection'))
  await settle()
  expect(clock.pendingTimers).toBe(0)
})

test.each(strategies)('%s: the reason of the signal is the error that the caller sees', async (strategy) => {
  const { clock, policy } = make({ strategy })
  let seen: AbortSignal | undefined
  const result = policy
    .execute(({ signal }) => {
      seen = signal
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('own words'))))
    })
    .catch((e: unknown) => e)
  await clock.advance(100)
  expect(await result).toBe(seen!.reason)
  expect(isHoldfastError(seen!.reason, 'TIMEOUT')).toBe(true)
})

test('cooperative: the call ends when the function does, and a value that comes in spite of all is returned', async () => {
  const { clock, policy } = make({ strategy: 'cooperative' })
  const d = deferred()
  let settled = false
  const result = policy.execute(() => d.promise).finally(() => (settled = true))
  await clock.advance(5_000)
  expect(settled).toBe(false)
  d.resolve('at last')
  await expect(result).resolves.toBe('at last')
})

test.each(strategies)(
  '%s: success and failure come out as they are, at once or later; nothing is left',
  async (strategy) => {
    const { clock, policy } = make({ strategy })
    const { signal } = new AbortController()
    const error = new Error('mine')
    const seen: AbortSignal[] = []
    await expect(policy.execute(() => 7, { signal })).resolves.toBe(7)
    await expect(policy.execute((c) => (seen.push(c.signal), ok()), { signal })).resolves.toBe('ok')
    await expect(policy.execute(() => Promise.reject(error), { signal })).rejects.toBe(error)
    await expect(
      policy.execute(
        (c) => {
          c.signal.addEventListener('abort', () => {})
          throw error
        },
        { signal },
      ),
    ).rejects.toBe(error)
    expect(clock.pendingTimers).toBe(0)
    expect(listeners(signal)).toBe(0)
    await clock.advance(1_000)
    expect(seen[0]!.aborted).toBe(false)
  },
)

test('aggressive: the caller’s abort ends the call at once with its reason, and is no timeout', async () => {
  const { clock, policy } = make()
  const controller = new AbortController()
  let inner: AbortSignal | undefined
  const result = policy.execute(({ signal }) => ((inner = signal), new Promise(() => {})), {
    signal: controller.signal,
  })
  expect(listeners(controller.signal)).toBe(1)
  controller.abort('enough')
  await expect(result).rejects.toBe('enough')
  expect(inner!.reason).toBe('enough')
  expect(clock.pendingTimers).toBe(0)
  expect(listeners(controller.signal)).toBe(0)
  await expect(policy.execute(ok, { signal: controller.signal })).rejects.toBe('enough')
  expect(clock.pendingTimers).toBe(0)
})

test('cooperative: a function that takes long to stop after the caller’s abort has not timed out', async () => {
  const { clock, policy } = make({ strategy: 'cooperative' })
  const controller = new AbortController()
  const d = deferred()
  let inner: AbortSignal | undefined
  const result = policy.execute(({ signal }) => ((inner = signal), d.promise), { signal: controller.signal })
  controller.abort('enough')
  await clock.advance(500)
  d.reject(inner!.reason)
  await expect(result).rejects.toBe('enough')
})

test('the time of an outer timeout ends the inner call too, and each keeps its own error', async () => {
  const clock = new ManualClock()
  const outer = timeout({ ms: 50, clock })
  const inner = timeout({ ms: 80, clock })
  const errors: unknown[] = []
  const result = outer.execute((context) =>
    inner.execute(() => new Promise(() => {}), context).catch((e: unknown) => errors.push(e)),
  )
  result.catch((e: unknown) => errors.push(e))
  await clock.advance(50)
  expect(errors.map((e) => (e as TimeoutError).timeoutMs)).toEqual([50, 50])
  expect(clock.pendingTimers).toBe(0)
})

test('two hundred calls at once under one signal are one listener, and raise no warning', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { clock, policy } = make()
  const controller = new AbortController()
  const calls = Array.from({ length: 200 }, () =>
    policy.execute(
      ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
      {
        signal: controller.signal,
      },
    ),
  )
  expect(listeners(controller.signal)).toBe(1)
  controller.abort('all of you')
  for (const call of calls) await expect(call).rejects.toBe('all of you')
  expect(listeners(controller.signal)).toBe(0)
  expect(clock.pendingTimers).toBe(0)
  expect(warn).not.toHaveBeenCalled()
  warn.mockRestore()
})

test('a time longer than a host timer can take works, and Infinity never fires', async () => {
  const { clock, policy } = make({ ms: 2 ** 31 + 5_000 })
  const result = policy.execute(() => new Promise(() => {})).catch((e: unknown) => e)
  await clock.advance(2 ** 31)
  expect(clock.pendingTimers).toBe(1)
  await clock.advance(5_000)
  expect(isHoldfastError(await result, 'TIMEOUT')).toBe(true)

  const real = timeout(2 ** 31 + 5_000)
  await expect(real.execute(() => new Promise((resolve) => setImmediate(() => resolve('in time'))))).resolves.toBe(
    'in time',
  )

  const never = make({ ms: Infinity })
  const d = deferred()
  const endless = never.policy.execute(() => d.promise)
  expect(never.clock.pendingTimers).toBe(0)
  d.resolve('at last')
  await expect(endless).resolves.toBe('at last')
})

test('attempt and wrap: a timeout is thrown, not refused, for the function did run', async () => {
  const { clock, policy } = make()
  const result = policy.attempt(() => new Promise(() => {})).catch((e: unknown) => e)
  await clock.advance(100)
  expect(isHoldfastError(await result, 'TIMEOUT')).toBe(true)
  await expect(policy.wrap((a: number, b: number) => a + b)(1, 2)).resolves.toBe(3)
  await expect(policy.attempt(failing('mine'))).rejects.toThrow('mine')
})

test.each([0, -1, NaN, '5' as never, undefined as never])('%s is no time', (ms) => {
  expect(() => timeout(ms)).toThrow('ms: expected')
  expect(() => timeout({ ms })).toThrow('ms: expected')
  expect(() => timeout({ ms: 1, strategy: 'gentle' as never })).toThrow('strategy: expected')
  expect(() => timeout({ ms: 1, clock: {} as never })).toThrow('clock.setTimer: expected a function, got undefined')
})
