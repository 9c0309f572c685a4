import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import {
  CircuitBreaker,
  compose,
  constant,
  exponential,
  isHoldfastError,
  retry,
  retryHistory,
  timeout,
  TimeoutError,
  type Backoff,
  type RetryOptions,
} from '../../src/resilience/index.js'
import { ManualClock, seededRandom, settle } from '../../src/testing/index.js'
import { deferred, failing, ok } from './calls.js'

/** Runs to the end on a clock of its own. */
async function run(options: RetryOptions, operation: (attempt: number, clock: ManualClock) => unknown) {
  const clock = new ManualClock()
  const begins: number[] = []
  const result = retry({ clock, ...options })
    .execute(({ attempt }) => {
      begins.push(clock.now() - 1_000)
      return operation(attempt, clock)
    })
    .then(
      (value) => ({ value, error: undefined as unknown }),
      (error: unknown) => ({ value: undefined, error }),
    )
  await clock.advance(1_000_000)
  return { ...(await result), begins, pendingTimers: clock.pendingTimers }
}
const always = (error: unknown) => (): never => {
  throw error
}

test('by default it tries three times, with growing waits, and the last error comes out as the same object', async () => {
  const errors = [new Error('one'), new Error('two'), new Error('three')]
  const { error, begins } = await run({ random: () => 0.5 }, (attempt) => Promise.reject(errors[attempt - 1]))
  expect(error).toBe(errors[2])
  expect(begins).toEqual([0, 50, 150])
})

test('it stops at the first success, and numbers its tries from one', async () => {
  const seen: number[] = []
  const { value, begins } = await run({ backoff: constant(10), attempts: 9 }, (attempt) => {
    seen.push(attempt)
    if (attempt < 3) throw new Error('not yet')
    return 'done'
  })
  expect(value).toBe('done')
  expect(seen).toEqual([1, 2, 3])
  expect(begins).toEqual([0, 10, 20])
})

test('a backoff sees the try, the error and the wait before', async () => {
  const calls: unknown[] = []
  const backoff: Backoff = (attempt, error, { previousMs }) => {
    calls.push([attempt, (error as Error).message, previousMs])
    return attempt * 10
  }
  await run({ backoff, attempts: 4 }, (attempt) => failing(`e${attempt}`)())
  expect(calls).toEqual([
    [1, 'e1', undefined],
    [2, 'e2', 10],
    [3, 'e3', 20],
  ])
})

test('a wait of nothing takes no timer', async () => {
  const clock = new ManualClock()
  const policy = retry({ attempts: 1_000, backoff: constant(0), clock })
  const result = policy.execute(({ attempt }) => (attempt < 1_000 ? failing('no')() : attempt))
  expect(clock.pendingTimers).toBe(0)
  await expect(result).resolves.toBe(1_000)
})

test('a backoff that gives no wait is found out', async () => {
  const { error } = await run({ backoff: () => NaN }, failing('mine'))
  expect(error).toMatchObject({ code: 'INVALID_OPTION', message: expect.stringMatching(/^backoff: .* got NaN$/) })
})

test('an abort during a wait rejects at once with its reason: no further try, no timer, no listener', async () => {
  const clock = new ManualClock()
  const controller = new AbortController()
  let tries = 0
  const result = retry({ backoff: constant(300), clock }).execute(() => (tries++, failing('no')()), {
    signal: controller.signal,
  })
  result.catch(() => {})
  await clock.advance(100)
  expect(clock.pendingTimers).toBe(1)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(1)
  controller.abort('enough')
  await expect(result).rejects.toBe('enough')
  expect(clock.now()).toBe(1_100)
  expect(tries).toBe(1)
  expect(clock.pendingTimers).toBe(0)
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  await expect(retry({ clock }).execute(ok, { signal: controller.signal })).rejects.toBe('enough')
})

test('an abort during a try ends it there: what the function throws then comes out, and is not tried again', async () => {
  const clock = new ManualClock()
  const controller = new AbortController()
  const d = deferred()
  const signals: AbortSignal[] = []
  const policy = retry({ backoff: constant(10), clock, retryOn: () => true })
  const result = policy.execute(({ signal }) => (signals.push(signal), d.promise), { signal: controller.signal })
  controller.abort('enough')
  expect(signals[0]!.aborted).toBe(true)
  const error = new Error('stopped')
  d.reject(error)
  await expect(result).rejects.toBe(error)
  expect(retryHistory(error)).toMatchObject({ attempts: 1, stoppedBy: 'aborted' })
})

