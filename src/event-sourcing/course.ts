import { isHoldfastError } from '../kernel/errors.js'
import type { Parked } from './checkpoints.js'
import type { Event, Recorded } from './event.js'

/**
 * How a step came out. Idle: there was nothing to do. Interrupted: the signal aborted, or a part is to be done again at
 * once. Split: a batch has failed, and smaller ones come next. Failed: the `event` that stands in the way.
 */
export type Outcome<E extends Event> =
  | { readonly kind: 'done' | 'interrupted' | 'idle' }
  | { readonly kind: 'split'; readonly error: unknown }
  | { readonly kind: 'failed'; readonly event: Recorded<E>; readonly error: unknown; readonly attempt: number }

/** An outcome, and where the log ended. */
export type Step<E extends Event> = Outcome<E> & { readonly head: number }

/** The way through the log under one lease. */
export interface Course<E extends Event> {
  /** What is committed. */
  readonly position: number
  /** Reads the next page and takes it as far as one commit. */
  step(): Promise<Step<E>>
  /** Passes by the event that failed last: everything before it is committed. */
  park(event: Recorded<E>, attempts: number, error: unknown): Promise<Parked>
}

/**
 * Whether a commit was refused for what the work in it had written: PostgreSQL checks constraints and triggers that are deferred
 * only then. Once more would be the same again.
 */
export const isRefusedAtItsEnd = (error: unknown): boolean =>
  isHoldfastError(error, 'STORE_FAILED') && /^(23|P0)/.test(String((error.cause as { code?: unknown } | null)?.code))
