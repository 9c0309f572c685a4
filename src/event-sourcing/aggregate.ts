import type { Event } from './event.js'
import { withOwnData } from './payload.js'

/** How a repository works on an aggregate; a global symbol, so that it works across copies of the package. */
const INTERNALS: unique symbol = Symbol.for('holdfast.aggregate') as never

/** An aggregate as a repository sees it. */
interface Internals<E extends Event> {
  /** Applies a stored event. */
  replay(event: E, version: number): void
  raise(event: E): void
  /** Gives what `snapshot()` gave to `restore()`. */
  restore(state: unknown, version: number): void
  /** Takes note that what was raised is stored, up to `version`. */
  stored(version: number): void
}

/**
 * State that changes by events alone. Methods check, then {@link raise}; {@link apply} changes the fields, for new events
 * and for replay alike. Load and store it with a `Repository`.
 */
export abstract class Aggregate<E extends Event = Event> {
  #version = 0
  #uncommitted: E[] = []

  constructor(readonly id: string) {}

  /** Version of the last stored event it has seen; 0 before the first. Raising does not change it. */
  get version(): number {
    return this.#version
  }

  /** What was raised and is not stored yet, in order. */
  get uncommitted(): readonly E[] {
    return this.#uncommitted
  }

  /** Changes the fields as `event` says; nothing else: it also runs in every replay. Checks belong before {@link raise}. */
  protected abstract apply(event: E): void

  /** Applies a new event and remembers it, to be stored. */
  protected raise(event: E): void {
    const own = withOwnData(event) // what apply, or a later event, does to the data is not what is stored
    this.apply(event)
    this.#uncommitted.push(own)
  }

  /**
   * What it takes to come back by {@link restore}: whatever the JSON codec keeps. With both, a repository can keep snapshots, and
   * its cache needs no events. A class whose snapshots change their shape counts up `static snapshotRevision`.
   */
  snapshot?(): unknown
  /**
   * Sets the fields of a new instance to what {@link snapshot} gave, as a copy of its own. What it throws on what a snapshot store
   * has kept counts as: unreadable.
   */
  restore?(state: unknown): void

  /** @internal */
  get [INTERNALS](): Internals<E> {
    return {
      replay: (event, version) => {
        this.apply(event)
        this.#version = version
      },
      raise: (event) => this.raise(event),
      restore: (state, version) => {
        this.restore?.(state)
        this.#version = version
      },
      stored: (version) => {
        this.#version = version
        this.#uncommitted = []
      },
    }
  }
}

/** @internal */
export const internalsOf = <E extends Event>(aggregate: Aggregate<E>): Internals<E> => aggregate[INTERNALS]