test('a signal of one try never aborts after the try, and leaves no listener on the caller’s', async () => {
  const clock = new ManualClock()
  const controller = new AbortController()
  const signals: AbortSignal[] = []
  const result = retry({ backoff: constant(10), attempts: 3, clock }).execute(
    ({ signal, attempt }) => {
      signals.push(signal)
      signal.addEventListener('abort', () => {})
      return attempt < 3 ? failing('no')() : ok()
    },
    { signal: controller.signal },
  )
  await clock.advance(20)
  await result
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  controller.abort()
  expect(new Set(signals).size).toBe(3)
  expect(signals.map((s) => s.aborted)).toEqual([false, false, false])
})

test('an abort during a wait or a later try does not reach the signal of the first, and leaves no listener', async () => {
  for (const options of [{}, { attempt: 2 }]) {
    const clock = new ManualClock()
    const controller = new AbortController()
    const signals: AbortSignal[] = []
    const result = retry({ backoff: constant(10), clock }).execute(
      ({ signal }) => {
        signals.push(signal)
        return failing('no')()
      },
      { ...options, signal: controller.signal },
    )
    await settle()
    controller.abort('enough')
    await expect(result).rejects.toBe('enough')
    expect(signals.map((s) => s.aborted)).toEqual([false])
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0)
  }
})

test('a signal that an abort reaches is that of the try under way, not those of tries before', async () => {
  const controller = new AbortController()
  const signals: AbortSignal[] = []
  const policy = compose(retry({ backoff: constant(0) }), timeout(1_000))
  const result = policy.execute(
    ({ signal, attempt }) => {
      signals.push(signal)
      if (attempt === 3) controller.abort('enough')
      return failing('no')()
    },
    { signal: controller.signal },
  )
  await expect(result).rejects.toBe('enough')
  expect(signals.map((s) => s.aborted)).toEqual([false, false, true])

  const alone = new AbortController()
  signals.length = 0
  const bare = retry({ backoff: constant(0) }).execute(
    ({ signal, attempt }) => {
      signals.push(signal)
      if (attempt === 3) alone.abort('enough')
      return failing('no')()
    },
    { signal: alone.signal },
  )
  await expect(bare).rejects.toThrow('no')
  expect(signals[1]!.aborted).toBe(false)
})

test('mistakes in the caller’s code are not tried again, and retryOn decides for everything else', async () => {
  const { begins } = await run({}, () => retry({ attempts: 0 }))
  expect(begins).toHaveLength(1)
  const asked: unknown[] = []
  const { error } = await run(
    {
      backoff: constant(1),
      retryOn: (e, attempt) => (asked.push(attempt), (e as Error).message !== 'e2'),
    },
    (attempt) => failing(`e${attempt}`)(),
  )
  expect(error).toMatchObject({ message: 'e2' })
  expect(retryHistory(error)).toMatchObject({ attempts: 2, stoppedBy: 'not-retryable' })
  expect(asked).toEqual([1, 2])
})

test('with retryOnValue a returned value can be tried again, and the last one is returned', async () => {
  const retryOnValue: RetryOptions['retryOnValue'] = (value) => (value as { status: number }).status === 503
  const busy = await run({ backoff: constant(1), retryOnValue }, (attempt) => ({ status: 503, attempt }))
  expect(busy.value).toEqual({ status: 503, attempt: 3 })
  expect(retryHistory(busy.value)).toMatchObject({ attempts: 3, stoppedBy: 'attempts' })
  const fine = await run({ backoff: constant(1), retryOnValue }, (attempt) => ({ status: attempt === 1 ? 503 : 200 }))
  expect(fine.value).toEqual({ status: 200 })
  expect(fine.begins).toHaveLength(2)
})

