import { checkMethods } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { weighTrials } from './circuit-state.js'
import { FleetMember } from './fleet.js'
import { fleetSettings, UNKNOWN, type FleetSettings } from './fleet-settings.js'
import type {
  CircuitBreakerStore,
  CircuitLedger,
  CircuitMember,
  FleetOptions,
  TrialLease,
  LocalCircuit,
  SharedCircuit,
  SharedCircuitState,
  TrialResult,
} from './store.js'

/** How a {@link MemoryCircuitBreakerStore} works. */
export interface MemoryCircuitBreakerStoreOptions extends FleetOptions {
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

interface Fleet {
  generation: number
  state: SharedCircuitState
  openUntil: number
  openings: number
  settled: number
  failures: number
  slow: number
  /** Node → when its vote ends. */
  votes: Map<string, number>
  /** TrialLease → when it ends. */
  leases: Map<string, number>
}

/** Fleets in this process's memory: circuits of the same name made in several places open and close together. */
export class MemoryCircuitBreakerStore implements CircuitBreakerStore, CircuitLedger {
  readonly #fleets = new Map<string, Fleet>()
  readonly #settings: FleetSettings
  readonly #clock: Clock

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(options: MemoryCircuitBreakerStoreOptions = {}) {
    this.#settings = fleetSettings(options)
    this.#clock = checkMethods('clock', options.clock ?? systemClock, ['now'])
  }

  join(circuit: LocalCircuit): CircuitMember {
    return new FleetMember(this, this.#settings, circuit)
  }

  async view(name: string): Promise<SharedCircuit> {
    return this.#seen(this.#fleets.get(name))
  }

  async vote(
    name: string,
    { node, generation, openMs, quorum }: { node: string; generation: number; openMs: number; quorum: number },
  ): Promise<SharedCircuit> {
    const now = this.#clock.now()
    const fleet = this.#fleets.get(name)
    if ((fleet?.generation ?? 0) !== generation || (fleet && fleet.state !== 'closed')) return this.#seen(fleet)
    const voting = fleet ?? newFleet()
    this.#fleets.set(name, voting)
    voting.votes.set(node, now + openMs)
    forgetBefore(voting.votes, now)
    const granted = voting.votes.size >= quorum
    if (granted) this.#open(voting, now + openMs)
    return { ...this.#seen(voting), granted }
  }

  async acquire(
    name: string,
    { id, generation, trials, leaseMs }: TrialLease & { trials: number; leaseMs: number },
  ): Promise<SharedCircuit> {
    const now = this.#clock.now()
    const fleet = this.#fleets.get(name)
    if (!fleet || fleet.generation !== generation) return this.#seen(fleet)
    if (fleet.state === 'open' && fleet.openUntil <= now) this.#go(fleet, 'half-open')
    if (fleet.state !== 'half-open') return this.#seen(fleet)
    forgetBefore(fleet.leases, now)
    const { size } = fleet.leases
    // While none is held one is always given: a fleet to which circuits with fewer trials have come must not get stuck.
    const granted = fleet.leases.has(id) || size + fleet.settled < trials || size === 0
    if (granted) fleet.leases.set(id, now + leaseMs)
    return { ...this.#seen(fleet), granted }
  }

  async settle(
    name: string,
    { id, generation, failed, slow, rules, openMs }: TrialLease & TrialResult,
  ): Promise<SharedCircuit> {
    const now = this.#clock.now()
    const fleet = this.#fleets.get(name)
    if (!fleet || fleet.generation !== generation || fleet.state !== 'half-open') return this.#seen(fleet)
    forgetBefore(fleet.leases, now)
    if (!fleet.leases.delete(id) || failed === 'ignore') return this.#seen(fleet)
    const verdict = weighTrials(fleet, failed, slow, rules)
    if (verdict === 'open') this.#open(fleet, now + openMs)
    else if (verdict === 'closed') this.#close(fleet)
    return this.#seen(fleet)
  }

  async close(name: string, generation: number | undefined): Promise<SharedCircuit> {
    const fleet = this.#fleets.get(name)
    if (fleet && fleet.state !== 'closed' && (generation ?? fleet.generation) === fleet.generation) this.#close(fleet)
    else if (fleet && generation === undefined) fleet.votes.clear()
    return this.#seen(fleet)
  }

  #open(fleet: Fleet, until: number): void {
    fleet.openings++
    fleet.openUntil = until
    this.#go(fleet, 'open')
  }

  #close(fleet: Fleet): void {
    fleet.openings = 0
    this.#go(fleet, 'closed')
  }

  #go(fleet: Fleet, state: SharedCircuitState): void {
    fleet.state = state
    fleet.generation = Math.max(fleet.generation + 1, Math.floor(this.#clock.now() * 1_000))
    fleet.settled = fleet.failures = fleet.slow = 0
    fleet.votes.clear()
    fleet.leases.clear()
  }

  #seen(fleet: Fleet | undefined): SharedCircuit {
    if (!fleet) return UNKNOWN
    const now = this.#clock.now()
    const { generation, state, openings } = fleet
    const leased = [...fleet.leases.values()].filter((until) => until > now)
    return {
      generation,
      state,
      openForMs: state === 'open' ? Math.max(0, fleet.openUntil - now) : 0,
      openings,
      granted: false,
      leasedForMs: leased.length === 0 ? 0 : Math.min(...leased) - now,
    }
  }
}

const newFleet = (): Fleet => ({
  generation: 0,
  state: 'closed',
  openUntil: 0,
  openings: 0,
  settled: 0,
  failures: 0,
  slow: 0,
  votes: new Map(),
  leases: new Map(),
})

function forgetBefore(ends: Map<string, number>, now: number): void {
  for (const [id, until] of ends) if (until <= now) ends.delete(id)
}
