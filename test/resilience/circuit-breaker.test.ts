import { expect, test, vi } from 'vitest'
import {
  CircuitBreaker,
  isHoldfastError,
  type CircuitBreakerOptions,
  type CircuitEvents,
  type CircuitSnapshot,
} from '../../src/resilience/index.js'
import { ManualClock, seededRandom } from '../../src/testing/index.js'
import { deferred, failing, ok } from './calls.js'

const open = async (options: CircuitBreakerOptions = {}): Promise<{ circuit: CircuitBreaker; clock: ManualClock }> => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, clock, ...options })
  await circuit.execute(failing('boom')).catch(() => {})
  expect(circuit.state).toBe('open')
  return { circuit, clock }
}

test('without options it opens after five failures in a row, for a minute, and closes after one good trial', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ clock })
  for (let i = 0; i < 4; i++) await expect(circuit.execute(failing('no'))).rejects.toThrow('no')
  await circuit.execute(ok)
  for (let i = 0; i < 5; i++) {
    expect(circuit.state).toBe('closed')
    await expect(circuit.execute(failing('no'))).rejects.toThrow('no')
  }
  await clock.advance(59_999)
  await expect(circuit.execute(ok)).rejects.toMatchObject({ code: 'CIRCUIT_OPEN', retryAfterMs: 1 })
  await clock.advance(1)
  await expect(circuit.execute(ok)).resolves.toBe('ok')
  expect(circuit.state).toBe('closed')
})

test('a function that returns a plain value or throws at once counts as if it were async', async () => {
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 } })
  await expect(circuit.execute(() => 7)).resolves.toBe(7)
  const error = new Error('at once')
  await expect(
    circuit.execute(() => {
      throw error
    }),
  ).rejects.toBe(error)
  expect(circuit.state).toBe('open')
})

test('a refusal tells when to come back and what opened the circuit, and has no stack to build', async () => {
  const { circuit, clock } = await open({ name: 'payments' })
  await clock.advance(30)
  const limit = Error.stackTraceLimit
  const error: unknown = await circuit.execute(ok).catch((e: unknown) => e)
  expect(error).toMatchObject({
    name: 'CircuitOpenError',
    message: "circuit 'payments' is open",
    retryAfterMs: 70,
    cause: expect.objectContaining({ message: 'boom' }),
  })
  expect((error as Error).stack).not.toContain('\n')
  expect(Error.stackTraceLimit).toBe(limit)
  expect(isHoldfastError(error, 'CIRCUIT_OPEN')).toBe(true)
})

test('attempt returns a refusal as a value, and throws only what the function throws', async () => {
  const { circuit } = await open()
  const refused = await circuit.attempt(ok)
  if (refused.ok) throw new Error('not refused')
  expect(refused.error).toMatchObject({ code: 'CIRCUIT_OPEN', retryAfterMs: 100 })
  expect(refused.error).toBe(refused.error)

  const closed = new CircuitBreaker()
  expect(await closed.attempt(ok)).toEqual({ ok: true, value: 'ok' })
  await expect(closed.attempt(failing('mine'))).rejects.toThrow('mine')
})

test('wrap passes arguments and this on', async () => {
  const circuit = new CircuitBreaker()
  const shop = {
    tax: 2,
    price: circuit.wrap(function (this: { tax: number }, net: number, times: number) {
      return (net + this.tax) * times
    }),
  }
  await expect(shop.price(3, 10)).resolves.toBe(50)
})

test('a late success does not close, and a late failure does not re-open, a circuit that has moved on', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, clock })
  const [early, alsoEarly, third] = [deferred(), deferred(), deferred()]
  const calls = [early, alsoEarly, third].map((d) => circuit.execute(() => d.promise).catch(() => {}))
  await circuit.execute(failing('opens')).catch(() => {})
  early.resolve('late')
  await calls[0]
  expect(circuit.state).toBe('open')

  await clock.advance(100)
  const trial = deferred()
  const trying = circuit.execute(() => trial.promise)
  alsoEarly.reject(new Error('late'))
  await calls[1]
  expect(circuit.state).toBe('half-open')
  trial.resolve('good')
  await trying
  third.reject(new Error('late'))
  await calls[2]
  expect(circuit.state).toBe('closed')
})