test('all earlier errors are readable from the last, which is left as it was', async () => {
  const errors = [1, 2, 3].map((n) => Object.freeze(new Error(`e${n}`)))
  const { error } = await run({ backoff: constant(1) }, (attempt) => Promise.reject(errors[attempt - 1]))
  expect(error).toBe(errors[2])
  expect(retryHistory(error)).toEqual({ errors, attempts: 3, stoppedBy: 'attempts', retryAfterMs: undefined })
  expect(retryHistory(errors[0])).toBeUndefined()
  expect(retryHistory('text')).toBeUndefined()
  expect((await run({ backoff: constant(1) }, always('text'))).error).toBe('text')
})

test('a retry without end keeps the latest hundred errors', async () => {
  const { error } = await run({ attempts: Infinity, backoff: constant(1), retryOn: (_, n) => n < 500 }, (attempt) =>
    failing(`e${attempt}`)(),
  )
  const { errors, attempts } = retryHistory(error)!
  expect(attempts).toBe(500)
  expect(errors).toHaveLength(100)
  expect((errors[0] as Error).message).toBe('e401')
})

test('no wait is begun that would end after maxElapsedMs', async () => {
  const { error, begins } = await run({ attempts: 9, backoff: constant(40), maxElapsedMs: 100 }, failing('no'))
  expect(begins).toEqual([0, 40, 80])
  expect(retryHistory(error)).toMatchObject({ stoppedBy: 'max-elapsed', attempts: 3 })
  const slow = await run({ backoff: constant(50), maxElapsedMs: 100 }, async (_, clock) => {
    await clock.sleep(51)
    throw new Error('no')
  })
  expect(slow.begins).toEqual([0])
  const exact = await run({ attempts: 9, backoff: constant(50), maxElapsedMs: 100 }, failing('no'))
  expect(exact.begins).toEqual([0, 50, 100]) // one that ends with it is
})

test.each([
  ['an error with retryAfterMs', () => Object.assign(new Error('busy'), { retryAfterMs: 700 }), 700],
  ['seconds in a Response', () => new Response(null, { headers: { 'Retry-After': '2' } }), 2_000],
  ['seconds on the response of an error', () => ({ response: { headers: { 'retry-after': '3' } } }), 3_000],
  ['a number in plain headers of any case', () => ({ headers: { 'Retry-AFTER': 1 } }), 1_000],
  ['an HTTP date', () => ({ headers: { 'retry-after': 'Thu, 01 Jan 2026 00:00:05 GMT' } }), 5_000],
  ['a date gone by', () => ({ headers: { 'retry-after': 'Thu, 01 Jan 2015 00:00:05 GMT' } }), 10],
  ['less than the backoff', () => ({ retryAfterMs: 5 }), 10],
  ['nonsense', () => ({ headers: { 'retry-after': '-5' } }), 10],
  ['a date of another kind', () => ({ headers: { 'retry-after': '2026-01-01T00:00:05Z' } }), 10],
  ['headers without it', () => ({ headers: { etag: '"1"' }, response: null }), 10],
])('what the other side asks for is waited for at least: %s', async (_, error, waitMs) => {
  const { begins } = await run({ backoff: constant(10), attempts: 2 }, always(error()))
  expect(begins).toEqual([0, waitMs])
})

test.each(['Thu, 01 Jan 2026 00:00:05 GMT', 'Thursday, 01-Jan-26 00:00:05 GMT', 'Thu Jan  1 00:00:05 2026'])(
  'each of the three forms of an HTTP date is in GMT, wherever the process runs: %s',
  async (date) => {
    const zone = process.env['TZ']
    process.env['TZ'] = 'America/New_York'
    try {
      expect(new Date('2026-01-01T00:00:00Z').getTimezoneOffset()).toBe(300)
      const { begins } = await run({ attempts: 2 }, always({ headers: { 'retry-after': date } }))
      expect(begins).toEqual([0, 5_000])
    } finally {
      if (zone === undefined) delete process.env['TZ']
      else process.env['TZ'] = zone
    }
  },
)

test('above maxRetryAfterMs it gives up at once, and says so', async () => {
  const busy = { retryAfterMs: 5_001 }
  const { error, begins } = await run({ maxRetryAfterMs: 5_000 }, always(busy))
  expect(error).toBe(busy)
  expect(begins).toEqual([0])
  expect(retryHistory(error)).toMatchObject({ stoppedBy: 'retry-after', retryAfterMs: 5_001 })
})

