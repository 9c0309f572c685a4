import type { Random } from './random.js'

/** What a {@link Backoff} may look at beyond the try that failed. */
export interface BackoffContext {
  /** The wait before the try that just failed, in milliseconds; `undefined` after the first. */
  readonly previousMs: number | undefined
  /** Chance, as whoever tries again was given it. */
  readonly random: Random
}

/**
 * How long to wait before the next try. A pure function, shared by everything that tries again.
 * @param attempt the try that failed, from 1
 * @param error what it failed with
 * @returns milliseconds, ≥ 0
 */
export type Backoff = (attempt: number, error: unknown, context: BackoffContext) => number
