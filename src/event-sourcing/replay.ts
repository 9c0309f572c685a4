import { checkObject } from '../kernel/check.js'
import { internalsOf, type Aggregate } from './aggregate.js'
import type { Decider } from './decider.js'
import type { Event, Recorded } from './event.js'
import { HeldAggregate, HeldValue, isRestorable, type Held } from './held.js'
import type { Snapshot } from './snapshots.js'

/** A class whose instances are aggregates. */
export interface AggregateClass<S, E extends Event> {
  /** An aggregate before its first event. */
  new (id: string): S & Aggregate<E>
  /** Which shape the snapshots of this class have. Integer ≥ 0; counted up when it changes. */
  readonly snapshotRevision?: number
}

/** What a user's command may return: events, or nothing for none. */
export type Decided<E extends Event> = readonly E[] | E | void

/** Class and decider alike, as a repository needs them. */
export interface Model<S, C, E extends Event> {
  initial(id: string): S
  /** The state after an event of this version. An aggregate's is the same object, changed. */
  replay(state: S, event: E, version: number): S
  /** Runs a command; gives the events to be stored. */
  decide(state: S, command: Command<S, C, E>): Promise<readonly E[]>
  /** The state once `events` are stored, of which `decide` gave the data. */
  stored(state: S, events: readonly Recorded<E>[]): S
  isTerminal(state: S): boolean
  /** Whether a state, once given to the user, may change under further events. */
  readonly mutable: boolean
  /** The state before the first event, or one that comes back. @param keep whether it is to be lasting @throws what `restore` does */
  hold(id: string, keep: boolean, from?: Snapshot): Held<S, E>
  /** Whether a snapshot can be made of it. */
  readonly restorable: boolean
  /** The class's own `snapshotRevision`. */
  readonly snapshotRevision: number | undefined
}

/** A command: data for a decider, or a function of the state. */
export type Command<S, C, E extends Event> = C | ((state: S) => Decided<E> | Promise<Decided<E>>)

/** @param source an aggregate class or a decider */
export function modelOf<S, C, E extends Event>(source: AggregateClass<S, E> | Decider<C, E, S>): Model<S, C, E> {
  return typeof source === 'function' ? classModel(source) : deciderModel(checkObject('source', source))
}

function classModel<S, C, E extends Event>(type: AggregateClass<S, E>): Model<S, C, E> {
  const aggregate = (state: S): Aggregate<E> => state as S & Aggregate<E>
  return {
    mutable: true,
    initial: (id) => new type(id),
    replay(state, event, version) {
      internalsOf(aggregate(state)).replay(event, version)
      return state
    },
    async decide(state, command) {
      const returned = listOf(await (command as (state: S) => Decided<E> | Promise<Decided<E>>)(state))
      for (const event of returned) internalsOf(aggregate(state)).raise(event)
      return [...aggregate(state).uncommitted] // the command may still have its hands on the aggregate
    },
    stored(state, events) {
      const last = events.at(-1)
      if (last) internalsOf(aggregate(state)).stored(last.version)
      return state
    },
    isTerminal: () => false,
    hold: (id, keep, from) => new HeldAggregate<S & Aggregate<E>, E>(() => new type(id), keep, from),
    restorable: isRestorable(type.prototype as Aggregate<E>),
    snapshotRevision: type.snapshotRevision,
  }
}

function deciderModel<S, C, E extends Event>(decider: Decider<C, E, S>): Model<S, C, E> {
  const replay = (state: S, event: E): S => decider.evolve(state, event)
  return {
    mutable: false,
    initial: (id) => decider.initial(id),
    replay,
    async decide(state, command) {
      if (isFunction<S, C, E>(command)) return listOf(await command(state))
      return listOf(await decider.decide(command, state))
    },
    stored: (state, events) => events.reduce((s, event) => replay(s, event as unknown as E), state),
    isTerminal: (state) => decider.isTerminal?.(state) ?? false,
    hold: (id, _keep, from) => new HeldValue(decider, from ? (from.state as S) : decider.initial(id)),
    restorable: true,
    snapshotRevision: undefined,
  }
}

/** A command that is data is never a function, or it could not be told from one. */
const isFunction = <S, C, E extends Event>(
  command: Command<S, C, E>,
): command is (state: S) => Decided<E> | Promise<Decided<E>> => typeof command === 'function'

/** What a command came to, as a list. */
export const listOf = <E extends Event>(decision: Decided<E>): readonly E[] =>
  decision === undefined ? [] : Array.isArray(decision) ? (decision as readonly E[]) : [decision as E]