test('around an open circuit it stops at once', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 2 }, clock })
  let ran = 0
  const policy = compose(retry({ attempts: 9, backoff: constant(0), clock }), circuit)
  const error: unknown = await policy.execute(() => (ran++, failing('down')())).catch((e: unknown) => e)
  expect(ran).toBe(2)
  expect(isHoldfastError(error, 'CIRCUIT_OPEN')).toBe(true)
  expect(retryHistory(error)).toMatchObject({ attempts: 3, stoppedBy: 'circuit-open' })
  expect(retryHistory(error)?.errors.map((e) => (e as Error).message)).toEqual(['down', 'down', 'circuit is open'])
  expect(clock.pendingTimers).toBe(0)
})

test('around an open circuit it waits for the trial if that is in time', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 500, clock })
  const begins: number[] = []
  const policy = compose(retry({ backoff: constant(10), maxElapsedMs: 600, clock }), circuit)
  const result = policy.execute(() => {
    begins.push(clock.now() - 1_000)
    return begins.length === 1 ? failing('down')() : ok()
  })
  await clock.advance(600)
  await expect(result).resolves.toBe('ok')
  expect(begins).toEqual([0, 500])

  await circuit.execute(failing('down')).catch(() => {})
  const tooLong = compose(retry({ maxElapsedMs: 499, clock }), circuit)
  const error: unknown = await tooLong.execute(ok).catch((e: unknown) => e)
  expect(retryHistory(error)).toMatchObject({ stoppedBy: 'max-elapsed', retryAfterMs: 500 })

  const held = new CircuitBreaker({ clock })
  held.isolate()
  await expect(compose(retry({ maxElapsedMs: 1_000, clock }), held).execute(ok)).rejects.toMatchObject({
    code: 'CIRCUIT_OPEN',
  })
  expect(clock.pendingTimers).toBe(0)
})

test('attempt returns what was refused inside, and throws the rest', async () => {
  const circuit = new CircuitBreaker()
  circuit.isolate()
  const policy = compose(retry({ attempts: 1 }), circuit)
  expect(await policy.attempt(ok)).toMatchObject({ ok: false, error: { code: 'CIRCUIT_OPEN' } })
  await expect(retry({ attempts: 1 }).attempt(always(new TimeoutError('late', 5)))).rejects.toThrow('late')
})

test('callers that failed together do not come back together', async () => {
  const random = seededRandom(7)
  const backoff = exponential({ initialMs: 100, jitter: 'decorrelated' })
  const seconds = new Set<number>()
  for (let i = 0; i < 50; i++) seconds.add((await run({ random, backoff, attempts: 2 }, failing('no'))).begins[1]!)
  expect(seconds.size).toBe(50)
})

test.each<[string, RetryOptions]>([
  ['attempts', { attempts: 0 }],
  ['attempts', { attempts: 1.5 }],
  ['backoff', { backoff: 100 as never }],
  ['retryOn', { retryOn: true as never }],
  ['retryOnValue', { retryOnValue: true as never }],
  ['maxElapsedMs', { maxElapsedMs: -1 }],
  ['maxRetryAfterMs', { maxRetryAfterMs: NaN }],
])('a mistake in %s is found at construction', async (option, options) => {
  expect(() => retry(options)).toThrow(`${option}: expected`)
  await settle()
})

test('an abort by backoff or retryOn ends the call at once too', async () => {
  for (const stop of ['backoff', 'retryOn'] as const) {
    const clock = new ManualClock()
    const controller = new AbortController()
    const options = { clock, [stop]: () => (controller.abort('enough'), 5_000) }
    await expect(retry(options).execute(failing('no'), { signal: controller.signal })).rejects.toBe('enough')
    expect(clock.pendingTimers).toBe(0)
  }
})

test('nobody waits for ever: an endless backoff is found out, an endless Retry-After ends the call', async () => {
  const { error } = await run({ backoff: () => Infinity }, failing('mine'))
  expect(error).toMatchObject({ code: 'INVALID_OPTION' })
  const asked = Object.assign(new Error('busy'), { retryAfterMs: Infinity })
  expect((await run({ maxRetryAfterMs: Infinity }, always(asked))).error).toBe(asked)
  expect(retryHistory(asked)?.stoppedBy).toBe('retry-after')
})
