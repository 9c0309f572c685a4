import { checkInteger, checkNumber, checkObject, checkOneOf, checkString, invalid } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import type { Random } from '../kernel/random.js'
import type { CircuitBreakerStore } from './store.js'
import { checkRatio, type WindowCounts, type WindowOptions } from './window.js'

/**
 * `'closed'`: calls pass and are counted. `'open'`: calls are refused until its time is up. `'half-open'`: trial calls
 * decide. `'isolated'`: held open by hand.
 */
export type CircuitState = 'closed' | 'open' | 'half-open' | 'isolated'

/** How one call ended: it threw `error`, or it returned `value`. Only one of the two is there. */
export interface CallOutcome {
  /** What it threw, which may be `undefined`. */
  readonly error?: unknown
  /** What it returned. */
  readonly value?: unknown
}

/** An open time that grows each time a trial fails, and is the first again once the circuit has closed. */
export interface GrowingOpenMs {
  /** The first open time, in milliseconds. ≥ 0. */
  readonly initialMs: number
  /** No open time is longer. ≥ `initialMs`. */
  readonly maxMs: number
  /** What each is multiplied by. ≥ 1. */
  readonly factor: number
  /** Each is shortened at random by up to this share, so that a fleet does not try again all at once. In [0, 1]. @defaultValue 0 */
  readonly jitterRatio?: number | undefined
}

/** How a circuit finds out whether it may close. */
export interface HalfOpenOptions {
  /** How many calls are tried; never more of them run at once. Integer ≥ 1. @defaultValue 1 */
  readonly trials?: number | undefined
  /** Share of failed trials at which the circuit opens again; below it, it closes. In (0, 1]. @defaultValue one failure opens */
  readonly failureRatio?: number | undefined
  /** A trial that takes longer opens the circuit again, as of that moment. > 0, in milliseconds. @defaultValue 60_000 */
  readonly maxMs?: number | undefined
  /** Calls for which no trial is left are refused, or wait up to `waitMs` milliseconds (> 0) for one or for the end. @defaultValue 'reject' */
  readonly others?: 'reject' | { readonly waitMs: number } | undefined
}

/** What a circuit was: {@link CircuitSnapshot}, or as much of it as is known. Counts are not taken up again. */
export interface CircuitInitialState {
  /** Where it stood. `'isolated'` has lost its handles: only `reset()` lifts it. */
  readonly state: CircuitState
  /** When an open circuit lets the next trial pass, in epoch milliseconds. @defaultValue a full open time from now */
  readonly openUntil?: number | undefined
  /** How often it has opened since it was last closed. Integer ≥ 0. @defaultValue 1 when open, half-open; else 0 */
  readonly openings?: number | undefined
}

/** A circuit at one moment, as plain JSON. Give it to `initialState` to go on elsewhere, or after a restart. */
export interface CircuitSnapshot extends CircuitInitialState, WindowCounts {
  /** How often it has opened since it was last closed. Integer ≥ 0. */
  readonly openings: number
}

/** Every number is checked at construction. */
export interface CircuitBreakerOptions {
  /** Stands in messages, and for telemetry. Any string that is not empty. @defaultValue none */
  readonly name?: string | undefined
  /** What a closed circuit judges by. @defaultValue `{ kind: 'consecutive', failures: 5 }` */
  readonly window?: WindowOptions | undefined
  /** Milliseconds an open circuit refuses all calls before it tries. ≥ 0. @defaultValue 60_000 */
  readonly openMs?: number | GrowingOpenMs | undefined
  /** How it tries. @defaultValue one trial, the others are refused */
  readonly halfOpen?: HalfOpenOptions | undefined
  /**
   * Whether a call counts as failed; `'ignore'`: counts nowhere. Is not asked about calls that their caller aborted and
   * about refusals (`RejectedError`) from within: those count nowhere. If it throws, that is reported and the default decides.
   * @defaultValue what throws has failed
   */
  readonly isFailure?: ((outcome: CallOutcome) => boolean | 'ignore') | undefined
  /** Counts and tells `'wouldOpen'`, but opens by `isolate()` only: to find the right limits in production. @defaultValue false */
  readonly metricsOnly?: boolean | undefined
  /** Where to start, from the `snapshot()` of a circuit that was before. @defaultValue closed */
  readonly initialState?: CircuitInitialState | undefined
  /**
   * Shares the state with the circuits of the same `name`, in other processes: `RedisCircuitBreakerStore`. Each call is still
   * decided here and at once. Not with `metricsOnly`, which shares nothing. @defaultValue alone
   */
  readonly store?: CircuitBreakerStore | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** For `openMs.jitterRatio`. @defaultValue Math.random */
  readonly random?: Random | undefined
}

