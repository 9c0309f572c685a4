import { expect } from 'vitest'
import { FleetMember, fleetSettings } from '../../src/resilience/fleet.js'
import {
  CircuitBreaker,
  isHoldfastError,
  MemoryCircuitBreakerStore,
  type CircuitLedger,
  type CircuitMember,
  type LocalCircuit,
} from '../../src/resilience/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { deferred } from './calls.js'

// A fleet in one process: real circuits, and a store at the other end of a wire that delays, loses and reorders.

type Fault = 'none' | 'late' | 'request lost' | 'answer lost' | 'refused'
const SYNC_MS = 50
const LEASE_MS = 400
const OPEN_MS = 300
const TIMEOUT_MS = 100
const MAX_MS = 2_000
const NAME = 'service'

/** What one process has of the store. */
class Wire {
  fault: Fault = 'none'

  constructor(
    readonly ledger: CircuitLedger,
    readonly clock: ManualClock,
    readonly delay: () => number,
    readonly quorum: number,
  ) {}

  join(circuit: LocalCircuit): CircuitMember {
    const options = { quorum: this.quorum, syncMs: SYNC_MS, leaseMs: LEASE_MS, storeTimeoutMs: TIMEOUT_MS }
    const ask =
      <A extends unknown[], R>(method: (...args: A) => Promise<R>) =>
      (...args: A): Promise<R> =>
        this.#send(() => method.apply(this.ledger, args))
    const { view, vote, acquire, settle: tell, close } = this.ledger
    const far: CircuitLedger = {
      view: ask(view),
      vote: ask(vote),
      acquire: ask(acquire),
      settle: ask(tell),
      close: ask(close),
    }
    return new FleetMember(far, fleetSettings(options), circuit)
  }

  async #send<R>(ask: () => Promise<R>): Promise<R> {
    const { fault } = this
    if (fault === 'refused') throw new Error('connection refused')
    await this.clock.sleep(this.delay())
    if (fault === 'request lost') return new Promise(() => {})
    const answer = await ask()
    await this.clock.sleep(this.delay() + (fault === 'late' ? 3 * TIMEOUT_MS : 0))
    return fault === 'answer lost' ? new Promise(() => {}) : answer
  }
}

type Step =
  | { readonly do: 'call'; readonly who: readonly number[]; readonly as: 'works' | 'fails' | 'hangs' }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'end'; readonly which: number; readonly as: 'works' | 'fails' }
  | { readonly do: 'break'; readonly who: readonly number[]; readonly fault: Fault }

/** One of three, or all of them. */
const who = fc.constantFrom([0], [1], [2], [0, 1, 2], [2, 1, 0])
const call = fc.record({
  do: fc.constant('call' as const),
  who,
  as: fc.constantFrom('works', 'fails', 'hangs'),
})
const wait = fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(5, 20, 60, 150, 320, 500) })
const end = fc.record({
  do: fc.constant('end' as const),
  which: fc.nat(9),
  as: fc.constantFrom('works', 'fails'),
})
const broken = fc.record({
  do: fc.constant('break' as const),
  who,
  fault: fc.constantFrom<Fault>('none', 'late', 'request lost', 'answer lost', 'refused'),
})
const stepsOf = (...kinds: fc.Arbitrary<Step>[]): fc.Arbitrary<Step[]> =>
  fc.array(fc.oneof(call, call, call, wait, wait, end, ...kinds), { minLength: 20, maxLength: 100, size: 'max' })
const delays = fc.infiniteStream(fc.constantFrom(0, 1, 3, 10, 20))

interface Trial {
  readonly generation: number
  readonly startedAt: number
}

/** Does `steps`, then heals the wires and lets all call until the fleet has had the time to close. */
async function run(
  steps: readonly Step[],
  delay: () => number,
  { quorum, trials }: { quorum: number; trials: number },
): Promise<{ most: number }> {
  const clock = new ManualClock()
  const ledger = new MemoryCircuitBreakerStore({ clock })
  const wires = [0, 1, 2].map(() => new Wire(ledger, clock, delay, quorum))
  const circuits = wires.map(
    (store) =>
      new CircuitBreaker({
        name: NAME,
        window: { kind: 'consecutive', failures: 1 },
        openMs: OPEN_MS,
        halfOpen: { trials, maxMs: MAX_MS },
        store,
        clock,
      }),
  )
  const hanging: ReturnType<typeof deferred>[] = []
  const trying = new Set<Trial>()
  let most = 0

  const callOf = async (i: number, as: 'works' | 'fails' | 'hangs'): Promise<void> => {
    const circuit = circuits[i]!
    const failure = new Error('the service has failed')
    try {
      await circuit.execute(async () => {
        const { generation } = await ledger.view(NAME)
        const trial = circuit.state === 'half-open' ? { generation, startedAt: clock.now() } : undefined
        if (trial) trying.add(trial)
        const inTime = (one: Trial): boolean => one.generation === generation && one.startedAt + MAX_MS > clock.now()
        most = Math.max(most, [...trying].filter(inTime).length)
        try {
          if (as === 'fails') throw failure
          if (as === 'hangs') {
            const hang = deferred()
            hanging.push(hang)
            if ((await hang.promise) === 'fails') throw failure
          }
        } finally {
          if (trial) trying.delete(trial)
        }
      })
    } catch (error) {
      if (error !== failure) expect(isHoldfastError(error, 'CIRCUIT_OPEN')).toBe(true)
    }
  }

  const calls: Promise<void>[] = []
  for (const step of steps) {
    if (step.do === 'call') for (const i of step.who) calls.push(callOf(i, step.as))
    else if (step.do === 'wait') await clock.advance(step.ms)
    else if (step.do === 'break') for (const i of step.who) wires[i]!.fault = step.fault
    else {
      const [hang] = hanging.splice(step.which % Math.max(1, hanging.length), 1)
      hang?.resolve(step.as)
    }
    await settle()
  }

  for (const wire of wires) wire.fault = 'none'
  for (const hang of hanging.splice(0)) hang.resolve('works')
  for (let ms = 0; ms < 15_000; ms += 25) {
    for (const i of circuits.keys()) calls.push(callOf(i, 'works'))
    await clock.advance(25)
  }
  await Promise.all(calls)
  expect(circuits.map(({ state }) => state)).toEqual(['closed', 'closed', 'closed'])
  expect((await ledger.view(NAME)).state).toBe('closed')
  await clock.advance(1_000)
  expect(clock.pendingTimers).toBe(0)
  return { most }
}

const fleet = fc.record({ quorum: fc.constantFrom(1, 1, 1, 2, 3), trials: fc.integer({ min: 1, max: 3 }) })

prop(
  'over a wire that delays, no more trials run at once than the fleet may make, and all close when the service works',
  [stepsOf(), fleet, delays],
  async (steps, options, stream) => {
    const delay = (): number => stream.next().value as number
    const { most } = await run(steps, delay, options)
    if (options.quorum === 1) expect(most).toBeLessThanOrEqual(options.trials)
  },
  { numRuns: 40 },
)

prop(
  'over a wire that loses requests and answers, is late and refuses, no call fails of it, and all agree and close once it is whole',
  [stepsOf(broken), fleet, delays],
  async (steps, options, stream) => {
    await run(steps, () => stream.next().value as number, options)
  },
  { numRuns: 40 },
)
