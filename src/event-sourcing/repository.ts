import { checkInteger, checkObject, checkString, invalid } from '../kernel/check.js'
import { isHoldfastError } from '../kernel/errors.js'
import type { Decider } from './decider.js'
import { MOST_MISSED, StreamClosedError, VersionConflictError } from './errors.js'
import type { Event, Recorded } from './event.js'
import { modelOf, type AggregateClass, type Command, type Model } from './replay.js'
import { checkExpected, isAsExpected, missedAfter } from './request.js'
import type { Appended, AppendOptions, EventStore, ExpectedVersion } from './store.js'

/** How a {@link Repository} names and writes its streams. */
export interface RepositoryOptions {
  /** What the streams hold, `'order'`: id `7` is stream `order-7`. Any string that is not empty. */
  readonly category: string
  /** How often a command is decided again when someone else was first. Integer ≥ 0. @defaultValue 10 */
  readonly retries?: number | undefined
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

/** Loads states from their events, and stores what commands lead to. Holds no state of its own. */
export class Repository<S, C = never, E extends Event = Event> {
  readonly #store: EventStore<E>
  readonly #model: Model<S, C, E>
  readonly #prefix: string
  readonly #retries: number

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
    const { category, retries = 10 } = checkObject('options', options)
    this.#store = store
    this.#model = modelOf(source)
    // Only the first '-' parts category and id: no two of them share a stream.
    this.#prefix = `${checkString('category', category).replaceAll('%', '%25').replaceAll('-', '%2D')}-`
    this.#retries = checkInteger('retries', retries, 0)
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
   * @throws what the command throws, as it is: nothing was stored.
   * @throws VersionConflictError when the stream is not as `expectedVersion` says, or someone else was first every time.
   * @throws StreamClosedError when the state is terminal or the stream archived; TombstonedError; as `append`.
   */
  async handle(id: string, command: Command<S, C, E>, options: HandleOptions = {}): Promise<Handled<E, S>> {
    const { expectedVersion = 'any', idempotencyKey: key } = options
    checkExpected(expectedVersion)
    if (key === undefined) return this.#handle(id, command, options)
    const before = await this.#recalled(id, key, options.tx)
    if (before) return before
    try {
      const handled = await this.#handle(id, command, options)
      return handled.events.length > 0 ? handled : ((await this.#recalled(id, key, options.tx)) ?? handled)
    } catch (error) {
      if (options.signal?.aborted) throw error
      // A twin may have been written since the key was looked up: then this command met the state after itself.
      const twin = await this.#recalled(id, key, options.tx).catch(() => undefined)
      if (twin) return twin
      throw error
    }
  }

  /** The first outcome of a key, if it has one. */
  async #recalled(id: string, key: string, tx: unknown): Promise<Handled<E, S> | undefined> {
    const [before] = (await this.#store.recall<E>(key, { tx })) ?? []
    return before && this.#repeated(id, before, 0, tx)
  }

  async #handle(id: string, command: Command<S, C, E>, options: HandleOptions): Promise<Handled<E, S>> {
    const { expectedVersion = 'any', ...append } = options
    const { signal, tx } = append
    const stream = this.stream(id)
    let truncated = false
    for (let attempts = 1, conflicts = 0; ; attempts++) {
      signal?.throwIfAborted()
      // oxlint-disable-next-line no-await-in-loop -- each try starts where the last one failed
      let loaded = await this.#load(id, { signal, tx })
      if (!loaded.exists && (truncated || !isAsExpected(0, expectedVersion))) loaded = await this.#truncated(loaded, tx)
      if (!isAsExpected(loaded.version, expectedVersion))
        throw await this.#conflict(stream, expectedVersion, loaded, tx)
      if (this.#model.isTerminal(loaded.state)) throw new StreamClosedError(stream, 'has come to its end')
      const events = await this.#model.decide(loaded.state, command)
      if (events.length === 0) return { ...loaded, events: [], position: 0, attempts, duplicate: false }
      try {
        const appended = await this.#store.append(stream, events, { ...append, expectedVersion: loaded.version })
        if (appended.duplicate) return await this.#repeated(id, appended, attempts, tx)
        const { version, position, events: recorded } = appended
        const state = this.#model.stored(loaded.state, recorded)
        return { id, state, version, exists: true, events: recorded, position, attempts, duplicate: false }
      } catch (error) {
        if (!isHoldfastError(error, 'VERSION_CONFLICT')) throw error
        // No event of a stream that has some: they were truncated, and nobody else was first.
        const found = !truncated && !loaded.exists && (error as VersionConflictError).missed.length === 0
        if (found) truncated = true
        else if (++conflicts > this.#retries) throw error
      }
    }
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
        state = seen.reduce((s, e) => model.replay(s, e), model.initial(id))
      } else {
        state = model.replay(state, event)
      }
      yield { id, state, version: event.version, exists: true }
    }
  }

  async #load(
    id: string,
    options: {
      toVersion?: number | undefined
      asOf?: Date | undefined
      signal?: AbortSignal | undefined
      tx?: unknown
    },
  ): Promise<Loaded<S>> {
    let state = this.#model.initial(id)
    let version = 0
    for await (const event of this.#store.read<E>(this.stream(id), options)) {
      state = this.#model.replay(state, event)
      version = event.version
    }
    return { id, state, version, exists: version > 0 }
  }

  /** A stream without events may have had some: then appends go on from its version. */
  async #truncated(loaded: Loaded<S>, tx: unknown): Promise<Loaded<S>> {
    const { version = 0 } = (await this.#store.info(this.stream(loaded.id), { tx })) ?? {}
    return { ...loaded, version, exists: version > 0 }
  }

  async #repeated(id: string, before: Appended<E>, attempts: number, tx: unknown): Promise<Handled<E, S>> {
    const { version, position, events, stream } = before
    if (stream !== this.stream(id)) return invalid('idempotencyKey', 'one that was not used for other streams', stream)
    const { state } = await this.#load(id, { toVersion: version, tx })
    return { id, state, version, exists: true, events, position, attempts, duplicate: true }
  }

  async #conflict(
    stream: string,
    expected: ExpectedVersion,
    { version }: Loaded<S>,
    tx: unknown,
  ): Promise<VersionConflictError> {
    const after = missedAfter(expected) ?? version
    const missed: Recorded<E>[] = []
    const bounds = { fromVersion: after + 1, toVersion: version, limit: MOST_MISSED, tx }
    if (after < version) for await (const event of this.#store.read<E>(stream, bounds)) missed.push(event)
    return new VersionConflictError(stream, expected, version, missed)
  }
}
