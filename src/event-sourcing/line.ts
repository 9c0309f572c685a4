import type { Clock } from '../kernel/clock.js'
import { familyOf, isHoldfastError } from '../kernel/errors.js'
import { onAbort } from '../kernel/signal.js'
import { validated } from './catalog.js'
import { MOST_MISSED, StreamClosedError, VersionConflictError } from './errors.js'
import type { Event, Metadata, Recorded } from './event.js'
import { answer, refuse, type Entry } from './line-entry.js'
import { withOwnData } from './payload.js'
import type { Command, Model } from './replay.js'
import type { Handled, HandleOptions } from './repository.js'
import { isAsExpected, isMetadata, missedAfter } from './request.js'
import type { Known, States } from './states.js'
import type { Appended, EventStore } from './store.js'

/** What the lines of a repository work with. */
export interface LineParts<S, C, E extends Event> {
  readonly store: EventStore<E>
  readonly model: Model<S, C, E>
  readonly states: States<S, C, E>
  readonly retries: number
  /** How long a decision may hold up those behind it, in milliseconds. */
  readonly patienceMs: number
  readonly clock: Clock
  /** The outcome of an append that was made before. */
  repeated(id: string, before: Appended<E>, attempts: number, tx: unknown): Promise<Handled<E, S>>
}

/** What a call came to, if its turn's append succeeds. */
interface Tentative<S, C, E extends Event> {
  readonly entry: Entry<S, C, E>
  /** What it was decided on; an aggregate has been changed by it since. */
  readonly state: S
  readonly version: number
  readonly events: readonly E[]
  /** The state after them. */
  readonly after: S
  readonly failure: { readonly error: unknown } | undefined
}

/** How long a line waits for those who were in it to come back. */
const LINGER_MS = 10

/** Stands for the conflict of an expected version, which is looked up when it is told. */
const UNEXPECTED = Symbol('unexpected')

/**
 * The calls that wait for one stream. They are decided in turn, each on the state after the one before, and what they lead to
 * is appended at once, at exactly the version that they were decided on: so all that was decided holds only if that append
 * succeeds. What leads to no append, a refusal too, is told only of a state that was true after the call had come.
 */
export class Line<S, C, E extends Event> {
  readonly #parts: LineParts<S, C, E>
  readonly #stream: string
  readonly #group: number
  readonly #leave: (line: Line<S, C, E>, rest: Entry<S, C, E>[]) => void
  /** In the order in which they came. Who is aborted leaves it at once, whatever the store does. */
  #waiting = new Set<Entry<S, C, E>>()
  /** Those of them whose turn it is. */
  #called = new Set<Entry<S, C, E>>()
  #running = false
  #known: Known<S, E> | undefined
  /** Ends the wait for those who may come back. */
  #lingering: (() => void) | undefined
  /** Whether a stream without events was found to have had some. */
  #truncated = false
  /** Whether a decision took so long that the others went on without it. */
  #stuck = false

  /**
   * @param group the most calls per append; 1: nobody else is to be added
   * @param leave the line takes no more calls; `rest` are to go on in another one
   */
  constructor(
    parts: LineParts<S, C, E>,
    stream: string,
    group: number,
    leave: (line: Line<S, C, E>, rest: Entry<S, C, E>[]) => void = () => {},
    waiting: readonly Entry<S, C, E>[] = [],
  ) {
    this.#parts = parts
    this.#stream = stream
    this.#group = group
    this.#leave = leave
    for (const entry of waiting) this.#admit(entry)
    if (waiting.length > 0) void this.#run()
  }

  /** Waits for its turn, and gives its outcome. `options.signal` has not aborted. */
  add(id: string, command: Command<S, C, E>, options: HandleOptions): Promise<Handled<E, S>> {
    const { signal, idempotencyKey, expectedVersion = 'any' } = options
    return new Promise<Handled<E, S>>((resolve, reject) => {
      const entry: Entry<S, C, E> = {
        id,
        command,
        options,
        arrived: this.#parts.states.tick(),
        attempts: 0,
        conflicts: 0,
        alone: idempotencyKey !== undefined || expectedVersion !== 'any',
        leave: () => {},
        tell: undefined,
        resolve(handled) {
          forget?.()
          resolve(handled)
        },
        reject(error) {
          forget?.()
          reject(error)
        },
      }
      const forget =
        signal &&
        onAbort(signal, () => {
          entry.leave()
          reject(signal.reason)
        })
      this.#admit(entry)
      this.#lingering?.()
      this.#lingering = undefined
      if (!this.#running) void this.#run()
    })
  }

  #admit(entry: Entry<S, C, E>): void {
    this.#waiting.add(entry)
    entry.leave = () => {
      this.#waiting.delete(entry)
      this.#called.delete(entry)
    }
  }

