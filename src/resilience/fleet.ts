import { checkInteger, checkObject, checkPositive } from '../kernel/check.js'
import { StoreError, withoutStack } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import type { CircuitLedger, CircuitMember, FleetOptions, TrialLease, LocalCircuit, SharedCircuit } from './store.js'

/** {@link FleetOptions}, checked. */
export type FleetSettings = Required<{ readonly [K in keyof FleetOptions]: number }>

/** @throws InvalidOptionError when an option is out of its range. */
export function fleetSettings(options: FleetOptions): FleetSettings {
  const { quorum = 1, syncMs = 500, leaseMs = 5_000, storeTimeoutMs = 250 } = checkObject('options', options)
  return {
    quorum: checkInteger('quorum', quorum, 1),
    syncMs: checkPositive('syncMs', syncMs),
    leaseMs: checkPositive('leaseMs', leaseMs),
    storeTimeoutMs: checkPositive('storeTimeoutMs', storeTimeoutMs),
  }
}

/** A store that has not answered is sent nothing more for so long: what a client can't send, it keeps. */
const PATIENCE_MS = 10_000

/**
 * One circuit among those of its name. What it decides, it decides at once by what it knows: nothing ever waits for the store.
 * A circuit that opens by itself votes; when enough have voted, all open. Once the open time is over, whoever holds
 * a lease of the fleet makes the trial. While the store does not answer, each circuit goes by itself.
 */
export class FleetMember implements CircuitMember {
  readonly #ledger: CircuitLedger
  readonly #settings: FleetSettings
  readonly #circuit: LocalCircuit
  readonly #node = randomId()
  #known: SharedCircuit = UNKNOWN
  #alone = false
  #isActive = false
  #isPolling = false
  #isAsking = false
  #ids = 0
  /** For a trial to come. Usable for two thirds of its lease: a third must be left to renew it in. */
  #permit: (TrialLease & { readonly usableUntil: number }) | undefined
  readonly #leases: (TrialLease & { readonly startedAt: number; readonly stop: () => void })[] = []
  #unanswered = 0
  #sent = 0
  #read = 0
  #sentAt = 0

  constructor(ledger: CircuitLedger, settings: FleetSettings, circuit: LocalCircuit) {
    this.#ledger = ledger
    this.#settings = settings
    this.#circuit = circuit
  }

