import { expect } from 'vitest'
import { CircuitBreaker } from '../../src/resilience/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { deferred, failing, ok } from './calls.js'
import { FailingOver, Wire, type Passage } from './fleet-wire.js'

// A fleet, its ledger, and a wire between them that delays, loses and overtakes. The times: a lease is 2 s, a trial hangs after 8 s,
// nothing is under way for more than 6 s, and a circuit whose store is silent asks again after 10 s.

const NODES = 3
const LEASE_MS = 2_000
const MAX_MS = 8_000
const RARE_MS = 60_000
const SETTINGS = { quorum: 1, syncMs: 200, leaseMs: LEASE_MS, storeTimeoutMs: 100 }
/** After this time without trouble nothing of it is left: late commands, leases that nobody knows of, patience. */
const HEALED_MS = 6_000 + 10_000 + LEASE_MS + SETTINGS.syncMs

type Health = 'good' | 'slow' | 'torn' | 'lossy'

/** How a command fares; `dice` are numbers below 1 000. */
function passageOf(health: Health, dice: () => number): Passage {
  const [a, b] = [dice(), dice()]
  if (health === 'good') return { askMs: a % 30, answerMs: b % 30 } // both may overtake others
  if (health === 'slow') return { askMs: a * 3, answerMs: b * 3 }
  if (health === 'torn') return { askMs: a % 50, lost: 'error' }
  return { askMs: a % 90, answerMs: b % 90, ...(a % 3 === 0 ? { lost: b % 2 ? 'ask' : 'answer' } : {}) }
}

/** One run: what happened, and what is wrong with it. */
class Simulation {
  readonly clock = new ManualClock()
  readonly ledger = new FailingOver(this.clock)
  readonly health: Health[] = Array.from({ length: NODES }, () => 'good')
  readonly circuits: CircuitBreaker[]
  readonly #wires: Wire[]
  /** Errors that no call should have thrown, and trials that should not have begun. */
  readonly wrong: unknown[] = []
  /** When the last trouble was mended. `Infinity` until then: a circuit learns that something is over only when it is called. */
  troubledAt = -Infinity
  readonly #hanging: ReturnType<typeof deferred<unknown>>[] = []
  readonly #trials = new Set<{ readonly at: number; readonly generation: number }>()
  readonly #maxTrials: number
  readonly #releases: (() => void)[] = []
  readonly #calledAt = Array.from({ length: NODES }, () => -Infinity)