  async #run(): Promise<void> {
    this.#running = true
    await Promise.resolve() // so that calls made at the same time stand in line
    do {
      this.#called = this.#next()
      const isHot = this.#called.size > 1
      try {
        // oxlint-disable-next-line no-await-in-loop -- one turn after the other is what a line is
        await this.#turn()
      } catch (error) {
        this.#fail(this.#called, error)
      }
      const done = [...this.#called].filter(({ tell }) => tell)
      for (const { leave } of done) leave()
      this.#running = this.#waiting.size > 0
      if (!this.#running && !this.#stuck) this.#end(isHot) // first, so that what one caller does next begins afresh
      for (const { tell } of done) tell?.()
    } while (this.#running)
  }

  /** Nobody waits. Where several came at once they may come back as soon as they hear: then the state need not be looked up. */
  #end(isHot: boolean): void {
    if (!isHot || !this.#known) return this.#leave(this, [])
    this.#lingering = this.#parts.clock.setTimer(() => {
      this.#lingering = undefined
      this.#leave(this, [])
    }, LINGER_MS)
  }

  /** Those whose turn it is: one alone, or several that can go together. */
  #next(): Set<Entry<S, C, E>> {
    const next = new Set<Entry<S, C, E>>()
    for (const entry of this.#waiting) {
      if (next.size === this.#group || (entry.alone && next.size > 0)) break
      next.add(entry)
      if (entry.alone) break
    }
    return next
  }

  /** One try: at its end some calls are settled, or more is known of the stream. */
  async #turn(): Promise<void> {
    const known = await this.#look()
    const entries = [...this.#called] // others have left meanwhile
    if (!known || entries.length === 0) return
    const { states } = this.#parts
    const decisions = await this.#decide(entries, known)
    this.#known = known.held.lasting ? known : undefined
    if (decisions.some(({ entry }) => entry.options.signal?.aborted)) return
    if (decisions.some(({ events }) => events.length > 0)) await this.#append(decisions, known)
    else if (decisions.every(({ entry }) => known.since > entry.arrived)) await this.#settle(decisions, known)
    else {
      this.#known &&= await states.followed(this.#stream, this.#known, {})
      if (!this.#known) states.forget(this.#stream) // or it would be found there again
    }
  }

  /** Not async, and the entry not passed on: one that leaves is not to be kept by who waits for the store. */
  #look(): Promise<Known<S, E>> | undefined {
    const [first] = this.#called
    return first && this.#lookUp(first.id, first.options)
  }

