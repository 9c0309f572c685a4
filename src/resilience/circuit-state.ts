import type { Clock } from '../kernel/clock.js'
import type { CircuitInitialState, TrialRules } from './circuit-options.js'

/** Where a circuit stands. Each is an object of its own for each time the circuit is in it: a call belongs to the one it began in. */
export type State =
  | { readonly kind: 'closed' }
  | { readonly kind: 'open'; readonly until: number }
  | {
      readonly kind: 'half-open'
      /** When the trials under way began, oldest first. */
      readonly running: number[]
      settled: number
      failures: number
      slow: number
    }
  | { readonly kind: 'isolated'; handles: number }

/** Trials under way and what has come of them. */
export type HalfOpen = Extract<State, { kind: 'half-open' }>

/** A circuit that has just begun to try. */
export const trying = (): HalfOpen => ({ kind: 'half-open', running: [], settled: 0, failures: 0, slow: 0 })

/**
 * Counts one trial, and decides as soon as those to come can't change the result: so their order does not matter.
 * @returns where the circuit goes; `undefined`: more trials must tell
 */
export function weighTrials(
  trials: Pick<HalfOpen, 'settled' | 'failures' | 'slow'>,
  failed: boolean,
  slow: boolean,
  rules: TrialRules,
): 'open' | 'closed' | undefined {
  const left = rules.trials - ++trials.settled
  if (failed) trials.failures++
  if (slow) trials.slow++
  if (trials.failures >= rules.failuresToOpen || trials.slow >= rules.slowToOpen) return 'open'
  const isDecided = trials.failures + left < rules.failuresToOpen && trials.slow + left < rules.slowToOpen
  return isDecided ? 'closed' : undefined
}

/** The state to start in. @param longestMs no circuit is restored as open for longer, however the wall clock was set */
export function restored(
  { state, openUntil }: CircuitInitialState,
  openMs: () => number,
  longestMs: number,
  clock: Clock,
): State {
  if (state === 'closed') return { kind: 'closed' }
  if (state === 'half-open') return trying()
  if (state === 'isolated') return { kind: 'isolated', handles: 1 } // its handle is gone: only reset() lifts it
  const leftMs = openUntil === undefined ? openMs() : Math.min(openUntil - clock.epochMs(), longestMs)
  return { kind: 'open', until: clock.now() + leftMs }
}
