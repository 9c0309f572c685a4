import { getEventListeners } from 'node:events'
import { expect, test, vi } from 'vitest'
import {
  bulkhead,
  CircuitBreaker,
  compose,
  constant,
  hedge,
  retry,
  timeout,
  type CircuitBreakerOptions,
  type Policy,
} from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { deferred, failing, ok } from './calls.js'

// One test for each known defect of cockatiel 4: docs/resilience-peers.md shows both side by side.

/** A circuit whose open time is just over: the next call is the trial. */
async function due(options: CircuitBreakerOptions = {}): Promise<{ circuit: CircuitBreaker; clock: ManualClock }> {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, clock, ...options })
  await circuit.execute(failing('down')).catch(() => {})
  await clock.advance(100)
  return { circuit, clock }
}

test('a failure that arrives late leaves a half-open circuit to its trial', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, clock })
  const slow = deferred()
  const late = circuit.execute(() => slow.promise)
  await circuit.execute(failing('down')).catch(() => {})
  await clock.advance(100)
  const trial = deferred()
  const trying = circuit.execute(() => trial.promise)
  slow.reject(new Error('late'))
  await expect(late).rejects.toThrow('late')
  expect(circuit.state).toBe('half-open')
  trial.resolve('good')
  await trying
  expect(circuit.state).toBe('closed')
})

test('while a trial runs the others are refused at once: none waits, and none starts later', async () => {
  const { circuit } = await due({ halfOpen: { maxMs: 500 } })
  const trial = deferred()
  const trying = circuit.execute(() => trial.promise)
  let ran = 0
  for (let i = 0; i < 50; i++)
    await expect(circuit.execute(() => ran++)).rejects.toMatchObject({ code: 'CIRCUIT_OPEN', retryAfterMs: 500 })
  trial.resolve('good')
  await trying
  await settle()
  expect(ran).toBe(0)
})

test('who asks to wait for a trial hears an abort at once, and waits no longer than he said', async () => {
  const { circuit, clock } = await due({ halfOpen: { others: { waitMs: 50 } } })
  void circuit.execute(() => new Promise(() => {}))
  const controller = new AbortController()
  let ran = 0
  const aborted = circuit.execute(() => ran++, { signal: controller.signal })
  const bounded = circuit.execute(() => ran++)
  controller.abort('enough')
  await expect(aborted).rejects.toBe('enough')
  const refused = expect(bounded).rejects.toMatchObject({ code: 'CIRCUIT_OPEN' })
  await clock.advance(50)
  await refused
  expect([ran, clock.pendingTimers]).toEqual([0, 0])
})

test('a bulkhead inside a circuit lets in those who waited for its trial a few at a time', async () => {
  const { circuit } = await due({ halfOpen: { others: { waitMs: 50 } } })
  const policy = compose(circuit, bulkhead({ maxConcurrent: 2, maxQueued: 50 }))
  const trial = deferred()
  const trying = policy.execute(() => trial.promise)
  let running = 0
  let most = 0
  const waiting = Array.from({ length: 50 }, () =>
    policy.execute(async () => {
      most = Math.max(most, ++running)
      await settle()
      running--
    }),
  )
  trial.resolve('good')
  await Promise.all([trying, ...waiting])
  expect(most).toBe(2)
})

test('a trial that hangs holds up the others no longer than its time: then the next is tried', async () => {
  const { circuit, clock } = await due({ halfOpen: { maxMs: 1_000, others: { waitMs: 5_000 } } })
  const hung = deferred()
  const hanging = circuit.execute(() => hung.promise)
  const waiting = circuit.execute(ok).catch((error: unknown) => error)
  await clock.advance(1_000)
  expect(circuit.state).toBe('open')
  expect(await waiting).toMatchObject({ code: 'CIRCUIT_OPEN', retryAfterMs: 100 })
  await clock.advance(100)
  await expect(circuit.execute(ok)).resolves.toBe('ok')
  hung.reject(new Error('late'))
  await expect(hanging).rejects.toThrow('late')
  expect(circuit.state).toBe('closed')
})

test('failures of an hour ago do not help one of today to open the circuit', async () => {
  const clock = new ManualClock()
  const window = { kind: 'time', durationMs: 1_000, minimumCalls: 2, failureRatio: 0.6 } as const
  const circuit = new CircuitBreaker({ window, clock })
  for (let i = 0; i < 5; i++) await circuit.execute(ok)
  for (let i = 0; i < 6; i++) await circuit.execute(failing('then')).catch(() => {})
  expect(circuit.snapshot()).toMatchObject({ state: 'closed', calls: 11, failures: 6 })
  await clock.advance(3_600_000) // nobody calls meanwhile
  await circuit.execute(ok)
  await circuit.execute(failing('today')).catch(() => {})
  expect(circuit.snapshot()).toMatchObject({ state: 'closed', calls: 2, failures: 1 })
})

