import type { Event } from './event.js'
import type { Command } from './replay.js'
import type { Handled, HandleOptions } from './repository.js'

/** A call that waits for its outcome. */
export interface Entry<S, C, E extends Event> {
  readonly id: string
  readonly command: Command<S, C, E>
  readonly options: HandleOptions
  /** A moment of `States.tick`: what answers it without writing must be known since. */
  readonly arrived: number
  attempts: number
  conflicts: number
  /** Whether it is not to be appended together with others. */
  alone: boolean
  /** Takes it out of the line in which it waits: set by that line. */
  leave: () => void
  /** Tells the caller its outcome, once there is one. */
  tell: (() => void) | undefined
  resolve(handled: Handled<E, S>): void
  reject(error: unknown): void
}

/** The outcome, to be told when the turn is over. */
export function answer<S, C, E extends Event>(entry: Entry<S, C, E>, handled: Handled<E, S>): void {
  entry.tell ??= () => entry.resolve(handled)
}

/** As {@link answer}, of a call that has failed. */
export function refuse<S, C, E extends Event>(entry: Entry<S, C, E>, error: unknown): void {
  entry.tell ??= () => entry.reject(error)
}