  async #lookUp(id: string, { signal, tx, expectedVersion = 'any' }: HandleOptions): Promise<Known<S, E>> {
    const { states } = this.#parts
    const keep = tx === undefined && (states.keeps || this.#waiting.size > 1)
    let known = this.#known
    for (;;) {
      // What several wait for does not end with the signal of one.
      const lookup = { tx, signal: this.#group > 1 ? undefined : signal, keep }
      // oxlint-disable-next-line no-await-in-loop -- again only when the first event came in between
      known ??= await states.recent(id, this.#stream, lookup)
      if (known.exists || !(this.#truncated || !isAsExpected(0, expectedVersion))) return known
      // oxlint-disable-next-line no-await-in-loop -- as above
      known = await states.truncated(this.#stream, known, tx)
      if (known) return known
    }
  }

  /** Decides in turn, each on what is known and what those before it lead to. Settles what is certain by that. */
  async #decide(entries: readonly Entry<S, C, E>[], known: Known<S, E>): Promise<readonly Tentative<S, C, E>[]> {
    const { model } = this.#parts
    const { held, version, since } = known
    const decisions: Tentative<S, C, E>[] = []
    const raised: E[] = []
    let state = held.take()
    for (const entry of entries) {
      if (model.mutable && entry !== entries[0]) {
        if (!held.lasting) break
        state = held.take()
        for (const [i, event] of raised.entries()) state = model.replay(state, withOwnData(event), version + i + 1)
      }
      // oxlint-disable-next-line no-await-in-loop -- in turn
      const decision = await this.#decideOne(entry, state, version + raised.length)
      state = decision.after
      // Those before it are decided elsewhere: it stands if it was not decided on what they lead to.
      if (this.#stuck && entries.length > 1) return raised.length === 0 ? [decision] : []
      // oxlint-disable-next-line no-await-in-loop -- as above
      if (decision.events.length + raised.length === 0 && since > entry.arrived) await this.#settle([decision], known)
      else decisions.push(decision)
      raised.push(...decision.events)
    }
    return decisions
  }

  async #decideOne(entry: Entry<S, C, E>, state: S, version: number): Promise<Tentative<S, C, E>> {
    const { model } = this.#parts
    entry.attempts++
    const forget = this.#watch(entry)
    try {
      if (!isAsExpected(version, entry.options.expectedVersion ?? 'any')) throw UNEXPECTED
      if (model.isTerminal(state)) throw new StreamClosedError(this.#stream, 'has come to its end')
      const events = await validated(this.#parts.store, await model.decide(state, entry.command))
      // What can't be replayed must not be stored. An aggregate has replayed it.
      const after = model.mutable
        ? state
        : events.reduce((s, event, i) => model.replay(s, event, version + i + 1), state)
      return { entry, state, version, events, after, failure: undefined }
    } catch (error) {
      return { entry, state, version, events: [], after: state, failure: { error } }
    } finally {
      forget()
    }
  }

  /** When the decision takes long, or waits for one behind it, the others go on in another line. */
  #watch(entry: Entry<S, C, E>): () => void {
    if (this.#group === 1 || this.#stuck) return () => {}
    const { clock, patienceMs } = this.#parts
    return clock.setTimer(() => {
      this.#stuck = true
      const others = [...this.#waiting].filter((other) => other !== entry)
      for (const { leave } of others) leave()
      this.#leave(
        this,
        others.filter(({ tell }) => !tell),
      )
      for (const { tell } of others) tell?.()
    }, patienceMs)
  }

  async #append(decisions: readonly Tentative<S, C, E>[], known: Known<S, E>): Promise<void> {
    const { states, store } = this.#parts
    const [{ entry }] = decisions as [Tentative<S, C, E>]
    const { tx } = entry.options
    const options = decisions.length > 1 ? {} : entry.options
    const since = states.tick()
    let appended: Appended<E>
    try {
      appended = await store.append(this.#stream, eventsOf(decisions), { ...options, expectedVersion: known.version })
    } catch (error) {
      return this.#refused(decisions, known, error, since)
    }
    if (appended.duplicate) return answer(entry, await this.#parts.repeated(entry.id, appended, entry.attempts, tx))
    await this.#settle(decisions, known, appended.events)
    if (!this.#known) return
    this.#known = { ...known, version: appended.version, last: appended.events.at(-1)?.id, exists: true, since }
    if (tx === undefined) this.#known = states.remember(this.#stream, this.#known)
  }

  /** Tells each call its outcome, now that `recorded` is stored. */
  async #settle(
    decisions: readonly Tentative<S, C, E>[],
    { held, exists }: Known<S, E>,
    recorded: readonly Recorded<E>[] = [],
  ): Promise<void> {
    const { model } = this.#parts
    let done = 0
    for (const { entry, state: decided, version: before, events: raised, failure } of decisions) {
      const events = recorded.slice(done, (done += raised.length))
      for (const event of events) held.advance(event)
      if (failure) {
        // oxlint-disable-next-line no-await-in-loop -- of one at most: it goes alone
        refuse(entry, failure.error === UNEXPECTED ? await this.#conflict(entry, before) : failure.error)
        continue
      }
      const { id, attempts } = entry
      const state = model.mutable ? model.stored(decided, events) : held.take()
      const { version = before, position = 0 } = events.at(-1) ?? {}
      answer(entry, {
        id,
        state,
        version,
        exists: exists || version > 0,
        events,
        position,
        attempts,
        duplicate: false,
      })
    }
  }

  /** Nothing was written, or nobody knows. */
  async #refused(decisions: readonly Tentative<S, C, E>[], known: Known<S, E>, error: unknown, since: number) {
    const { states, retries } = this.#parts
    if (isHoldfastError(error, 'VERSION_CONFLICT')) {
      const conflict = error as VersionConflictError<E>
      this.#known &&= states.caughtUp(this.#known, conflict, since)
      if (!this.#known) states.forget(this.#stream)
      // No event of a stream that has some: they were truncated, and nobody else was first.
      if (!this.#truncated && !known.exists && conflict.missed.length === 0) {
        this.#truncated = true
        return
      }
      for (const { entry, events } of decisions)
        if (events.length > 0 && ++entry.conflicts > retries) refuse(entry, error)
    } else if (decisions.length > 1 && familyOf(error) === 'invalid') {
      for (const { entry } of decisions) entry.alone = true // it is because of one of them, or each is to hear it
    } else {
      this.#fail(
        decisions.map(({ entry }) => entry),
        error,
      )
    }
  }

  #fail(entries: Iterable<Entry<S, C, E>>, error: unknown): void {
    this.#known = undefined
    this.#parts.states.forget(this.#stream)
    for (const entry of entries) refuse(entry, error)
  }

  async #conflict({ options }: Entry<S, C, E>, version: number): Promise<VersionConflictError> {
    const { expectedVersion: expected = 'any', tx } = options
    const after = missedAfter(expected) ?? version
    const missed: Recorded<E>[] = []
    const bounds = { fromVersion: after + 1, toVersion: version, limit: MOST_MISSED, tx }
    if (after < version) for await (const event of this.#parts.store.read<E>(this.#stream, bounds)) missed.push(event)
    return new VersionConflictError(this.#stream, expected, version, missed)
  }
}

/** What is appended: each call's metadata goes under its own events when there are several calls. */
function eventsOf<S, C, E extends Event>(decisions: readonly Tentative<S, C, E>[]): readonly E[] {
  if (decisions.length === 1) return decisions[0]?.events ?? []
  return decisions.flatMap(({ entry, events }) => {
    const { metadata } = entry.options
    return metadata ? events.map((event) => withMetadata(event, metadata)) : events
  })
}

function withMetadata<E extends Event>(event: E, metadata: Metadata): E {
  const own: unknown = event.metadata === undefined ? {} : event.metadata
  if (!isMetadata(own)) return event // the store says what is wrong
  return { ...event, metadata: { ...metadata, ...own } }
}