  get #renewMs(): number {
    return this.#settings.leaseMs / 3
  }

  get shares(): boolean {
    return !this.#alone && this.#known.state !== 'closed'
  }

  get retryAfterMs(): number {
    return this.#known.leasedForMs || this.#settings.syncMs
  }

  called(): void {
    this.#isActive = true
    if (this.#isPolling) return
    this.#isPolling = true
    this.#poll()
  }

  opened(): void {
    const { rules } = this.#circuit
    if (this.#leases.length === 0) return this.#ask()
    for (const { startedAt } of [...this.#leases]) {
      const lease = this.ended(startedAt) // of a trial that has taken too long
      if (lease) this.report(lease, true, rules.slowToOpen < Infinity)
    }
  }

  reset(): void {
    void this.#send(() => this.#ledger.close(this.#circuit.name, undefined))
  }

  rejoin(): void {
    if (this.shares) this.#circuit.adopt(this.#known)
  }

  permit(now: number): boolean {
    const permit = this.#permit
    if (!permit || permit.usableUntil <= now || permit.generation !== this.#known.generation) {
      this.#acquire()
      return false
    }
    this.#permit = undefined
    const { clock, rules } = this.#circuit
    const renew = (): void => {
      if (clock.now() - now >= rules.maxMs) return // it hangs: another may try
      void this.#lease(permit)
      cancel = clock.setTimer(renew, this.#renewMs)
    }
    let cancel = clock.setTimer(renew, Math.max(0, permit.usableUntil - this.#renewMs - now))
    this.#leases.push({ id: permit.id, generation: permit.generation, startedAt: now, stop: () => cancel() })
    return true
  }

  ended(startedAt: number): TrialLease | undefined {
    const i = this.#leases.findIndex((lease) => lease.startedAt === startedAt)
    if (i < 0) return undefined
    const [lease] = this.#leases.splice(i, 1)
    lease?.stop()
    return lease
  }

  report({ id, generation }: TrialLease, failed: boolean | 'ignore', slow: boolean): void {
    const { name, rules } = this.#circuit
    const openMs = this.#circuit.openMs(this.#known.openings + 1)
    const result = { id, generation, failed, slow, rules, openMs }
    void this.#send(() => this.#ledger.settle(name, result)).then((shared) => {
      if (!shared && failed !== 'ignore') this.#circuit.decide(failed, slow)
    })
  }

  /** Asks now, and again as long as calls come. */
  #poll(): void {
    this.#isActive = false
    this.#ask()
    this.#circuit.clock.setTimer(() => {
      if (this.#isActive) this.#poll()
      else this.#isPolling = false
    }, this.#settings.syncMs)
  }

  /** Looks at the fleet; a circuit that is open while the fleet is not, votes. */
  #ask(): void {
    const { name, clock } = this.#circuit
    const { kind, until } = this.#circuit.state()
    const openMs = Math.ceil(until - clock.now())
    if (kind !== 'open' || openMs <= 0 || this.#known.state !== 'closed') {
      void this.#send(() => this.#ledger.view(name))
      return
    }
    const { generation } = this.#known
    const vote = { node: this.#node, generation, openMs, quorum: this.#settings.quorum }
    void this.#send(() => this.#ledger.vote(name, vote))
  }

  #acquire(): void {
    if (this.#isAsking) return
    this.#isAsking = true
    const { generation: known } = this.#known
    // One that has grown too old to be used is asked for again: it is still held.
    const id = this.#permit?.generation === known ? this.#permit.id : `${this.#node}:${++this.#ids}`
    const askedAt = this.#circuit.clock.now() // the lease runs from later on, as the server sees it
    const giveBack = ({ granted, generation }: SharedCircuit): void => {
      if (granted) this.report({ id, generation }, 'ignore', false)
    }
    void this.#lease({ id, generation: known }, giveBack).then((shared) => {
      this.#isAsking = false
      if (!shared?.granted) return
      this.#permit = { id, generation: shared.generation, usableUntil: askedAt + 2 * this.#renewMs }
      this.#circuit.wake()
    })
  }

  #lease({ id, generation }: TrialLease, late?: (shared: SharedCircuit) => void): Promise<SharedCircuit | undefined> {
    const { name, rules } = this.#circuit
    const ask = { id, generation, trials: rules.trials, leaseMs: this.#settings.leaseMs }
    return this.#send(() => this.#ledger.acquire(name, ask), late)
  }

  /**
   * What the store says, once the circuit has followed it; `undefined` when it says nothing in time.
   * @param late is given what it says then
   */
  #send(ask: () => Promise<SharedCircuit>, late?: (shared: SharedCircuit) => void): Promise<SharedCircuit | undefined> {
    const { clock } = this.#circuit
    const now = clock.now()
    if (this.#alone && this.#unanswered > 0 && now - this.#sentAt < PATIENCE_MS) return Promise.resolve(undefined)
    this.#sentAt = now
    this.#unanswered++
    const number = ++this.#sent
    const { storeTimeoutMs } = this.#settings
    return new Promise((resolve) => {
      let isLate = false
      const fail = (error: unknown): void => {
        if (isLate) return
        this.#fail(error)
        resolve(undefined)
      }
      const cancel = clock.setTimer(() => {
        fail(withoutStack(() => new StoreError(`the store gave no answer within ${storeTimeoutMs} ms`)))
        isLate = true
      }, storeTimeoutMs)
      const answered = (): void => {
        this.#unanswered--
        cancel()
      }
      ask().then(
        (shared) => {
          answered()
          if (isLate) {
            late?.(shared)
            if (this.#isPolling) this.#ask() // it is back, but what it said is old
            return
          }
          this.#follow(number, shared)
          resolve(shared)
        },
        (error) => {
          answered()
          fail(error)
        },
      )
    })
  }

  #fail(error: unknown): void {
    if (this.#alone) return
    this.#alone = true
    this.#permit = undefined
    this.#circuit.lost(error)
    this.#circuit.wake() // what waits for a permit may try by itself now
  }

  #follow(number: number, shared: SharedCircuit): void {
    if (number < this.#read) return // overtaken by a later answer
    this.#read = number
    const before = this.#known
    const wasAlone = this.#alone
    this.#known = shared
    this.#alone = false
    if (shared.generation > before.generation) return this.#circuit.adopt(shared)

    const { kind, until } = this.#circuit.state()
    const isOpen = kind === 'open' && until > this.#circuit.clock.now()
    if (isOpen && shared.state === 'closed') {
      if (wasAlone || shared.generation < before.generation) this.#ask() // votes
    } else if (wasAlone && kind === 'closed' && shared.state !== 'closed') {
      // It has tried by itself meanwhile, and it worked.
      void this.#send(() => this.#ledger.close(this.#circuit.name, shared.generation))
    }
  }
}

/** A fleet of which nothing is known. */
export const UNKNOWN: SharedCircuit = {
  generation: 0,
  state: 'closed',
  openForMs: 0,
  openings: 0,
  granted: false,
  leasedForMs: 0,
}