test('calls that their caller has aborted, and refusals from within, count nowhere', async () => {
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 } })
  const controller = new AbortController()
  const call = circuit.execute(
    ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('own words')))),
    { signal: controller.signal },
  )
  controller.abort('enough')
  await expect(call).rejects.toThrow('own words')
  await expect(circuit.execute(ok, { signal: controller.signal })).rejects.toBe('enough')
  const outlived = new AbortController()
  await expect(circuit.execute(() => outlived.abort(), { signal: outlived.signal })).resolves.toBeUndefined()

  const inner = new CircuitBreaker()
  inner.isolate()
  await expect(circuit.execute(() => inner.execute(ok))).rejects.toMatchObject({ code: 'CIRCUIT_OPEN' })
  expect(await circuit.attempt(() => inner.execute(ok))).toMatchObject({ ok: false })
  expect(circuit.snapshot()).toMatchObject({ state: 'closed', calls: 0 })
})

test('an abort of one call leaves its neighbours alone', async () => {
  const circuit = new CircuitBreaker()
  const controller = new AbortController()
  const signals: AbortSignal[] = []
  const calls = [controller.signal, undefined, new AbortController().signal].map((signal) => {
    const d = deferred()
    return { d, done: circuit.execute((context) => (signals.push(context.signal), d.promise), { signal }) }
  })
  controller.abort()
  expect(signals.map((signal) => signal.aborted)).toEqual([true, false, false])
  for (const { d, done } of calls) {
    d.resolve('done')
    await done
  }
})

test('isFailure judges values too, can ignore a call, and breaks nothing when it throws', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const circuit = new CircuitBreaker({
    window: { kind: 'count', size: 10, minimumCalls: 10, failureRatio: 1 },
    isFailure: ({ error, value }) => {
      if (value === 'ignore' || (error as Error)?.message === 'ignore') return 'ignore'
      if (value === 'buggy' || (error as Error)?.message === 'buggy') throw new Error('bug in isFailure')
      return value === 503
    },
  })
  await circuit.execute(() => 'ignore')
  await circuit.execute(failing('ignore')).catch(() => {})
  expect(circuit.snapshot()).toMatchObject({ calls: 0 })
  await circuit.execute(() => 503)
  await circuit.execute(failing('expected')).catch(() => {})
  expect(circuit.snapshot()).toMatchObject({ calls: 2, failures: 1 })
  await expect(circuit.execute(() => 'buggy')).resolves.toBe('buggy')
  await expect(circuit.execute(failing('buggy'))).rejects.toThrow('buggy')
  expect(circuit.snapshot()).toMatchObject({ calls: 4, failures: 2 })
  expect(warn).toHaveBeenCalledTimes(2)
  warn.mockRestore()
})

test('a throwing undefined is a failure like any other', async () => {
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 } })
  await expect(circuit.execute(() => Promise.reject(undefined))).rejects.toBeUndefined()
  expect(circuit.state).toBe('open')
})

test('listeners are told what happened, and one that throws changes no result and no count', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 50, clock })
  const told: [string, unknown][] = []
  const names: (keyof CircuitEvents)[] = ['stateChange', 'success', 'failure', 'refused']
  for (const name of names) {
    circuit.on(name, (event) => told.push([name, event]))
    circuit.on(name, () => {
      throw new Error('listener')
    })
  }
  const error = new Error('boom')
  await expect(circuit.execute(() => clock.advance(3))).resolves.toBeUndefined()
  expect(circuit.snapshot()).toMatchObject({ state: 'closed', failures: 0 })
  await expect(circuit.execute(() => Promise.reject(error))).rejects.toBe(error)
  await circuit.attempt(ok)
  await clock.advance(50)
  await circuit.execute(ok)
  expect(told).toEqual([
    ['success', { durationMs: 3 }],
    ['stateChange', { from: 'closed', to: 'open', error, openMs: 50 }],
    ['failure', { error, durationMs: 0 }],
    ['refused', { retryAfterMs: 50 }],
    ['stateChange', { from: 'open', to: 'half-open', error, openMs: undefined }],
    ['stateChange', { from: 'half-open', to: 'closed', error: undefined, openMs: undefined }],
    ['success', { durationMs: 0 }],
  ])
  expect(warn).toHaveBeenCalledTimes(told.length)
  warn.mockRestore()
})

test('a listener may reset or isolate the circuit that tells it', async () => {
  const { circuit, clock } = await open()
  const stop = circuit.on('stateChange', ({ to }) => to === 'half-open' && circuit.reset())
  await clock.advance(100)
  await expect(circuit.execute(ok)).resolves.toBe('ok')
  stop()
  circuit.on('stateChange', ({ to }) => to === 'open' && circuit.isolate())
  await circuit.execute(failing('no')).catch(() => {})
  expect(circuit.state).toBe('isolated')
})

