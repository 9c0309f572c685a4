import { jsonCodec } from '../kernel/codec.js'
import { internalsOf, type Aggregate } from './aggregate.js'
import type { Decider } from './decider.js'
import type { Event, Recorded } from './event.js'
import { withOwnData } from './payload.js'
import type { Snapshot } from './snapshots.js'

/** A state that is gone on with, and from which states of one's own are taken. */
export interface Held<S, E extends Event> {
  /** Whether {@link take} can be called again. */
  readonly lasting: boolean
  /** The state: nobody else has it, or nobody may change it. */
  take(): S
  /** Goes on to the state after a stored event. */
  advance(event: Recorded<E>): void
  /** One that goes on by itself. Only of a lasting one. */
  fork(): Held<S, E>
  /** What a snapshot holds of it; nobody else has it, or nobody may change it. Only of a lasting one. @throws what the user's code does */
  snapshot(): unknown
}

/** A decider's state: a value, which nobody changes. */
export class HeldValue<S, E extends Event> implements Held<S, E> {
  readonly lasting = true
  readonly #decider: Pick<Decider<never, E, S>, 'evolve'>
  #state: S

  constructor(decider: Pick<Decider<never, E, S>, 'evolve'>, state: S) {
    this.#decider = decider
    this.#state = state
  }

  take(): S {
    return this.#state
  }

  advance(event: Recorded<E>): void {
    this.#state = this.#decider.evolve(this.#state, event as unknown as E)
  }

  fork(): HeldValue<S, E> {
    return new HeldValue(this.#decider, this.#state)
  }

  snapshot(): unknown {
    return this.#state
  }
}

/** Of a class with `snapshot()`: with more events than these behind it, a snapshot is made anew. */
const LONG_TAIL = 100

/** An aggregate as text and events, because instances change and can't be copied. */
export class HeldAggregate<S extends Aggregate<E>, E extends Event> implements Held<S, E> {
  readonly #make: () => S
  #keep: boolean
  /** An instance that nobody else has and that no command ran on. */
  #ready: S | undefined
  #text: string | undefined
  #textVersion = 0
  /** Events since the text; of a class that can't be restored, all of them. */
  #tail: Recorded<E>[] = []

  /** @param keep whether it is to be lasting; costs a snapshot, or memory for all events. */
  constructor(make: () => S, keep: boolean, from?: Snapshot | HeldAggregate<S, E>) {
    this.#make = make
    this.#keep = keep
    if (from instanceof HeldAggregate) {
      this.#text = from.#text
      this.#textVersion = from.#textVersion
      this.#tail = [...from.#tail]
      return
    }
    if (from) {
      this.#text = jsonCodec.encode(from.state)
      this.#textVersion = from.version
    }
    this.#ready = this.#build()
  }

  get lasting(): boolean {
    return this.#keep
  }

  advance(event: Recorded<E>): void {
    // An instance that is ready holds the state as well as its events do, if a snapshot can be made of it.
    const keeps = this.#keep && !(this.#ready && isRestorable(this.#ready))
    if (this.#ready)
      internalsOf<E>(this.#ready).replay(keeps ? ownOf<E>(event) : (event as unknown as E), event.version)
    if (keeps) this.#tail.push(event)
  }

  take(): S {
    const state = this.#ready ?? this.#build()
    if (this.#ready || this.#tail.length > LONG_TAIL) this.#fix(state)
    this.#ready = undefined
    return state
  }

  fork(): HeldAggregate<S, E> {
    if (this.#ready) this.#fix(this.#ready)
    return new HeldAggregate<S, E>(this.#make, this.#keep, this)
  }

  snapshot(): unknown {
    return jsonCodec.decode(jsonCodec.encode((this.#ready ?? this.#build()).snapshot?.()))
  }

  #build(): S {
    const state = this.#make()
    const internals = internalsOf<E>(state)
    if (this.#text !== undefined) internals.restore(jsonCodec.decode(this.#text), this.#textVersion)
    for (const event of this.#tail) internals.replay(ownOf<E>(event), event.version)
    return state
  }

  /** Makes a text of `state`, so that it can be made again. */
  #fix(state: S): void {
    if (!this.#keep || !isRestorable(state)) return
    try {
      this.#text = jsonCodec.encode(state.snapshot())
      this.#textVersion = state.version
      this.#tail = []
    } catch {
      // It can't be snapshot after all. What there is of events is all there is only if they were kept from the start.
      if (this.#ready) this.#keep = false
    }
  }
}

/** Each instance replays events of its own. */
const ownOf = <E extends Event>(event: Recorded): E => withOwnData(event) as unknown as E

type Restorable = Required<Pick<Aggregate, 'snapshot' | 'restore'>>

/** Whether an aggregate, or its class's prototype, has both `snapshot()` and `restore()`. */
export const isRestorable = <S extends Partial<Restorable>>(aggregate: S): aggregate is S & Restorable =>
  typeof aggregate.snapshot === 'function' && typeof aggregate.restore === 'function'
