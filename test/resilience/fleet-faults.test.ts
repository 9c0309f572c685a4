import { expect, test } from 'vitest'
import { CircuitBreaker, MemoryCircuitBreakerStore, type CircuitBreakerOptions } from '../../src/resilience/index.js'
import type { FleetOptions } from '../../src/resilience/store.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { deferred, failing, ok } from './calls.js'
import { FailingOver, Wire } from './fleet-wire.js'

function fleet(n: number, options: CircuitBreakerOptions = {}, settings: FleetOptions = {}) {
  const clock = new ManualClock()
  const ledger = new FailingOver(clock)
  const wires = Array.from({ length: n }, () => new Wire(clock, ledger, settings))
  const window = { kind: 'consecutive', failures: 2 } as const
  const circuits = wires.map(
    (store) => new CircuitBreaker({ name: 'c', window, openMs: 1_000, clock, store, ...options }),
  )
  const call = async (i: number, operation: () => Promise<unknown> = ok): Promise<unknown> => {
    const said = await circuits[i]!.execute(operation).catch(
      (error: { code?: string; message: string }) => error.code ?? error.message,
    )
    await settle()
    return said
  }
  const fail = async (i: number): Promise<void> => {
    for (let t = 0; t < 2; t++) await call(i, failing('down'))
  }
  const states = (): string[] => circuits.map(({ state }) => state)
  const shared = async (): Promise<string> => (await ledger.view('c')).state
  return { clock, ledger, wires, circuits, call, fail, states, shared }
}

test.each([6_000, 40_000, 90_000, 3_600_000])('a fleet that is called every %d ms recovers', async (everyMs) => {
  const { clock, call, fail, states } = fleet(1)
  await call(0)
  await fail(0)
  for (let i = 0; i < 5; i++) {
    await clock.advance(everyMs)
    await call(0)
  }
  expect(states()).toEqual(['closed'])
})

test('a permit that is used late in its lease keeps it from then on', async () => {
  const { clock, circuits, call, fail } = fleet(2)
  await call(0)
  await call(1)
  await fail(0)
  await clock.advance(1_000)
  await call(1)
  await call(0) // has the permit
  await clock.advance(4_900)
  const long = deferred()
  const trial = circuits[0]!.execute(() => long.promise)
  await clock.advance(200)
  for (let i = 0; i < 6; i++) {
    expect(await call(1)).toBe('CIRCUIT_OPEN')
    await clock.advance(500)
  }
  long.resolve('ok')
  await trial
})

test('a vote that reaches the store after its circuit has closed does not open the fleet', async () => {
  const { clock, wires, call, fail, states, shared } = fleet(2)
  await call(0)
  await call(1)
  wires[0]!.passage = () => ({ askMs: 5_000 })
  await fail(0)
  await clock.advance(1_100)
  expect(await call(0)).toBe('ok')
  expect(states()).toEqual(['closed', 'closed'])
  await clock.advance(500)
  wires[0]!.passage = () => ({})
  for (let i = 0; i < 8; i++) {
    await clock.advance(500)
    await call(0)
  }
  await call(0)
  expect([states()[0], await shared()]).toEqual(['closed', 'closed'])
})

test('circuits that are closed close a fleet that a fail-over has put back to open', async () => {
  const { clock, ledger, call, fail, states, shared } = fleet(2)
  await call(0)
  await call(1)
  const old = ledger.now
  await fail(0)
  // The replica knows of the opening only.
  ledger.now = new MemoryCircuitBreakerStore({ clock })
  await ledger.now.vote('c', { node: 'n', generation: 0, openMs: 60_000, quorum: 1 })
  const replica = ledger.now
  ledger.now = old
  await clock.advance(1_000)
  await call(0)
  await call(0)
  await clock.advance(500)
  await call(1)
  expect([...states(), await shared()]).toEqual(['closed', 'closed', 'closed'])
  ledger.now = replica
  for (let i = 0; i < 3; i++) {
    await clock.advance(500)
    await call(0)
    await call(1)
  }
  expect([...states(), await shared()]).toEqual(['closed', 'closed', 'closed'])
})

test('a trial that began without the store and works closes the fleet, also when the store is back meanwhile', async () => {
  const { clock, wires, circuits, call, fail, states, shared } = fleet(2)
  await call(0)
  await fail(0)
  wires[0]!.passage = () => ({ lost: 'error' })
  await call(0)
  await clock.advance(1_000)
  const long = deferred()
  const trial = circuits[0]!.execute(() => long.promise)
  wires[0]!.passage = () => ({})
  await clock.advance(500)
  await call(0)
  await clock.advance(500)
  long.resolve('ok')
  await trial
  for (let i = 0; i < 2; i++) {
    await call(0)
    await clock.advance(500)
  }
  expect([states()[0], await shared()]).toEqual(['closed', 'closed'])
})

test('a circuit whose old trial still hangs votes at once when it opens again', async () => {
  const { clock, circuits, call, fail, shared } = fleet(2)
  await call(0)
  await fail(0)
  await clock.advance(1_000)
  await call(0)
  const hung = deferred()
  void circuits[0]!.execute(() => hung.promise)
  circuits[0]!.reset()
  await settle()
  expect(await shared()).toBe('closed')
  await fail(0)
  expect(await shared()).toBe('open')
  hung.resolve('ok')
})

