import { checkInteger, checkMethods, checkObject, invalid } from '../kernel/check.js'
import { isHoldfastError } from '../kernel/errors.js'
import { reportError } from '../kernel/report.js'
import type { VersionConflictError } from './errors.js'
import type { Event, Recorded } from './event.js'
import type { Held } from './held.js'
import type { Model } from './replay.js'
import type { Snapshot, SnapshotStore } from './snapshots.js'
import type { EventStore } from './store.js'

/** What a process keeps of the states it has seen. */
export interface StateCacheOptions {
  /** At most so many states, those used last. Integer ≥ 1. */
  readonly max: number
}

/** How a repository keeps snapshots. */
export interface SnapshotOptions {
  /** A snapshot is made when so many events came since the last. Integer ≥ 1. */
  readonly every: number
  /**
   * Which shape the states have, integer in [0, 2^31): count it up when you change it, and snapshots of the old shape are left aside.
   * @defaultValue the class's `static snapshotRevision`; a decider needs one
   */
  readonly revision?: number | undefined
  /** Where they are. */
  readonly store: SnapshotStore
}

/** A state with what is known of its stream. */
export interface Known<S, E extends Event> {
  readonly held: Held<S, E>
  /** The stream's version, which may be higher than that of the last event in `held` if that was truncated. */
  readonly version: number
  readonly exists: boolean
  /** Id of the event at `version`, if it was seen. */
  readonly last: string | undefined
  /** Version of the last snapshot of it, as far as is known; 0 for none. */
  readonly snapshotAt: number
  /** It was so at some moment after this one, by {@link States.tick}. */
  readonly since: number
}

/** How a state is looked up. */
export interface Lookup {
  readonly toVersion?: number | undefined
  readonly asOf?: Date | undefined
  readonly signal?: AbortSignal | undefined
  readonly tx?: unknown
  /** Whether it is to be lasting. @defaultValue false */
  readonly keep?: boolean | undefined
}

