import { checkInteger, checkObject, checkPositive, checkString, invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { orAbort } from '../kernel/signal.js'
import type { Decider } from './decider.js'
import type { Event, Recorded } from './event.js'
import { Line, type LineParts } from './line.js'
import type { Entry } from './line-entry.js'
import { withOwnData } from './payload.js'
import { modelOf, type AggregateClass, type Command, type Model } from './replay.js'
import { checkExpected, checkMetadata } from './request.js'
import { States, type StateCacheOptions, type Lookup, type SnapshotOptions } from './states.js'
import type { Appended, AppendOptions, EventStore, ExpectedVersion } from './store.js'

/** How a {@link Repository} names and writes its streams. */
export interface RepositoryOptions {
  /** What the streams hold, `'order'`: id `7` is stream `order-7`. Any string that is not empty. */
  readonly category: string
  /** How often a command is decided again when someone else was first. Integer ≥ 0. @defaultValue 1_000 */
  readonly retries?: number | undefined
  /**
   * Most calls of `handle` for one stream that are appended together: while one append is under way, others wait in line. They are
   * decided in turn, each on the state after the one before, and each hears its outcome when they are stored. 1: no line, all run
   * side by side, and who comes late decides again. Integer ≥ 1. @defaultValue 64
   */
  readonly group?: number | undefined
  /** How long a decision may hold up those in line behind it, in milliseconds; then they go on without it. > 0. @defaultValue 100 */
  readonly patienceMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** Keeps the states used last in the process. What is kept is checked against the store whenever it is used. @defaultValue no cache */
  readonly cache?: StateCacheOptions | undefined
  /** Keeps states outside the process, so that old events need not be read. @defaultValue no snapshots */
  readonly snapshot?: SnapshotOptions | undefined
}

/** A moment in the past, inclusive. Both: whichever is earlier. */
export interface At {
  /** The last version to be included. @defaultValue the last there is */
  readonly version?: number | undefined
  /** The last moment to be included. @defaultValue now */
  readonly asOf?: Date | undefined
}

/** A state, rebuilt from its events. */
export interface Loaded<S> {
  /** As given: the stream is `repository.stream(id)`. */
  readonly id: string
  /** The aggregate, or the decider's state. An aggregate is the caller's own: nobody else sees it. */
  readonly state: S
  /** Version of the last event in it; 0 when there is none. */
  readonly version: number
  /** Whether the stream had an event by then. */
  readonly exists: boolean
}

/** What a command came to. */
export interface Handled<E extends Event, S> extends Loaded<S> {
  /** The events as recorded; none when the command changed nothing. */
  readonly events: readonly Recorded<E>[]
  /** Position of the last of them: what a read model must have reached to show it. 0 when there is none. */
  readonly position: number
  /** How often the command was decided. 0 for a duplicate found before. */
  readonly attempts: number
  /** Whether this is the outcome of an earlier call with the same idempotency key. */
  readonly duplicate: boolean
}

/** How a command is handled. */
export interface HandleOptions extends AppendOptions {
  /** What the stream must look like when the command is decided. @defaultValue 'any' */
  readonly expectedVersion?: ExpectedVersion | undefined
}

/**
 * Loads states from their events, and stores what commands lead to. Without `cache` it keeps no state but those of streams
 * whose commands are under way, or were a moment ago.
 */
export class Repository<S, C = never, E extends Event = Event> {
  readonly #store: EventStore<E>
  readonly #model: Model<S, C, E>
  readonly #states: States<S, C, E>
  readonly #prefix: string
  readonly #group: number
  readonly #parts: LineParts<S, C, E>
  readonly #lines = new Map<string, Line<S, C, E>>()

  /**
   * `new Repository(store, Order, { category: 'order' })` for an aggregate class, whose commands are functions;
   * `new Repository(store, decider, { category: 'order' })` for a decider, whose commands are data (or functions).
   * @throws InvalidOptionError when an option is out of its range.
   */
  constructor(
    store: EventStore<NoInfer<E>>,
    source: AggregateClass<S, E> | Decider<C, E, S>,
    options: RepositoryOptions,
  ) {
    const {
      category,
      retries = 1_000,
      group = 64,
      patienceMs = 100,
      clock = systemClock,
    } = checkObject('options', options)
    this.#store = store
    this.#model = modelOf(source)
    this.#states = new States(store, this.#model, options)
    this.#group = checkInteger('group', group, 1)
    // Only the first '-' parts category and id: no two of them share a stream.
    this.#prefix = `${checkString('category', category).replaceAll('%', '%25').replaceAll('-', '%2D')}-`
    this.#parts = {
      store,
      model: this.#model,
      states: this.#states,
      retries: checkInteger('retries', retries, 0),
      patienceMs: checkPositive('patienceMs', patienceMs),
      clock,
      repeated: (...of) => this.#repeated(...of),
    }
  }

  /** Name of the stream that holds `id`. */
  stream(id: string): string {
    return this.#prefix + checkString('id', id, 0)
  }

  /** The state as it is, or as it was `at` some moment; the initial one when there was no event. @throws TombstonedError. */
  load(id: string, at: At = {}): Promise<Loaded<S>> {
    return this.#load(id, { toVersion: at.version, asOf: at.asOf })
  }

  /**
   * Loads the state, runs `command` on it and appends the events, if any, expecting the version that was loaded. When
   * someone else was first, loads and decides again. With an idempotency key, a repeat decides nothing and gives the first
   * outcome: the state and the events of then.
   * @throws what the command throws, or the decider's `evolve` on its events, as it is: nothing was stored.
   * @throws VersionConflictError when the stream is not as `expectedVersion` says, or someone else was first every time.
   * @throws StreamClosedError when the state is terminal or the stream archived; TombstonedError; as `append`.
   */
  async handle(id: string, command: Command<S, C, E>, options: HandleOptions = {}): Promise<Handled<E, S>> {
    const { expectedVersion = 'any', idempotencyKey: key } = options
    checkExpected(expectedVersion)
    if (options.metadata !== undefined) checkMetadata('metadata', options.metadata)
    if (key === undefined) return this.#handle(id, command, options)
    const before = await this.#recalled(id, key, options)
    if (before) return before
    try {
      const handled = await this.#handle(id, command, options)
      return handled.events.length > 0 ? handled : ((await this.#recalled(id, key, options)) ?? handled)
    } catch (error) {
      if (options.signal?.aborted) throw error
      // A twin may have been written since the key was looked up: then this command met the state after itself.
      const twin = await this.#recalled(id, key, options).catch(() => undefined)
      if (twin) return twin
      throw error
    }
  }

  /** The first outcome of a key, if it has one. */
  #recalled(id: string, key: string, { tx, signal }: HandleOptions): Promise<Handled<E, S> | undefined> {
    const recall = async (): Promise<Handled<E, S> | undefined> => {
      const results = (await this.#store.recall<E>(key, { tx })) ?? []
      const [before] = results
      if (results.length > 1) return invalid('idempotencyKey', 'one that was not used for other streams', key)
      return before && this.#repeated(id, before, 0, tx)
    }
    return orAbort(recall(), signal)
  }

  #handle(id: string, command: Command<S, C, E>, options: HandleOptions): Promise<Handled<E, S>> {
    const stream = this.stream(id)
    if (options.signal?.aborted) return Promise.reject(options.signal.reason)
    // Who has a transaction must not wait for others: they may wait for that very transaction.
    if (this.#group === 1 || options.tx !== undefined) return new Line(this.#parts, stream, 1).add(id, command, options)
    return (this.#lines.get(stream) ?? this.#line(stream)).add(id, command, options)
  }

  #line(stream: string, waiting?: Entry<S, C, E>[]): Line<S, C, E> {
    const leave = (left: Line<S, C, E>, rest: Entry<S, C, E>[]): void => {
      if (this.#lines.get(stream) === left) this.#lines.delete(stream)
      if (rest.length > 0) this.#line(stream, rest)
    }
    const line = new Line(this.#parts, stream, this.#group, leave, waiting)
    this.#lines.set(stream, line)
    return line
  }

  /**
   * Every state from the first event on, oldest first. Each is a value of its own; an aggregate class pays for that with
   * a replay per state, so that the time grows with the square of the length.
   */
  async *states(id: string, at: At = {}): AsyncGenerator<Loaded<S>, void, undefined> {
    const model = this.#model
    const seen: Recorded<E>[] = []
    let state = model.initial(id)
    for await (const event of this.#store.read<E>(this.stream(id), { toVersion: at.version, asOf: at.asOf })) {
      if (model.mutable) {
        seen.push(event)
        state = seen.reduce((s, e) => model.replay(s, withOwnData(e) as unknown as E, e.version), model.initial(id))
      } else {
        state = model.replay(state, event as unknown as E, event.version)
      }
      yield { id, state, version: event.version, exists: true }
    }
  }

  /**
   * Forgets what this repository's cache and its snapshot store hold of `id`, of every revision: after the key of a subject was
   * destroyed, for states may hold what was personal in the events. Other processes' caches, and what their commands that are under way
   * write, are not reached. @throws what the snapshot store does.
   */
  async forget(id: string): Promise<void> {
    await this.#states.drop(this.stream(id))
  }

  async #load(id: string, lookup: Lookup): Promise<Loaded<S>> {
    const { held, version, exists } = await this.#states.load(id, this.stream(id), lookup)
    return { id, state: held.take(), version, exists }
  }

  async #repeated(id: string, before: Appended<E>, attempts: number, tx: unknown): Promise<Handled<E, S>> {
    const { version, position, events, stream } = before
    if (stream !== this.stream(id)) return invalid('idempotencyKey', 'one that was not used for other streams', stream)
    const { state } = await this.#load(id, { toVersion: version, tx })
    return { id, state, version, exists: true, events, position, attempts, duplicate: true }
  }
}