test('calls that wait learn of what the fleet decides, without a call to ask for it', async () => {
  const { clock, circuits, call, fail } = fleet(2, { halfOpen: { others: { waitMs: 10_000 } } })
  await call(0)
  await call(1)
  await fail(0)
  await clock.advance(500)
  await call(1, ok)
  await clock.advance(500)
  const long = deferred()
  const trial = circuits[0]!.execute(() => long.promise)
  await settle()
  const waiting = circuits[1]!.execute(ok).catch((error: { code: string }) => error.code)
  await clock.advance(3_000)
  long.resolve('ok')
  await trial
  await clock.advance(1_000)
  expect(clock.pendingTimers).toBeLessThanOrEqual(2)
  expect(await Promise.race([waiting, settle().then(() => 'still waits')])).toBe('ok')
})

test('a call that waits gets the lease that a trial which proved nothing has given back', async () => {
  const { clock, circuits, call, fail, states } = fleet(2, { halfOpen: { others: { waitMs: 10_000 } } })
  await call(0)
  await call(1)
  await fail(0)
  await clock.advance(500)
  await call(1)
  await clock.advance(500)
  const given = new AbortController()
  const operation = deferred()
  const trial = circuits[0]!.execute(() => operation.promise, { signal: given.signal })
  await settle()
  expect(states()[0]).toBe('half-open')
  const waiting = circuits[1]!.execute(ok)
  await clock.advance(3_000)
  given.abort()
  operation.resolve('in vain')
  await trial
  await clock.advance(1_000)
  expect(await Promise.race([waiting, settle().then(() => 'still waits')])).toBe('ok')
})

test('while others try, a circuit asks for a permit no more often than it looks', async () => {
  const { clock, circuits, wires, call, fail } = fleet(2)
  await call(0)
  await call(1)
  await fail(0)
  await clock.advance(500)
  await call(1)
  await clock.advance(500)
  await call(0)
  const long = deferred()
  const trial = circuits[0]!.execute(() => long.promise)
  wires[1]!.sent.length = 0
  for (let i = 0; i < 500; i++) {
    expect(await call(1)).toBe('CIRCUIT_OPEN')
    await clock.advance(10)
  }
  expect(wires[1]!.sent.length).toBeLessThanOrEqual(25) // 5 s
  long.resolve('ok')
  await trial
})

test('an open time goes on while the circuit is isolated', async () => {
  const { clock, circuits, call, fail } = fleet(1, { openMs: 60_000 })
  await call(0)
  await fail(0)
  const release = circuits[0]!.isolate()
  await clock.advance(50_000)
  release()
  await clock.advance(10_001)
  await call(0) // asks for the permit
  expect(await call(0)).toBe('ok')
})

test('a trial that ends while its circuit is isolated gives its lease back', async () => {
  const { clock, circuits, call, fail } = fleet(2)
  await call(0)
  await call(1)
  await fail(0)
  await clock.advance(1_000)
  await call(1)
  await call(0)
  const long = deferred()
  const trial = circuits[0]!.execute(() => long.promise)
  await clock.advance(500)
  circuits[0]!.isolate()
  long.resolve('ok')
  await trial
  await clock.advance(500)
  await call(1) // learns that the fleet tries
  await call(1) // asks for the permit
  expect(await call(1)).toBe('ok')
})

test('a trial that is over leaves no timer', async () => {
  const { clock, call, fail } = fleet(1)
  await call(0)
  await fail(0)
  await clock.advance(1_000)
  await call(0)
  expect(await call(0)).toBe('ok')
  await clock.advance(1_100) // its last looks
  expect(clock.pendingTimers).toBe(0)
})

test('a permit that comes late is given back', async () => {
  const { clock, wires, call, fail } = fleet(2)
  await call(0)
  await call(1)
  await fail(0)
  await clock.advance(1_000)
  wires[0]!.passage = (command) => (command === 'acquire' ? { answerMs: 300 } : {})
  await call(0)
  await clock.advance(310)
  await call(1) // learns of it
  await call(1) // asks
  expect(await call(1)).toBe('ok')
})

test('an answer that a later one has overtaken changes nothing', async () => {
  const { clock, wires, fail, states, shared } = fleet(1)
  wires[0]!.passage = (command) => (command === 'view' ? { answerMs: 200 } : {})
  await fail(0)
  expect([states()[0], await shared()]).toEqual(['open', 'open'])
  await clock.advance(210)
  expect(wires[0]!.sent).toEqual(['view', 'vote'])
})

test('a circuit whose store is lost while it tries judges the trial by itself', async () => {
  const { clock, wires, call, fail, states } = fleet(1)
  await call(0)
  await fail(0)
  await clock.advance(1_000)
  await call(0)
  wires[0]!.passage = () => ({ lost: 'ask' })
  expect(await call(0)).toBe('ok')
  expect(states()).toEqual(['half-open'])
  await clock.advance(250)
  expect(states()).toEqual(['closed'])
})