  constructor({ trials, quorum, openMs, waitMs }: Setup, dice: readonly number[]) {
    const { clock } = this
    let thrown = 0
    const roll = (): number => dice[thrown++ % dice.length]!
    // Under a larger quorum, circuits that are open alone try by themselves.
    this.#maxTrials = quorum === 1 ? trials : Infinity
    this.#wires = this.health.map((_, i) => {
      const wire = new Wire(clock, this.ledger, { ...SETTINGS, quorum })
      wire.passage = () => passageOf(this.health[i]!, roll)
      return wire
    })
    this.circuits = this.#wires.map((store) => {
      const others = waitMs === 0 ? 'reject' : { waitMs }
      const window = { kind: 'consecutive', failures: 2 } as const
      const halfOpen = { trials, maxMs: MAX_MS, others } as const
      return new CircuitBreaker({ name: 'c', window, openMs, halfOpen, clock, store })
    })
  }

  /** Whatever happens, a call throws what its function throws, or that the circuit is open. */
  call(who: number, operation: () => Promise<unknown>): void {
    const circuit = this.circuits[who]!
    const now = this.clock.now()
    const isRare = now - this.#calledAt[who]! >= RARE_MS
    this.#calledAt[who] = now
    const watched = (): Promise<unknown> =>
      circuit.state === 'half-open' && !isRare ? this.#try(this.#wires[who]!.granted, operation) : operation()
    circuit.execute(watched).catch((error: { code?: string; message?: string }) => {
      if (error.code !== 'CIRCUIT_OPEN' && error.message !== 'down') this.wrong.push(error)
    })
  }

  /** Only leases let trials begin, once the trouble is over; those that have lost theirs by hanging do not count. */
  async #try(generation: number, operation: () => Promise<unknown>): Promise<unknown> {
    const trial = { at: this.clock.now(), generation }
    this.#trials.add(trial)
    const since = Math.max(this.troubledAt + HEALED_MS, trial.at - MAX_MS)
    const trying = [...this.#trials].filter((each) => each.at > since && each.generation === generation)
    if (trying.length > this.#maxTrials) this.wrong.push(new Error(`${trying.length} trials at once`))
    try {
      return await operation()
    } finally {
      this.#trials.delete(trial)
    }
  }

  readonly hang = (): Promise<unknown> => {
    const call = deferred()
    this.#hanging.push(call)
    return call.promise
  }

  end(which: number, how: 'ok' | 'down'): void {
    const [call] = this.#hanging.splice(which % Math.max(1, this.#hanging.length), 1)
    if (how === 'ok') call?.resolve('ok')
    else call?.reject(new Error('down'))
  }

  isolate(who: number): void {
    this.#releases.push(this.circuits[who]!.isolate())
  }

  release(): void {
    this.#releases.shift()?.()
  }

  /** Everything works from now on, and nothing that began before is left but in the wire. */
  mend(): void {
    this.health.fill('good')
    while (this.#releases.length > 0) this.release()
    while (this.#hanging.length > 0) this.end(0, 'ok')
    this.troubledAt = this.clock.now()
  }

  all(operation: () => Promise<unknown>): void {
    for (let i = 0; i < NODES; i++) this.call(i, operation)
  }

  async serve(operation: () => Promise<unknown>, forMs: number): Promise<void> {
    for (let ms = 0; ms < forMs; ms += 100) {
      this.all(operation)
      await this.clock.advance(100)
    }
  }

  /** Where the circuits are, and the ledger. */
  async states(): Promise<Set<string>> {
    return new Set([...this.circuits.map(({ state }) => state), (await this.ledger.view('c')).state])
  }
}

interface Setup {
  readonly trials: number
  readonly quorum: number
  readonly openMs: number
  readonly waitMs: number
}

const down = failing('down')
const CALLS = [
  'ok',
  'trip',
  'trip',
  'hang',
  'all hang',
  'all hang',
  'all ok',
  'all ok',
  'all down',
  'end',
  'end down',
] as const
const HEALTH = ['good', 'slow', 'torn', 'lossy'] as const
const BY_HAND = ['isolate', 'release', 'reset', 'lose', 'fall back'] as const

const step = fc.record({
  who: fc.nat({ max: NODES - 1 }),
  what: fc.oneof(
    { weight: 7, arbitrary: fc.constantFrom(...CALLS) },
    { weight: 2, arbitrary: fc.constantFrom(...HEALTH, 'all good') },
    { weight: 1, arbitrary: fc.constantFrom(...BY_HAND) },
  ),
  ms: fc.oneof({ weight: 8, arbitrary: fc.nat({ max: 900 }) }, { weight: 1, arbitrary: fc.nat({ max: 20_000 }) }),
})

prop(
  'whatever happens to circuits, calls, wire and store: calls fail by their own errors only, trials keep to their number, and all agree once it is over',
  [
    fc.record({
      trials: fc.integer({ min: 1, max: 3 }),
      quorum: fc.constantFrom(1, 1, 2),
      openMs: fc.constantFrom(700, 700, 30_000),
      waitMs: fc.constantFrom(0, 0, 300, 3_000),
    }),
    fc.record({ calm: fc.boolean(), callMs: fc.constantFrom(0, 300, 3_000), works: fc.boolean() }),
    fc.array(fc.nat({ max: 999 }), { minLength: 20, maxLength: 80 }),
    fc.array(step, { minLength: 10, maxLength: 60 }),
  ],
  async (setup, { calm, callMs, works }, dice, steps) => {
    const sim = new Simulation(setup, dice)
    const { clock, ledger, circuits, health } = sim
    for (const { who, what, ms } of steps) {
      const isCall = CALLS.some((each) => each === what)
      if (calm && !isCall) continue
      if (what === 'ok') sim.call(who, ok)
      else if (what === 'trip') for (let i = 0; i < 2; i++) sim.call(who, down)
      else if (what === 'hang') sim.call(who, sim.hang)
      else if (what === 'all hang') sim.all(sim.hang)
      else if (what === 'all ok') sim.all(ok)
      else if (what === 'all down') sim.all(down)
      else if (what === 'end') sim.end(ms, 'ok')
      else if (what === 'end down') sim.end(ms, 'down')
      else if (what === 'all good') health.fill('good')
      else if (what === 'isolate') sim.isolate(who)
      else if (what === 'release') sim.release()
      else if (what === 'reset') circuits[who]!.reset()
      else if (what === 'lose') ledger.lose()
      else if (what === 'fall back') ledger.fallBack()
      else health[who] = what
      if (!isCall) sim.troubledAt = Infinity
      await clock.advance(ms)
    }

    sim.mend()
    const slowly = (operation: () => Promise<unknown>) => async () => {
      if (callMs > 0) await clock.sleep(callMs)
      return operation()
    }
    const operation = slowly(works ? ok : down)
    await sim.serve(operation, HEALED_MS)
    if (setup.quorum === 1) {
      // A change takes a look and a way to get around.
      for (let i = 0; i < 8 && (await sim.states()).size > 1; i++) await sim.serve(operation, 100)
      expect([...(await sim.states())]).toHaveLength(1)
    }
    await sim.serve(operation, 6_000)
    if (!works) expect(await sim.states()).not.toContain('closed')
    expect(sim.wrong).toEqual([])

    await sim.serve(slowly(ok), setup.openMs + 2 * LEASE_MS + 2 * callMs + 1_500)
    expect([...(await sim.states())]).toEqual(['closed'])
    expect(sim.wrong).toEqual([])
    await clock.advance(30_000)
    expect(clock.pendingTimers).toBe(0)
  },
)