test('setting the wall clock back by an hour keeps no circuit open', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, clock })
  await circuit.execute(failing('down')).catch(() => {})
  clock.jumpEpoch(-3_600_000)
  await clock.advance(99)
  await expect(circuit.execute(ok)).rejects.toMatchObject({ retryAfterMs: 1 })
  await clock.advance(1)
  await expect(circuit.execute(ok)).resolves.toBe('ok')
})

test('an abort 20 ms into a wait of 300 ms ends the call then, after one try', async () => {
  const clock = new ManualClock()
  const controller = new AbortController()
  const startedAt = clock.now()
  let tries = 0
  const call = retry({ backoff: constant(300), clock })
    .execute(() => Promise.reject(new Error(`try ${++tries}`)), { signal: controller.signal })
    .catch((reason: unknown) => ({ reason, afterMs: clock.now() - startedAt }))
  await clock.advance(20)
  controller.abort('enough')
  await clock.advance(1_000)
  expect(await call).toEqual({ reason: 'enough', afterMs: 20 })
  expect([tries, clock.pendingTimers]).toEqual([1, 0])
})

test('a call that waits is not pushed out by two who come in any microtask after its place is free', async () => {
  for (let hops = 0; hops < 12; hops++) {
    const limit = bulkhead({ maxConcurrent: 1, maxQueued: 1 })
    const held = deferred()
    const order: string[] = []
    const first = limit.execute(() => held.promise)
    const queued = limit.execute(() => void order.push('queued'))
    const newcomers = held.promise.then(async () => {
      for (let hop = 0; hop < hops; hop++) await Promise.resolve()
      return Promise.allSettled(['one', 'other'].map((who) => limit.execute(() => void order.push(who))))
    })
    held.resolve('ok')
    await expect(queued).resolves.toBeUndefined()
    await Promise.all([first, newcomers])
    expect(order[0]).toBe('queued')
  }
})

test('a call that is aborted in the queue ends at once, and the next one has its place', async () => {
  const limit = bulkhead({ maxConcurrent: 1, maxQueued: 1 })
  const held = deferred()
  const first = limit.execute(() => held.promise)
  const controller = new AbortController()
  const aborted = limit.execute(ok, { signal: controller.signal })
  expect(limit.queued).toBe(1)
  controller.abort('enough')
  expect(limit.queued).toBe(0)
  await expect(aborted).rejects.toBe('enough')
  const next = limit.execute(ok)
  held.resolve('ok')
  expect(await Promise.all([first, next])).toEqual(['ok', 'ok'])
})

test('a success whose listener throws is a success, for the caller and for the circuit', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 } })
  circuit.on('success', () => {
    throw new Error('listener')
  })
  let failures = 0
  circuit.on('failure', () => failures++)
  await expect(circuit.execute(ok)).resolves.toBe('ok')
  expect([circuit.state, failures, warn.mock.calls.length]).toEqual(['closed', 0, 1])
  warn.mockRestore()
})

test.each<[string, () => Policy]>([
  ['timeout', () => timeout(1_000)],
  ['retry', () => retry()],
  ['circuit', () => new CircuitBreaker()],
  ['bulkhead', () => bulkhead({ maxConcurrent: 1, maxQueued: 10 })],
  ['hedge', () => hedge({ delayMs: 1_000 })],
])('eleven calls at once under one signal put one listener on it and raise no warning: %s', async (_, make) => {
  const warnings: Error[] = []
  const hear = (warning: Error): void => void warnings.push(warning)
  process.on('warning', hear)
  const { signal } = new AbortController()
  const held = deferred()
  const policy = make()
  const calls = Array.from({ length: 11 }, () =>
    policy.execute((context) => (context.signal.throwIfAborted(), held.promise), { signal }),
  )
  expect(getEventListeners(signal, 'abort')).toHaveLength(1)
  await settle() // a warning is emitted in a tick of its own
  held.resolve('ok')
  await Promise.all(calls)
  expect(getEventListeners(signal, 'abort')).toHaveLength(0)
  process.off('warning', hear)
  expect(warnings).toEqual([])
})