/** The states of a repository: from a cache, from snapshots, from events. */
export class States<S, C, E extends Event> {
  readonly #store: EventStore<E>
  readonly #model: Model<S, C, E>
  readonly #cache: { readonly max: number; readonly states: Map<string, Known<S, E>> } | undefined
  readonly #snapshot: { readonly every: number; readonly revision: number; readonly store: SnapshotStore } | undefined
  /** Streams of which a snapshot is being written. */
  readonly #writing = new Map<string, Promise<void>>()
  /** What of the snapshot store failed when it was last used: reported once, not with every call. */
  readonly #failing = new Set<'get' | 'put' | 'drop'>()
  #ticks = 0

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(
    store: EventStore<E>,
    model: Model<S, C, E>,
    { cache, snapshot }: { cache?: StateCacheOptions | undefined; snapshot?: SnapshotOptions | undefined },
  ) {
    this.#store = store
    this.#model = model
    if (cache !== undefined)
      this.#cache = { max: checkInteger('cache.max', checkObject('cache', cache).max, 1), states: new Map() }
    if (snapshot !== undefined) {
      if (!model.restorable) invalid('snapshot', 'none, or a class with the methods snapshot() and restore()', snapshot)
      const { every, revision = model.snapshotRevision, store: snapshots } = checkObject('snapshot', snapshot)
      this.#snapshot = {
        every: checkInteger('snapshot.every', every, 1),
        revision: checkInteger('snapshot.revision', revision, 0, 2 ** 31 - 1),
        store: checkMethods('snapshot.store', snapshots, ['get', 'put', 'drop']),
      }
    }
  }

  /** Whether states are used again, so that they had better be lasting. */
  get keeps(): boolean {
    return this.#cache !== undefined || this.#snapshot !== undefined
  }

  /** A moment, later than all before. */
  tick(): number {
    return ++this.#ticks
  }

  /** The state as it is, or was at some moment. */
  async load(id: string, stream: string, lookup: Lookup): Promise<Known<S, E>> {
    if (lookup.toVersion !== undefined || lookup.asOf !== undefined) return this.#open(id, stream, lookup)
    const cached = this.#cached(stream)
    const known = (cached && (await this.followed(stream, cached, lookup))) ?? (await this.#open(id, stream, lookup))
    return this.remember(stream, known)
  }

  /** A state to decide on: it may be older than what is stored, which appending at its version finds out. */
  async recent(id: string, stream: string, lookup: Lookup): Promise<Known<S, E>> {
    if (lookup.tx !== undefined) return this.#open(id, stream, lookup)
    return this.#cached(stream) ?? this.remember(stream, await this.#open(id, stream, lookup))
  }

  /**
   * `known` and what was stored since. Changes its `held`. `undefined` when `known` is not what is in the stream, or events between
   * have gone.
   */
  async followed(stream: string, known: Known<S, E>, lookup: Lookup): Promise<Known<S, E> | undefined> {
    const since = this.tick()
    let { version, last, exists } = known
    if (version === 0) return undefined
    let started = false
    // From the last event known on: it shows that this is the stream that is known, and lets an adapter answer in one step.
    for await (const event of this.#read(stream, lookup, version)) {
      if (!started) {
        started = true
        if (event.version === version) {
          if (last !== undefined && last !== event.id) return undefined
          last = event.id
          continue
        }
        if (event.version !== version + 1 || last !== undefined) return undefined
      }
      known.held.advance(event)
      exists = true
      version = event.version
      last = event.id
    }
    return started ? { ...known, version, last, exists, since } : undefined
  }

  /** `known` and what a conflict at its version says was missed. Changes its `held`. `undefined` when that is not everything. */
  caughtUp(known: Known<S, E>, { actual, missed }: VersionConflictError<E>, since: number): Known<S, E> | undefined {
    if (!known.held.lasting || missed.length === 0) return undefined
    if (missed[0]?.version !== known.version + 1 || missed.at(-1)?.version !== actual) return undefined
    for (const event of missed) known.held.advance(event)
    return { ...known, version: actual, last: missed.at(-1)?.id, exists: true, since }
  }

  /** A stream without events may have had some: then appends go on from its version. `undefined` when it has some by now. */
  async truncated(stream: string, known: Known<S, E>, tx: unknown): Promise<Known<S, E> | undefined> {
    const { version = 0, first = 1 } = (await this.#store.info(stream, { tx })) ?? {}
    return first > version ? { ...known, version, exists: version > 0 } : undefined
  }

  /** Keeps a state that is stored, in the cache and, when it is time, as a snapshot. */
  remember(stream: string, known: Known<S, E>): Known<S, E> {
    if (this.#cache && known.last !== undefined && known.held.lasting) this.#keep(stream, known)
    const { every = Infinity } = this.#snapshot ?? {}
    if (known.version - known.snapshotAt < every || this.#writing.has(stream)) return known
    this.#writing.set(
      stream,
      this.#putSnapshot(stream, known).finally(() => this.#writing.delete(stream)),
    )
    return { ...known, snapshotAt: known.version }
  }

  /** Forgets what the cache has of a stream. */
  forget(stream: string): void {
    this.#cache?.states.delete(stream)
  }

  /** Forgets what the cache and the snapshot store have of a stream. */
  async drop(stream: string): Promise<void> {
    this.forget(stream)
    await this.#writing.get(stream) // or it would be there again
    await this.#snapshot?.store.drop(stream)
  }

  #cached(stream: string): Known<S, E> | undefined {
    const known = this.#cache?.states.get(stream)
    if (!known) return undefined
    this.#cache?.states.delete(stream) // and set again, so that the map stays in order of last use
    this.#cache?.states.set(stream, known)
    return { ...known, held: known.held.fork(), since: 0 }
  }

  #keep(stream: string, known: Known<S, E>): void {
    const { states, max } = this.#cache as { max: number; states: Map<string, Known<S, E>> }
    const held = known.held.fork()
    if (!held.lasting) return
    states.delete(stream)
    states.set(stream, { ...known, held })
    for (const oldest of states.keys()) {
      if (states.size <= max) break
      states.delete(oldest)
    }
  }

  async #open(id: string, stream: string, lookup: Lookup): Promise<Known<S, E>> {
    const since = this.tick()
    const keep = lookup.keep ?? this.keeps
    const restored = await this.#fromSnapshot(id, stream, lookup, keep)
    if (restored) return restored
    const held = this.#model.hold(id, keep)
    let [version, last]: [number, string | undefined] = [0, undefined]
    for await (const event of this.#read(stream, lookup, 1)) {
      held.advance(event)
      version = event.version
      last = event.id
    }
    return { held, version, exists: version > 0, last, snapshotAt: 0, since }
  }

  #read(stream: string, { toVersion, asOf, signal, tx }: Lookup, fromVersion: number): AsyncIterable<Recorded<E>> {
    return this.#store.read<E>(stream, { fromVersion, toVersion, asOf, signal, tx })
  }

  /** `undefined` when there is none, or none that can be trusted. */
  async #fromSnapshot(id: string, stream: string, lookup: Lookup, keep: boolean): Promise<Known<S, E> | undefined> {
    // Which moment a snapshot is of is not known; what it costs to find out is not worth it.
    const snapshot = lookup.asOf === undefined ? await this.#getSnapshot(stream, lookup.toVersion) : undefined
    if (!snapshot) return undefined
    const { version } = snapshot
    const held = this.#restored(id, keep, snapshot)
    if (!held) return undefined
    try {
      const known = { held, version, exists: true, last: undefined, snapshotAt: version, since: this.tick() }
      return (await this.followed(stream, known, lookup)) ?? (await this.#untouched(stream, known, lookup))
    } catch (error) {
      if (isHoldfastError(error) || lookup.signal?.aborted) throw error
      return undefined // it does not fit: what the user's code threw it will throw again if that was not why
    }
  }

  #restored(id: string, keep: boolean, snapshot: Snapshot): Held<S, E> | undefined {
    try {
      return this.#model.hold(id, keep, snapshot)
    } catch {
      return undefined // unreadable: the events are there
    }
  }

  /** A snapshot whose event is gone: still the state if it was the last. */
  async #untouched(stream: string, known: Known<S, E>, { tx, toVersion }: Lookup): Promise<Known<S, E> | undefined> {
    const { version = 0 } = (await this.#store.info(stream, { tx })) ?? {}
    // It is of another history, and would pass for this one's when the stream gets there. A transaction may just see an older one.
    if (version < known.version && tx === undefined) await this.#dropSnapshots(stream)
    return version === known.version || (version > known.version && toVersion === known.version) ? known : undefined
  }

  async #getSnapshot(stream: string, maxVersion: number | undefined): Promise<Snapshot | undefined> {
    if (!this.#snapshot) return undefined
    const { store, revision } = this.#snapshot
    try {
      const snapshot = await store.get(stream, revision, maxVersion)
      this.#failing.delete('get')
      const version = snapshot?.version ?? 0
      return Number.isSafeInteger(version) && version > 0 && version <= (maxVersion ?? version) ? snapshot : undefined
    } catch (error) {
      return this.#failed('get', error)
    }
  }

  async #putSnapshot(stream: string, { held, version }: Known<S, E>): Promise<void> {
    const { store, revision } = this.#snapshot as { store: SnapshotStore; revision: number }
    try {
      await store.put(stream, revision, version, held.snapshot())
      this.#failing.delete('put')
    } catch (error) {
      this.#failed('put', error)
    }
  }

  async #dropSnapshots(stream: string): Promise<void> {
    try {
      await this.#snapshot?.store.drop(stream)
      this.#failing.delete('drop')
    } catch (error) {
      this.#failed('drop', error)
    }
  }

  #failed(what: 'get' | 'put' | 'drop', error: unknown): undefined {
    if (!this.#failing.has(what)) reportError(error)
    this.#failing.add(what)
  }
}
