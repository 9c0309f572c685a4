import type { Clock } from '../kernel/clock.js'
import type { TrialRules } from './circuit-options.js'

/** Lets the circuits of one name, in many processes, open and close together. */
export interface CircuitBreakerStore {
  /** Makes `circuit` one of the fleet of its name. Sends nothing and sets no timer yet. */
  join(circuit: LocalCircuit): CircuitMember
}

/** What the fleet sees of a circuit, and does with it. All of it happens at once, in this process. */
export interface LocalCircuit {
  /** Circuits of the same name in the same store are one fleet. Any string that is not empty. */
  readonly name: string
  /** Half-open rules; `trials` counts for the whole fleet. */
  readonly rules: TrialRules
  /** The circuit's own. */
  readonly clock: Clock
  /** Where it stands now; `until` in terms of `clock.now()`, 0 when it is not open. */
  state(): { readonly kind: SharedCircuitState | 'isolated'; readonly until: number }
  /** Open time of the n-th opening in a row, from 1, in milliseconds. */
  openMs(openings: number): number
  /** Goes where the fleet is. */
  adopt(shared: SharedCircuit): void
  /** Judges a trial by itself, because the store did not. */
  decide(failed: boolean, slow: boolean): void
  /** Lets calls that wait look again: a permit may be there. */
  wake(): void
  /** Whether calls wait for a permit. */
  waits(): boolean
  /** Tells that the store has failed: from here on the circuit is alone, until the store answers. */
  lost(error: unknown): void
}

/** The fleet as one circuit sees it. Every method returns at once; what it sends is answered later. */
export interface CircuitMember {
  /** Whether trials need a permit of the fleet now. If not, the circuit goes by itself. */
  readonly shares: boolean
  /** A call came: as long as some come, the fleet is asked now and then. */
  called(): void
  /** The circuit has opened by what it has seen itself. */
  opened(): void
  /** The circuit was closed by hand: so is the fleet. */
  reset(): void
  /** The circuit is no longer isolated: it goes where the fleet is. */
  rejoin(): void
  /** Takes a permit for a trial that begins at `now`, if one is here; if not, one is asked for. @returns whether it was */
  permit(now: number): boolean
  /** The trial that began then is over. @returns what to {@link report}; `undefined` for a trial without a permit */
  ended(startedAt: number): TrialLease | undefined
  /** Tells the fleet of a trial; `failed` is `'ignore'` when it proves nothing and gives its permit back. */
  report(lease: TrialLease, failed: boolean | 'ignore', slow: boolean): void
  /** Milliseconds after which another try may pass, while others try. */
  readonly retryAfterMs: number
}

/** The right to one trial. */
export interface TrialLease {
  /** No other lease has it. */
  readonly id: string
  /** The generation of the fleet that it was given in, and is good for. */
  readonly generation: number
}

/** Where a fleet may stand. */
export type SharedCircuitState = 'closed' | 'open' | 'half-open'

/** A fleet at one moment. */
export interface SharedCircuit {
  /** Grows with every change of the state, also when the store has lost all it knew. 0: nothing is known, as if closed. */
  readonly generation: number
  /** Where it stands; `'open'` also when the open time is over and nobody has asked for a trial yet. */
  readonly state: SharedCircuitState
  /** Rest of the open time in milliseconds; 0 when it is over, or not open. */
  readonly openForMs: number
  /** How often it has opened since it was last closed. */
  readonly openings: number
  /** Whether the lease that was asked for is held, or this vote has opened the fleet. */
  readonly granted: boolean
  /** Milliseconds until the first of the leases that are held runs out; 0 when none is. */
  readonly leasedForMs: number
}

/**
 * Where the state of fleets is kept. Each method is one atomic step, by the store's own clock, and returns the fleet after it. A
 * change that is based on another generation than the present one is not made. An unknown fleet is closed.
 * Contract: `test/conformance/circuit-ledger.ts`.
 */
export interface CircuitLedger {
  /** Only looks. */
  view(name: string): Promise<SharedCircuit>
  /**
   * `node` holds that a closed fleet must open, for `openMs` from now. It opens, for as long as the last of them says, when
   * `quorum` nodes hold so at once. A vote of a node replaces the one before.
   */
  vote(name: string, vote: { node: string; generation: number; openMs: number; quorum: number }): Promise<SharedCircuit>
  /**
   * Takes, or keeps, lease `id` for `leaseMs`, if fewer than `trials` are held or settled, or none is held. An open fleet whose time is over
   * is half-open first. A lease that has run out is nobody's: its trial may be made by another.
   */
  acquire(name: string, ask: TrialLease & { trials: number; leaseMs: number }): Promise<SharedCircuit>
  /**
   * Gives lease `id` back, with the result of its trial, and opens or closes a half-open fleet as soon as the trials to come can't
   * change that. Does nothing when the lease has run out.
   */
  settle(name: string, result: TrialLease & TrialResult): Promise<SharedCircuit>
  /** Closes a fleet of `generation`, or of any when that is `undefined`. */
  close(name: string, generation: number | undefined): Promise<SharedCircuit>
}

/** What came of a trial, and how a fleet judges. */
export interface TrialResult {
  /** `'ignore'`: it proves nothing. */
  readonly failed: boolean | 'ignore'
  /** Whether it took longer than it should. */
  readonly slow: boolean
  /** Half-open rules of the circuit that made it. */
  readonly rules: TrialRules
  /** For how long it opens, if it does. */
  readonly openMs: number
}

/** How a fleet works together. */
export interface FleetOptions {
  /**
   * How many circuits must open by what they have seen themselves, at the same time, before all do. Integer ≥ 1. With 1 a
   * fleet reacts fastest; with 2 or more, one process with a broken network opens only itself. @defaultValue 1
   */
  readonly quorum?: number | undefined
  /** How often the fleet is asked while calls come, in milliseconds. > 0. @defaultValue 500 */
  readonly syncMs?: number | undefined
  /** A trial whose process has died or hangs is made by another after this time, in milliseconds. > 0. @defaultValue 5_000 */
  readonly leaseMs?: number | undefined
  /** A store that has not answered within this many milliseconds has failed. > 0. @defaultValue 250 */
  readonly storeTimeoutMs?: number | undefined
}
