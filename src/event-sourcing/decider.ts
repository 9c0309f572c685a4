import type { Event } from './event.js'

/**
 * State and its changes as three pure functions. Source: Jérémie Chassaing, "Functional Event Sourcing Decider" (2021).
 * `scenario` (`holdfast/testing`) tests one without a store.
 */
export interface Decider<C, E extends Event, S> {
  /** The state before the first event. */
  initial(id: string): S
  /** The events that `command` leads to; none is no change. What it throws comes out of `handle`, and nothing is stored. */
  decide(command: C, state: S): readonly E[] | E | Promise<readonly E[] | E>
  /** The state after `event`. Must not fail, and must not change what `state` was given. */
  evolve(state: S, event: E): S
  /** Whether nothing can follow any more: then every command is refused. @defaultValue never */
  isTerminal?(state: S): boolean
}