test('isolation lasts until every handle is released; releasing one twice counts once', async () => {
  const circuit = new CircuitBreaker()
  const first = circuit.isolate()
  const second = circuit.isolate()
  first()
  first()
  expect(circuit.state).toBe('isolated')
  const refused = await circuit.attempt(ok)
  expect(refused).toMatchObject({ ok: false, error: { message: 'circuit is isolated', retryAfterMs: undefined } })
  second()
  expect(circuit.state).toBe('closed')

  const stale = circuit.isolate()
  circuit.reset()
  expect(circuit.state).toBe('closed')
  const held = circuit.isolate()
  stale()
  expect(circuit.state).toBe('isolated')
  held()
  expect(circuit.state).toBe('closed')
})

test('a snapshot keeps the rest of the open time across processes, also while nobody runs', async () => {
  const { circuit, clock } = await open()
  await clock.advance(30)
  const saved = JSON.parse(JSON.stringify(circuit.snapshot())) as CircuitSnapshot
  expect(saved).toEqual({ state: 'open', openUntil: clock.epochMs() + 70, openings: 1, calls: 1, failures: 1, slow: 0 })

  const later = new ManualClock({ now: 5, epochMs: clock.epochMs() + 20 }) // another process, 20 ms later
  const restored = new CircuitBreaker({ openMs: 100, clock: later, initialState: saved })
  await expect(restored.execute(ok)).rejects.toMatchObject({ retryAfterMs: 50 })
  await later.advance(50)
  await expect(restored.execute(ok)).resolves.toBe('ok')

  const muchLater = new ManualClock({ epochMs: clock.epochMs() + 1e9 })
  const old = new CircuitBreaker({ openMs: 100, clock: muchLater, initialState: saved })
  expect(old.state).toBe('open')
  await expect(old.execute(ok)).resolves.toBe('ok')
})

test('setting the wall clock back keeps no circuit open for longer, restored or not', async () => {
  const { circuit, clock } = await open()
  const saved = circuit.snapshot()
  clock.jumpEpoch(-3_600_000)
  const restored = new CircuitBreaker({ openMs: 100, clock, initialState: saved })
  await clock.advance(100)
  await expect(restored.execute(ok)).resolves.toBe('ok')
  await expect(circuit.execute(ok)).resolves.toBe('ok')
})

test('a circuit can start in any state', async () => {
  const clock = new ManualClock()
  const start = (initialState: CircuitBreakerOptions['initialState'], more = {}): CircuitBreaker =>
    new CircuitBreaker({ openMs: { initialMs: 10, maxMs: 80, factor: 2 }, clock, initialState, ...more })
  expect(start({ state: 'closed' }).snapshot()).toMatchObject({ state: 'closed', openings: 0 })
  expect((await start({ state: 'open', openings: 3 }).attempt(ok)) as unknown).toMatchObject({
    error: { retryAfterMs: 40 },
  })
  const tries = start({ state: 'half-open' })
  await tries.execute(failing('no')).catch(() => {})
  expect(tries.snapshot()).toMatchObject({ state: 'open', openings: 2 })
  const isolated = start({ state: 'isolated' })
  isolated.isolate()()
  expect(isolated.state).toBe('isolated')
  isolated.reset()
  expect(isolated.state).toBe('closed')
  expect(start({ state: 'open' }, { metricsOnly: true }).state).toBe('closed')
  expect(start({ state: 'isolated' }, { metricsOnly: true }).state).toBe('isolated')
})

test('open times grow while trials fail, up to the longest, and start over once the circuit has closed', async () => {
  const { circuit, clock } = await open({ openMs: { initialMs: 10, maxMs: 35, factor: 2 } })
  const waits: number[] = []
  const stop = circuit.on('stateChange', ({ openMs }) => openMs !== undefined && waits.push(openMs))
  for (let i = 0; i < 3; i++) {
    await clock.advance(35)
    await circuit.execute(failing('still')).catch(() => {})
  }
  await clock.advance(35)
  await circuit.execute(ok)
  await circuit.execute(failing('again')).catch(() => {})
  expect(waits).toEqual([20, 35, 35, 10])
  stop()
})