/** What a circuit tells those who listen. */
export interface CircuitEvents {
  /** It has changed its state. `error`: the last failure, when it has opened or tries. `openMs`: for how long. */
  stateChange: {
    readonly from: CircuitState
    readonly to: CircuitState
    readonly error?: unknown
    readonly openMs?: number | undefined
  }
  /** A call ran and did not fail. `durationMs` is missing when it began before anybody listened. */
  success: { readonly durationMs: number | undefined }
  /** A call ran and failed. `error` is what it threw, or the value that `isFailure` said is one. */
  failure: { readonly error: unknown; readonly durationMs: number | undefined }
  /** A call was refused and did not run. `retryAfterMs` as in `CircuitOpenError`. */
  refused: { readonly retryAfterMs: number | undefined }
  /** The `store` has failed: the circuit is alone until it answers again. Told once for each time. */
  storeFailed: { readonly error: unknown }
  /** With `metricsOnly`: it would have opened now, and not be open still from the time before. */
  wouldOpen: { readonly error: unknown; readonly openMs: number }
}

/** Open time of the n-th opening in a row, from 1. @throws InvalidOptionError at once, for numbers out of range. */
export function openTimes(openMs: number | GrowingOpenMs, random: Random): (openings: number) => number {
  if (typeof openMs !== 'object') {
    const fixed = checkNumber('openMs', openMs, 0, LONGEST)
    return () => fixed
  }
  const { initialMs, maxMs, factor, jitterRatio = 0 } = checkObject('openMs', openMs)
  checkNumber('openMs.initialMs', initialMs, 0, LONGEST)
  checkNumber('openMs.maxMs', maxMs, initialMs, LONGEST)
  checkNumber('openMs.factor', factor, 1)
  checkNumber('openMs.jitterRatio', jitterRatio, 0, 1)
  return (openings) => {
    const full = initialMs === 0 ? 0 : Math.min(maxMs, initialMs * factor ** (openings - 1)) // 0 × Infinity is NaN
    return jitterRatio === 0 ? full : full * (1 - jitterRatio * random())
  }
}

/** Half-open rules in numbers of trials. */
export interface TrialRules {
  /** How many trials decide. Integer ≥ 1. */
  readonly trials: number
  /** So many failed trials open the circuit again. */
  readonly failuresToOpen: number
  /** So many slow trials open the circuit again. `Infinity` when no call is slow. */
  readonly slowToOpen: number
  /** A trial that takes longer has failed. Milliseconds, > 0. */
  readonly maxMs: number
  /** How long others wait for a trial, in milliseconds. `undefined`: others are refused. */
  readonly waitMs: number | undefined
}

/** @throws InvalidOptionError for numbers out of range. */
export function trialRules(options: HalfOpenOptions, slowCallMs: number, slowRatio: number): TrialRules {
  const { trials = 1, failureRatio, maxMs = 60_000, others = 'reject' } = checkObject('halfOpen', options)
  checkInteger('halfOpen.trials', trials, 1)
  if (failureRatio !== undefined) checkRatio('halfOpen.failureRatio', failureRatio)
  if (others !== 'reject') checkPositiveMs('halfOpen.others.waitMs', checkObject('halfOpen.others', others).waitMs)
  return {
    trials,
    failuresToOpen: failureRatio === undefined ? 1 : leastShare(failureRatio, trials),
    slowToOpen: slowCallMs === Infinity ? Infinity : leastShare(slowRatio, trials),
    maxMs: checkPositiveMs('halfOpen.maxMs', maxMs),
    waitMs: others === 'reject' ? undefined : others.waitMs,
  }
}

/** @throws InvalidOptionError for what no snapshot holds, as a file that someone has edited may. */
export function checkInitialState(initial: CircuitInitialState): CircuitInitialState {
  const { state, openUntil, openings } = checkObject('initialState', initial)
  checkOneOf('initialState.state', state, ['closed', 'open', 'half-open', 'isolated'])
  if (openUntil !== undefined) checkNumber('initialState.openUntil', openUntil, -LONGEST)
  if (openings !== undefined) checkInteger('initialState.openings', openings, 0)
  return initial
}

/** `value` if it is a name or `undefined`. @throws InvalidOptionError otherwise. */
export const checkName = (value: string | undefined): string | undefined =>
  value === undefined ? undefined : checkString('name', value)

const LONGEST = Number.MAX_SAFE_INTEGER

const checkPositiveMs = (option: string, value: unknown): number =>
  value === 0 ? invalid(option, 'a number > 0', value) : checkNumber(option, value, 0)

/** The smallest number of `trials` that is at least this share of them. */
function leastShare(ratio: number, trials: number): number {
  const near = Math.max(1, Math.floor(ratio * trials) - 1) // a product may be off by one last digit: only a quotient is exact
  for (let n = near; ; n++) if (n / trials >= ratio) return n
}
