import { expect, test } from 'vitest'
import { CacheManager } from '../../src/cache/index.js'
import {
  adaptiveConcurrency,
  bulkhead,
  CircuitBreaker,
  compose,
  fallback,
  hedge,
  retry,
  timeout,
  type Policy,
} from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { deferred, failing } from './calls.js'

// One test for each known defect of opossum 10: docs/resilience-peers.md shows both side by side. What its window costs
// is in peer-defects-process.integration.test.ts.

test('a success that arrives late does not close a circuit: a trial does', async () => {
  const clock = new ManualClock()
  const circuit = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 100, clock })
  const [whenOpen, whenHalfOpen, trial] = [deferred(), deferred(), deferred()]
  const late = [whenOpen, whenHalfOpen].map(({ promise }) => circuit.execute(() => promise))
  await circuit.execute(failing('down')).catch(() => {})
  whenOpen.resolve('late')
  await expect(late[0]).resolves.toBe('late')
  expect(circuit.state).toBe('open')
  await clock.advance(100)
  const trying = circuit.execute(() => trial.promise)
  whenHalfOpen.resolve('late')
  await expect(late[1]).resolves.toBe('late')
  expect(circuit.state).toBe('half-open')
  trial.reject(new Error('still down'))
  await expect(trying).rejects.toThrow('still down')
  expect(circuit.state).toBe('open')
})

test('the timeout of one call aborts the signal of that call, and of no other', async () => {
  const clock = new ManualClock()
  const policy = compose(new CircuitBreaker({ clock }), timeout({ ms: 30, clock }))
  const signals: AbortSignal[] = []
  const call = () => {
    const d = deferred()
    return { ...d, done: policy.execute(({ signal }) => (signals.push(signal), d.promise)) }
  }
  const hung = call()
  const ended = expect(hung.done).rejects.toMatchObject({ code: 'TIMEOUT' })
  await clock.advance(15)
  const other = call()
  await clock.advance(15)
  await ended
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
  other.resolve('in time')
  await expect(other.done).resolves.toBe('in time')
  expect(signals[1]!.aborted).toBe(false)
})

test('cached and coalesced results never reach the circuit: they count nowhere and dilute no rate', async () => {
  const clock = new ManualClock()
  const window = { kind: 'count', size: 10, minimumCalls: 2, failureRatio: 0.5 } as const
  const circuit = new CircuitBreaker({ window, clock })
  const cache = new CacheManager<Record<string, string>>({ clock })
  const loading = deferred<string>()
  const load = circuit.wrap(() => loading.promise)
  const callers = Array.from({ length: 50 }, () => cache.getOrSet('tea', load)) // coalesced: one load
  await settle()
  loading.resolve('green')
  expect(new Set(await Promise.all(callers))).toEqual(new Set(['green']))
  for (let i = 0; i < 50; i++) await cache.getOrSet('tea', load) // cached
  expect(circuit.snapshot()).toMatchObject({ calls: 1, failures: 0 })
  await cache.getOrSet('coffee', circuit.wrap(failing('down'))).catch(() => {})
  expect(circuit.state).toBe('open') // one of two that ran, not one of a hundred and two
  await expect(cache.getOrSet('tea', load)).resolves.toBe('green') // and what is cached is there all the same
  await cache.close()
})

test.each<[string, () => Policy | ReturnType<typeof fallback>]>([
  ['circuit', () => new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 } })],
  ['retry', () => retry({ attempts: 1 })],
  ['timeout', () => timeout(1_000)],
  ['bulkhead', () => bulkhead({ maxConcurrent: 1 })],
  ['hedge', () => hedge({ delayMs: 1_000, maxAttempts: 1 })],
  ['fallback', () => fallback(() => 'fell back')],
  ['adaptive concurrency', () => adaptiveConcurrency()],
])('a function that returns a plain value, undefined and null too, has succeeded: %s', async (_, make) => {
  const policy = make()
  for (const value of [undefined, null, 7, '', {}]) {
    await expect(policy.execute(() => value)).resolves.toBe(value)
    await expect(policy.wrap(() => value)()).resolves.toBe(value)
    await expect(policy.attempt(() => value)).resolves.toEqual({ ok: true, value })
  }
})