test('jitter shortens open times by up to its share, and never lengthens them', async () => {
  const random = seededRandom(1)
  const waits: number[] = []
  for (let i = 0; i < 200; i++) {
    const { circuit } = await open({ random, openMs: { initialMs: 100, maxMs: 100, factor: 1, jitterRatio: 0.5 } })
    const refused = await circuit.attempt(ok)
    if (!refused.ok) waits.push(refused.error.retryAfterMs!)
  }
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(50)
  expect(Math.min(...waits)).toBeLessThan(55)
  expect(Math.max(...waits)).toBeLessThanOrEqual(100)
  expect(Math.max(...waits)).toBeGreaterThan(95)
})

test('with metricsOnly it refuses nobody and says once per open time that it would have opened', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({
    window: { kind: 'consecutive', failures: 2 },
    openMs: 100,
    metricsOnly: true,
    clock,
  })
  const would: unknown[] = []
  circuit.on('wouldOpen', (event) => would.push(event))
  for (let i = 0; i < 10; i++) await expect(circuit.execute(failing('down'))).rejects.toThrow('down')
  expect(would).toEqual([{ error: expect.objectContaining({ message: 'down' }), openMs: 100 }])
  await clock.advance(100)
  for (let i = 0; i < 2; i++) await circuit.execute(failing('down')).catch(() => {})
  expect(would).toHaveLength(2)
  expect(circuit.state).toBe('closed')
  const release = circuit.isolate()
  await expect(circuit.execute(ok)).rejects.toMatchObject({ code: 'CIRCUIT_OPEN' })
  release()
})

test.each<[string, CircuitBreakerOptions]>([
  ['openMs', { openMs: -1 }],
  ['openMs', { openMs: NaN }],
  ['openMs', { openMs: Infinity }],
  ['openMs.maxMs', { openMs: { initialMs: 10, maxMs: 5, factor: 2 } }],
  ['openMs.factor', { openMs: { initialMs: 10, maxMs: 50, factor: 0.5 } }],
  ['openMs.jitterRatio', { openMs: { initialMs: 10, maxMs: 50, factor: 2, jitterRatio: 2 } }],
  ['window.failures', { window: { kind: 'consecutive', failures: 0 } }],
  ['window.kind', { window: { kind: 'other' } as never }],
  ['window.size', { window: { kind: 'count', size: 5, minimumCalls: 6, failureRatio: 0.5 } }],
  ['window.minimumCalls', { window: { kind: 'time', durationMs: 5, minimumCalls: 0, failureRatio: 0.5 } }],
  ['window.failureRatio', { window: { kind: 'count', size: 5, minimumCalls: 5, failureRatio: 0 } }],
  ['window.durationMs', { window: { kind: 'time', durationMs: 0, minimumCalls: 1, failureRatio: 0.5 } }],
  ['window.slowCallMs', { window: { kind: 'count', size: 5, minimumCalls: 5, failureRatio: 1, slowRatio: 1 } }],
  ['halfOpen.trials', { halfOpen: { trials: 0 } }],
  ['halfOpen.failureRatio', { halfOpen: { failureRatio: 1.5 } }],
  ['halfOpen.maxMs', { halfOpen: { maxMs: 0 } }],
  ['halfOpen.others.waitMs', { halfOpen: { others: { waitMs: 0 } } }],
  ['isFailure', { isFailure: 'no' as never }],
  ['metricsOnly', { metricsOnly: 1 as never }],
  ['name', { name: '' }],
  ['initialState.state', { initialState: { state: 'ajar' as never } }],
  ['initialState.openUntil', { initialState: { state: 'open', openUntil: NaN } }],
  ['initialState.openings', { initialState: { state: 'open', openings: -1 } }],
])('a mistake in %s is found at construction: %j', (option, options) => {
  expect(() => new CircuitBreaker(options)).toThrow(new RegExp(`^${option.replaceAll('.', '\\.')}: expected `))
})

test('with metricsOnly, reset() also ends the time it would be open', async () => {
  const breaker = new CircuitBreaker({ metricsOnly: true, window: { kind: 'consecutive', failures: 1 } })
  let told = 0
  breaker.on('wouldOpen', () => told++)
  await breaker.execute(failing('one')).catch(() => {})
  breaker.reset()
  await breaker.execute(failing('two')).catch(() => {})
  expect(told).toBe(2)
})

test('the longest open time can be restored too', () => {
  const clock = new ManualClock()
  const options = { clock, openMs: Number.MAX_SAFE_INTEGER }
  const before = new CircuitBreaker({ ...options, initialState: { state: 'open' } })
  expect(new CircuitBreaker({ ...options, initialState: before.snapshot() }).state).toBe('open')
})
