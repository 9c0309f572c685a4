import { describe, expect, test } from 'vitest'
import { CircuitBreaker, MemoryCircuitBreakerStore, type CircuitBreakerOptions } from '../../src/resilience/index.js'
import { FleetMember } from '../../src/resilience/fleet.js'
import type { CircuitBreakerStore, CircuitLedger, LocalCircuit } from '../../src/resilience/store.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { circuitLedgerContract } from '../conformance/circuit-ledger.js'
import { deferred, failing, ok } from './calls.js'

circuitLedgerContract('MemoryCircuitBreakerStore', async () => {
  const clock = new ManualClock()
  return {
    ledger: new MemoryCircuitBreakerStore({ clock }),
    advance: (ms) => clock.advance(ms),
    close: async () => {},
  }
})

test('in memory, votes and leases end at their very millisecond', async () => {
  const clock = new ManualClock()
  const store = new MemoryCircuitBreakerStore({ clock })
  const vote = (node: string, quorum: number, generation = 0) =>
    store.vote('c', { node, generation, openMs: 100, quorum })
  await vote('a', 2)
  await clock.advance(100)
  expect((await vote('b', 2)).state).toBe('closed')
  const { generation } = await vote('a', 2)
  await clock.advance(100)
  const acquire = (id: string, of: number) => store.acquire('c', { id, generation: of, trials: 1, leaseMs: 50 })
  const trying = await acquire('a', generation)
  await clock.advance(50)
  expect(await acquire('b', trying.generation)).toMatchObject({ state: 'half-open', granted: true })
})

const SETTINGS = { quorum: 1, syncMs: 500, leaseMs: 5_000, storeTimeoutMs: 250 }

/** A store whose answers can be kept back, or be errors. */
class Unreliable implements CircuitBreakerStore {
  mode: 'works' | 'fails' | 'silent' = 'works'
  sent = 0
  readonly #held: (() => void)[] = []
  readonly #ledger: CircuitLedger
  readonly #settings: typeof SETTINGS

  constructor(clock: ManualClock, settings: Partial<typeof SETTINGS> = {}, ledger?: CircuitLedger) {
    this.#ledger = ledger ?? new MemoryCircuitBreakerStore({ clock })
    this.#settings = { ...SETTINGS, ...settings }
  }

