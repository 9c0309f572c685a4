import { StoreError, withoutStack } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import { UNKNOWN, type FleetSettings } from './fleet-settings.js'
import { HeldLeases } from './held-leases.js'
import type { CircuitLedger, CircuitMember, TrialLease, LocalCircuit, SharedCircuit } from './store.js'

/** A store that has not answered is sent nothing more for so long: what a client can't send, it keeps. */
const PATIENCE_MS = 10_000

/**
 * A permit that ran out before the next call is kept longer the next time, but for no longer than this: others want it too. Who is
 * called even more rarely tries without one in the end, or would never try at all.
 */
const RARE_MS = 60_000

/** A lease that no trial has taken yet. */
interface Permit extends TrialLease {
  readonly askedAt: number
  readonly leaseMs: number
}

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
  #permit: Permit | undefined
  #refused = { generation: -1, until: 0 }
  readonly #leases: HeldLeases
  #unanswered = 0
  #sent = 0
  #read = 0
  #sentAt = 0
  #readAt = 0

  constructor(ledger: CircuitLedger, settings: FleetSettings, circuit: LocalCircuit) {
    this.#ledger = ledger
    this.#settings = settings
    this.#circuit = circuit
    const { clock, rules } = circuit
    this.#leases = new HeldLeases(clock, settings.leaseMs / 3, (lease, startedAt) => {
      if (clock.now() - startedAt >= rules.maxMs) return false // it hangs: another may try
      if (lease.generation < this.#known.generation) return false // it is old news
      void this.#lease(lease, settings.leaseMs)
      return true
    })
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
    const leases = this.#leases.endAll(this.#known.generation)
    if (leases.length === 0) return this.#ask()
    // One of the trials has taken too long.
    for (const lease of leases) this.report(lease, true, rules.slowToOpen < Infinity)
  }

  reset(): void {
    void this.#send(() => this.#ledger.close(this.#circuit.name, undefined))
  }

  rejoin(): void {
    const known = this.#known
    if (known.state === 'closed') return
    const passedMs = this.#circuit.clock.now() - this.#readAt
    this.#circuit.adopt({ ...known, openForMs: Math.max(0, known.openForMs - passedMs) })
  }

  permit(now: number): boolean {
    if (this.#permit?.generation !== this.#known.generation) this.#permit = undefined
    const permit = this.#permit
    const ageMs = permit ? now - permit.askedAt : 0
    if (!permit || (ageMs >= permit.leaseMs && ageMs < RARE_MS)) {
      this.#acquire(permit, ageMs)
      return false
    }
    this.#permit = undefined
    this.#leases.hold(permit, now, ageMs)
    return true
  }

  ended(startedAt: number): TrialLease | undefined {
    return this.#leases.ended(startedAt)
  }

  report({ id, generation }: TrialLease, failed: boolean | 'ignore', slow: boolean): void {
    const { name, rules } = this.#circuit
    const openMs = this.#circuit.openMs(this.#known.openings + 1)
    const result = { id, generation, failed, slow, rules, openMs }
    void this.#send(() => this.#ledger.settle(name, result)).then((shared) => {
      if (!shared && failed !== 'ignore') this.#circuit.decide(failed, slow)
    })
  }

  /** Asks now, and again as long as calls come, or wait. */
  #poll(): void {
    this.#isActive = false
    this.#ask()
    this.#circuit.clock.setTimer(() => {
      if (this.#isActive || this.#circuit.waits()) this.#poll()
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
    const takeBack = (late: SharedCircuit): void => {
      if (!late.granted || this.#circuit.state().kind !== 'closed') return
      this.#sentAt = -Infinity // the store is there: be patient no longer
      void this.#send(() => this.#ledger.close(name, late.generation))
    }
    void this.#send(() => this.#ledger.vote(name, vote), takeBack)
  }

  /** @param unused the permit that has run out, `ageMs` after it was asked for */
  #acquire(unused: Permit | undefined, ageMs: number): void {
    const askedAt = this.#circuit.clock.now() // the lease runs from later on, as the server sees it
    const { generation } = this.#known
    const { syncMs } = this.#settings
    if (this.#isAsking || (this.#refused.generation === generation && askedAt < this.#refused.until)) return
    this.#isAsking = true
    const id = unused?.id ?? `${this.#node}:${++this.#ids}`
    const leaseMs = Math.max(this.#settings.leaseMs, Math.min(2 * ageMs, RARE_MS))
    const giveBack = (late: SharedCircuit): void => {
      if (late.granted) this.report({ id, generation: late.generation }, 'ignore', false)
    }
    void this.#lease({ id, generation }, leaseMs, giveBack).then((shared) => {
      this.#isAsking = false
      if (!shared) return
      if (shared.granted) {
        this.#permit = { id, generation: shared.generation, askedAt, leaseMs }
        this.#circuit.wake()
      } else if (shared.generation === generation) {
        const waitMs = Math.min(syncMs, shared.openForMs || shared.leasedForMs || syncMs)
        this.#refused = { generation, until: this.#circuit.clock.now() + waitMs }
      }
    })
  }

  #lease(
    { id, generation }: TrialLease,
    leaseMs: number,
    late?: (shared: SharedCircuit) => void,
  ): Promise<SharedCircuit | undefined> {
    const { name, rules } = this.#circuit
    const ask = { id, generation, trials: rules.trials, leaseMs }
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
    const before = this.#known
    if (number < this.#read && shared.generation <= before.generation) return // overtaken by a later answer
    this.#read = Math.max(this.#read, number)
    const { name, clock } = this.#circuit
    const wasAlone = this.#alone
    this.#known = shared
    this.#readAt = clock.now()
    this.#alone = false
    if (shared.generation > before.generation) return this.#circuit.adopt(shared)

    const { kind, until } = this.#circuit.state()
    if (kind === 'closed' && shared.state !== 'closed') {
      // Its own trial has worked without the store, or the store has gone back to what it knew before.
      void this.#send(() => this.#ledger.close(name, shared.generation))
    } else if (kind === 'open' && until > clock.now() && shared.state === 'closed') {
      if (wasAlone || shared.generation < before.generation) this.#ask() // votes
    } else if (kind === 'half-open') this.#circuit.wake() // others may have given a permit back
  }
}
