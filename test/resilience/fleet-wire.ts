import { fleetSettings } from '../../src/resilience/fleet-settings.js'
import { FleetMember } from '../../src/resilience/fleet.js'
import { MemoryCircuitBreakerStore } from '../../src/resilience/index.js'
import type { CircuitBreakerStore, CircuitLedger, FleetOptions, LocalCircuit } from '../../src/resilience/store.js'
import type { ManualClock } from '../../src/testing/index.js'

/** What becomes of one command: how long it is under way, and its answer, or which of the two gets lost. */
export interface Passage {
  readonly askMs?: number
  readonly answerMs?: number
  /** `'error'`: it ran, and the connection broke before the answer. */
  readonly lost?: 'ask' | 'answer' | 'error'
}

/** Between one circuit and the ledger: delays, loses and overtakes as `passage` says, command by command. */
export class Wire implements CircuitBreakerStore {
  passage: (command: keyof CircuitLedger) => Passage = () => ({})
  /** Every command that was sent. */
  readonly sent: (keyof CircuitLedger)[] = []
  /** Generation of the lease that was last granted. */
  granted = 0
  readonly #clock: ManualClock
  readonly #ledger: CircuitLedger
  readonly #options: FleetOptions

  constructor(clock: ManualClock, ledger: CircuitLedger, options: FleetOptions = {}) {
    this.#clock = clock
    this.#ledger = ledger
    this.#options = options
  }

  join(circuit: LocalCircuit): FleetMember {
    const ledger = this.#ledger
    const wired: CircuitLedger = {
      view: (...args) => this.#through('view', () => ledger.view(...args)),
      vote: (...args) => this.#through('vote', () => ledger.vote(...args)),
      acquire: async (...args) => {
        const shared = await this.#through('acquire', () => ledger.acquire(...args))
        if (shared.granted) this.granted = shared.generation
        return shared
      },
      settle: (...args) => this.#through('settle', () => ledger.settle(...args)),
      close: (...args) => this.#through('close', () => ledger.close(...args)),
    }
    return new FleetMember(wired, fleetSettings(this.#options), circuit)
  }

  async #through<T>(command: keyof CircuitLedger, run: () => Promise<T>): Promise<T> {
    this.sent.push(command)
    const { askMs = 0, answerMs = 0, lost } = this.passage(command)
    if (lost === 'ask') return new Promise(() => {})
    if (askMs > 0) await this.#clock.sleep(askMs)
    const answer = await run()
    if (lost === 'answer') return new Promise(() => {})
    if (answerMs > 0) await this.#clock.sleep(answerMs)
    if (lost === 'error') throw new Error('connection lost')
    return answer
  }
}

/** A ledger that may lose what it knows, or become another that knows something else, as in a fail-over. */
export class FailingOver implements CircuitLedger {
  now: MemoryCircuitBreakerStore
  #before: MemoryCircuitBreakerStore | undefined
  readonly #clock: ManualClock

  constructor(clock: ManualClock) {
    this.#clock = clock
    this.now = new MemoryCircuitBreakerStore({ clock })
  }

  /** Forgets all it knows. */
  lose(): void {
    this.#before = this.now
    this.now = new MemoryCircuitBreakerStore({ clock: this.#clock })
  }

  /** Becomes what it was when it last was lost or replaced. */
  fallBack(): void {
    const { now } = this
    this.now = this.#before ?? now
    this.#before = now
  }

  view: CircuitLedger['view'] = (...args) => this.now.view(...args)
  vote: CircuitLedger['vote'] = (...args) => this.now.vote(...args)
  acquire: CircuitLedger['acquire'] = (...args) => this.now.acquire(...args)
  settle: CircuitLedger['settle'] = (...args) => this.now.settle(...args)
  close: CircuitLedger['close'] = (...args) => this.now.close(...args)
}