  join(circuit: LocalCircuit): FleetMember {
    const through = async <T>(ask: () => Promise<T>): Promise<T> => {
      this.sent++
      if (this.mode === 'fails') throw new Error('no connection')
      if (this.mode === 'silent') await new Promise<void>((resolve) => this.#held.push(resolve))
      return ask()
    }
    const ledger: CircuitLedger = {
      view: (name) => through(() => this.#ledger.view(name)),
      vote: (name, vote) => through(() => this.#ledger.vote(name, vote)),
      acquire: (name, ask) => through(() => this.#ledger.acquire(name, ask)),
      settle: (name, result) => through(() => this.#ledger.settle(name, result)),
      close: (name, generation) => through(() => this.#ledger.close(name, generation)),
    }
    return new FleetMember(ledger, this.#settings, circuit)
  }

  comeBack(): void {
    this.mode = 'works'
    for (const resolve of this.#held.splice(0)) resolve()
  }
}

function fleet(n: number, options: CircuitBreakerOptions = {}, settings: Partial<typeof SETTINGS> = {}) {
  const clock = new ManualClock()
  const ledger = new MemoryCircuitBreakerStore({ clock })
  const stores = Array.from({ length: n }, () => new Unreliable(clock, settings, ledger))
  const window = { kind: 'consecutive', failures: 2 } as const
  const circuits = stores.map(
    (store) => new CircuitBreaker({ name: 'c', window, openMs: 1_000, clock, store, ...options }),
  )
  const states = (): string[] => circuits.map(({ state }) => state)
  const callAll = async (operation = ok): Promise<void> => {
    await Promise.all(circuits.map((circuit) => circuit.execute(operation).catch(() => {})))
    await settle()
  }
  const fail = async (i: number, times = 2): Promise<void> => {
    for (let t = 0; t < times; t++) await circuits[i]!.execute(failing('down')).catch(() => {})
    await settle()
  }
  return { clock, stores, circuits, states, callAll, fail }
}

test('one opens, and the others follow with their next look', async () => {
  const { clock, callAll, fail, states } = fleet(3)
  await callAll()
  await fail(0)
  expect(states()).toEqual(['open', 'closed', 'closed'])
  await callAll()
  await clock.advance(500)
  expect(states()).toEqual(['open', 'open', 'open'])
})

test('an open fleet makes one trial; its success closes all', async () => {
  const { clock, circuits, callAll, fail, states } = fleet(3)
  await callAll()
  await fail(0)
  await callAll()
  await clock.advance(500)
  await clock.advance(500)
  const trial = deferred()
  let ran = 0
  const operation = () => (ran++, trial.promise)
  const calls: Promise<unknown>[] = []
  for (let round = 0; round < 5; round++) {
    for (const circuit of circuits) calls.push(circuit.execute(operation).catch((error: unknown) => error))
    await clock.advance(100)
  }
  expect(ran).toBe(1)
  expect(states()).toEqual(['half-open', 'half-open', 'half-open'])
  trial.resolve('works')
  await settle()
  for (let i = 0; i < 3; i++) {
    await callAll()
    await clock.advance(500)
  }
  expect(states()).toEqual(['closed', 'closed', 'closed'])
  await Promise.all(calls)
})

test('a permit whose holder hangs passes on, and what comes of the hung trial then is old news', async () => {
  const { clock, circuits, stores, callAll, fail, states } = fleet(2)
  await callAll()
  await fail(0)
  await clock.advance(1_000)
  const hung = deferred()
  await circuits[0]!.execute(ok).catch(() => {}) // asks for the permit
  await settle()
  const trial = circuits[0]!.execute(() => hung.promise)
  stores[0]!.mode = 'silent' // as a process that is stopped
  await clock.advance(4_900)
  await circuits[1]!.execute(ok).catch(() => {})
  await clock.advance(50)
  await expect(circuits[1]!.execute(ok)).rejects.toThrow('half-open')
  await clock.advance(600)
  await circuits[1]!.execute(ok).catch(() => {}) // asks again
  await settle()
  await expect(circuits[1]!.execute(ok)).resolves.toBe('ok')
  await settle()
  expect(circuits[1]!.state).toBe('closed')
  stores[0]!.comeBack()
  hung.reject(new Error('late'))
  await trial.catch(() => {})
  await settle()
  for (let i = 0; i < 3; i++) {
    await callAll()
    await clock.advance(500)
  }
  expect(states()).toEqual(['closed', 'closed'])
})

test('the lease of a trial that takes long is kept', async () => {
  const { clock, circuits, callAll, fail } = fleet(2)
  await callAll()
  await fail(0)
  await callAll()
  await clock.advance(1_000)
  const slow = deferred()
  await circuits[0]!.execute(ok).catch(() => {})
  await settle()
  const trial = circuits[0]!.execute(() => slow.promise)
  for (let i = 0; i < 40; i++) {
    await expect(circuits[1]!.execute(ok)).rejects.toMatchObject({ code: 'CIRCUIT_OPEN' })
    await clock.advance(500)
  }
  slow.resolve('ok')
  await expect(trial).resolves.toBe('ok')
})

test('a permit that was left lying is renewed when its trial begins, so that no other makes one beside it', async () => {
  const { clock, circuits, callAll, fail } = fleet(2)
  await callAll()
  await fail(0)
  await clock.advance(1_000)
  await callAll() // the first asks for a permit
  await clock.advance(3_000) // its lease of 5 s is more than half over
  let ran = 0
  const trial = deferred()
  const calls: Promise<unknown>[] = []
  for (let ms = 0; ms < 8_000; ms += 500) {
    for (const circuit of circuits) calls.push(circuit.execute(() => (ran++, trial.promise)).catch(() => {}))
    await clock.advance(500)
  }
  expect(ran).toBe(1)
  trial.resolve('works')
  await Promise.all(calls)
})

test('a permit that comes too late is given back: another may try at once', async () => {
  const { clock, circuits, stores, callAll, fail } = fleet(2)
  await callAll()
  await fail(0)
  await callAll()
  await clock.advance(1_300)
  stores[0]!.mode = 'silent'
  await circuits[0]!.execute(ok).catch(() => {}) // asks
  await clock.advance(250) // and has waited long enough
  stores[0]!.comeBack() // granted now
  await settle()
  for (let i = 0; i < 2; i++) {
    await circuits[1]!.execute(ok).catch(() => {}) // learns that the fleet tries, then asks
    await settle()
  }
  await expect(circuits[1]!.execute(ok)).resolves.toBe('ok')
})

test('a trial whose result the store does not take is judged here', async () => {
  const { clock, circuits, stores, callAll, fail } = fleet(2)
  await callAll()
  await fail(0)
  await clock.advance(1_000)
  await circuits[0]!.execute(ok).catch(() => {}) // asks for a permit
  await settle()
  const trial = deferred()
  const call = circuits[0]!.execute(() => trial.promise)
  expect(circuits[0]!.state).toBe('half-open')
  stores[0]!.mode = 'fails'
  trial.resolve('works')
  await call
  await settle()
  expect(circuits[0]!.state).toBe('closed')
})

test('under a quorum one bad node opens only itself, and tries by itself', async () => {
  const { clock, circuits, callAll, fail, states } = fleet(4, {}, { quorum: 3 })
  await callAll()
  await fail(0)
  for (let i = 0; i < 3; i++) {
    await clock.advance(300)
    await callAll()
  }
  expect(states()).toEqual(['open', 'closed', 'closed', 'closed'])
  await clock.advance(200)
  await expect(circuits[0]!.execute(ok)).resolves.toBe('ok')
  expect(states()).toEqual(['closed', 'closed', 'closed', 'closed'])
  await fail(0)
  await fail(1)
  await fail(2)
  await callAll()
  await clock.advance(500)
  expect(states()).toEqual(['open', 'open', 'open', 'open'])
})

describe.each(['fails', 'silent'] as const)('a store that %s', (mode) => {
  test('is told once, fails no call, and leaves each circuit to itself', async () => {
    const { clock, stores, circuits, callAll, fail, states } = fleet(2)
    const lost: unknown[] = []
    circuits[0]!.on('storeFailed', ({ error }) => lost.push(error))
    await callAll()
    for (const store of stores) store.mode = mode
    for (let i = 0; i < 20; i++) {
      await expect(circuits[0]!.execute(ok)).resolves.toBe('ok')
      await clock.advance(300)
    }
    expect(lost).toHaveLength(1)
    await fail(0)
    expect(states()).toEqual(['open', 'closed'])
    await clock.advance(1_300)
    await expect(circuits[0]!.execute(ok)).resolves.toBe('ok')
    expect(states()).toEqual(['closed', 'closed'])
  })

  test('finds on its return that those agree who have gone ahead meanwhile', async () => {
    const { clock, stores, circuits, callAll, fail, states } = fleet(3)
    await callAll()
    for (const store of stores) store.mode = mode
    for (let i = 0; i < 3; i++) {
      await callAll()
      await clock.advance(300)
    }
    await fail(1)
    expect(states()).toEqual(['closed', 'open', 'closed'])
    for (const store of stores) store.comeBack()
    for (let i = 0; i < 4; i++) {
      await Promise.all(circuits.map((circuit) => circuit.execute(ok).catch(() => {})))
      await clock.advance(150)
    }
    expect(states()).toEqual(['open', 'open', 'open'])
  })

  test('in an open fleet: whose own trial has worked closes it on the return', async () => {
    const { clock, stores, circuits, callAll, fail, states } = fleet(2)
    await callAll()
    await fail(0)
    await callAll()
    await clock.advance(500)
    expect(states()).toEqual(['open', 'open'])
    stores[0]!.mode = mode
    for (let i = 0; i < 4; i++) {
      await circuits[0]!.execute(ok).catch(() => {})
      await clock.advance(300)
    }
    expect(states()).toEqual(['closed', 'open'])
    stores[0]!.comeBack()
    for (let i = 0; i < 4; i++) {
      await callAll()
      await clock.advance(500)
    }
    expect(states()).toEqual(['closed', 'closed'])
  })
})

test('a silent store is not sent one command after the other', async () => {
  const { clock, stores, circuits } = fleet(1)
  stores[0]!.mode = 'silent'
  for (let i = 0; i < 200; i++) {
    await circuits[0]!.execute(ok)
    await clock.advance(250)
  }
  expect(stores[0]!.sent).toBeLessThanOrEqual(7) // 50 s
})

test('a store that has lost everything learns again that the fleet is open', async () => {
  const clock = new ManualClock()
  const first = new MemoryCircuitBreakerStore({ clock })
  let now: MemoryCircuitBreakerStore = first
  const forwarding = {
    view: (name) => now.view(name),
    vote: (name, vote) => now.vote(name, vote),
    acquire: (name, ask) => now.acquire(name, ask),
    settle: (name, result) => now.settle(name, result),
    close: (name, generation) => now.close(name, generation),
  } satisfies CircuitLedger
  const store = new Unreliable(clock, {}, forwarding)
  const window = { kind: 'consecutive', failures: 1 } as const
  const circuit = new CircuitBreaker({ name: 'c', window, openMs: 60_000, clock, store })
  await circuit.execute(failing('down')).catch(() => {})
  await settle()
  now = new MemoryCircuitBreakerStore({ clock })
  await circuit.execute(ok).catch(() => {})
  await clock.advance(600)
  await settle()
  expect(await now.view('c')).toMatchObject({ state: 'open' })
})

test('reset() closes the fleet; isolate() holds open only its own circuit, which rejoins', async () => {
  const { clock, circuits, callAll, fail, states } = fleet(2)
  await callAll()
  const release = circuits[0]!.isolate()
  await fail(1)
  await callAll()
  await clock.advance(500)
  expect(states()).toEqual(['isolated', 'open'])
  release()
  expect(states()).toEqual(['open', 'open'])
  circuits[1]!.reset()
  await callAll()
  await clock.advance(500)
  expect(states()).toEqual(['closed', 'closed'])
})

test('calls that wait for a trial get in when the permit comes', async () => {
  const { clock, circuits, callAll, fail } = fleet(2, { halfOpen: { others: { waitMs: 1_000 } } })
  await callAll()
  await fail(0)
  await clock.advance(1_000)
  await expect(circuits[0]!.execute(ok)).resolves.toBe('ok')
})

test('an idle circuit asks nothing and holds no timer', async () => {
  const { clock, stores, circuits } = fleet(1)
  expect([clock.pendingTimers, stores[0]!.sent]).toEqual([0, 0])
  await circuits[0]!.execute(ok)
  await clock.advance(10_000)
  expect([clock.pendingTimers, stores[0]!.sent]).toEqual([0, 1])
})

test('metricsOnly shares nothing; a store needs a name', async () => {
  const { stores, circuits } = fleet(1, { metricsOnly: true })
  await circuits[0]!.execute(ok)
  expect(stores[0]!.sent).toBe(0)
  expect(() => new CircuitBreaker({ store: stores[0] })).toThrow('name: expected a string that is not empty')
  expect(() => new CircuitBreaker({ name: 'c', store: {} as never })).toThrow('store.join: expected a function')
  expect(() => new MemoryCircuitBreakerStore({ quorum: 0 })).toThrow('quorum: expected an integer ≥ 1, got 0')
  expect(() => new MemoryCircuitBreakerStore({ clock: {} as never })).toThrow('clock.now: expected a function')
})
