import { checkInteger, checkMethods, checkObject, checkString, invalid } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import { ClosedError, isHoldfastError, NotFoundError } from '../kernel/errors.js'
import { onAbort } from '../kernel/signal.js'
import { Batches, type Bound } from './batches.js'
import { Patience } from './doorbell.js'
import type { Event, Recorded } from './event.js'
import { asRecorded, INLINE, type InlineStore } from './inline.js'
import { Pages } from './pages.js'
import type { Context, Projection, ProjectionOptions, Projector, Rebuild } from './projection.js'
import { checkQuery } from './query.js'
import { checkpointOf, type RevisionId, type Revisions, type Standing } from './revisions.js'
import { Runner, type Held } from './runner.js'
import type { EventStore, Page, Query } from './store.js'

const PAGE = 1_000

/** Every {@link Projector}, on whatever its revisions stand. */
export class Projections<E extends Event, Tx> implements Projector<E, Tx> {
  /** Names of inline projections. They have no checkpoint: whatever else takes them up would take in the same once more. */
  readonly #inline = new Set<string>()

  constructor(
    private readonly store: EventStore<E>,
    private readonly revisions: Revisions<Tx>,
    private readonly clock: Clock,
  ) {}

  inline<P extends E>(projection: Projection<P, Tx>): void {
    const { id, on, project, context } = this.#checked(projection)
    const store = this.store as EventStore<E> & Partial<InlineStore<unknown>>
    if (typeof store[INLINE] !== 'function') return invalid('store', 'one that takes inline projections', this.store)
    this.#notInline(id)
    this.#inline.add(id.name)
    let ready: Promise<unknown> | undefined
    const setUp = (): Promise<unknown> => {
      ready ??= this.#setUpLive(projection, id)
      // The next append begins anew, but for a mistake in the code: that may be told to one whose transaction nothing can be asked beside.
      ready.catch((error) => isHoldfastError(error, 'INVALID_OPTION') || (ready = undefined))
      return ready
    }
    setUp().catch(() => {}) // told to the first append
    const { signal } = new AbortController()
    const inAppend = { replaying: false, attempt: 1, signal }
    store[INLINE](
      on,
      async (tx, events) => project(asRecorded<P>(events), context(this.revisions.enlist(tx), inAppend)),
      setUp,
    )
  }

  run<P extends E>(projection: Projection<P, Tx>, options: ProjectionOptions = {}): Runner<P, Tx> {
    const { id } = this.#checked(projection)
    this.#notInline(id)
    let generation: number | undefined
    return this.#start(projection, options, async () => (generation ??= await this.#setUp(projection, id)))
  }

  async rebuild<P extends E>(projection: Projection<P, Tx>, options: ProjectionOptions = {}): Promise<Rebuild> {
    const { id, context } = this.#checked(projection)
    const { clock = this.clock } = options
    this.#notInline(id)
    const generation = await this.#setUp(projection, id)
    const subscription = this.#start(projection, options, async () => generation)
    const before = (await this.revisions.checkpoints.position(checkpointOf(id))) ?? 0
    const began = clock.now()
    return {
      subscription,
      progress: async () => {
        const position = (await this.revisions.checkpoints.position(checkpointOf(id))) ?? 0
        const { head } = await this.store.readPage({ after: position, limit: 1 })
        return { position, head, perSecond: ((position - before) * 1_000) / Math.max(1, clock.now() - began) }
      },
      activate: async ({ signal } = {}) => {
        const patience = new Patience(500)
        const ended = new AbortController()
        const forget = signal && onAbort(signal, () => ended.abort(signal.reason))
        try {
          signal?.throwIfAborted()
          for (let asked = false; ; asked = true) {
            // oxlint-disable no-await-in-loop -- one look after the other
            const { live, wanted } = await this.#standing(id, generation)
            if (live === id.revision) return
            if (!asked) await this.revisions.want(id)
            else if (!wanted) throw new ClosedError(`another revision of ${id.name} was to be activated later`)
            const { state } = subscription
            if (state === 'stopped' || state === 'failed')
              throw new ClosedError(`the rebuild of ${id.name} has ${state}, so it was not activated here`)
            subscription.wake()
            await clock.sleep(patience.next(), ended.signal)
            // oxlint-enable no-await-in-loop
          }
        } finally {
          forget?.()
        }
      },
      discard: async () => {
        await subscription.stop()
        const drop = async (tx: Tx): Promise<void> => projection.drop?.(context(tx, SETTING_UP))
        await this.revisions.discard(id, projection.drop ? drop : undefined)
      },
    }
  }

  async position(name: string): Promise<number> {
    return (await this.revisions.standing({ name: checkString('name', name), revision: 0 }))?.mark ?? 0
  }

  #notInline({ name }: RevisionId): void {
    if (this.#inline.has(name)) invalid('projection.name', 'one that is not inline already', name)
  }

  #start<P extends E>(
    projection: Projection<P, Tx>,
    options: ProjectionOptions,
    setUp: () => Promise<number>,
  ): Runner<P, Tx> {
    const { id, query } = this.#checked(projection)
    const { batch = PAGE, clock = this.clock } = checkObject('options', options)
    if ('partitions' in options) return invalid('partitions', 'none: a projection is one', options['partitions'])
    const name = checkpointOf(id)
    return new Runner<P, Tx>(
      {
        store: this.store,
        name,
        prepare: async () => void (await setUp()),
        course: async (held) =>
          this.#course(projection, held, await setUp(), new Pages(this.store, batch, query) as never),
      },
      this.revisions.checkpoints,
      { ...options, batch, clock },
    )
  }

  async #course<P extends E>(
    projection: Projection<P, Tx>,
    { epoch, position, signal }: Held,
    generation: number,
    pages: Pages<P>,
  ): Promise<Batches<P, Tx>> {
    const { id, query, project, context } = this.#checked(projection)
    let live = await this.#isLive(id, generation)
    const work = async (tx: Tx, events: readonly Recorded<P>[], attempt: number): Promise<void> =>
      project(events, context(tx, { replaying: !live, attempt, signal }))
    const takeOver = async (from: number): Promise<number | undefined> => {
      const next = (after: number): Promise<Page<P>> => this.store.readPage<P & E>({ after, limit: PAGE, query })
      const first = await next(from) // read before: on a single connection that can't be done meanwhile
      let failure: { readonly error: unknown } | undefined
      const drain = async (tx: Tx, to: number, mayRead: boolean): Promise<boolean> => {
        let page = first
        for (let at = from; at < to; at = page.next) {
          // oxlint-disable-next-line no-await-in-loop -- one page after the other
          if (at > from) page = await next(at)
          if (page.next < to && !mayRead) return false
          const events = page.events.filter((event) => event.position <= to)
          if (events.length === 0) continue
          try {
            // oxlint-disable-next-line no-await-in-loop -- one page after the other
            await work(tx, events, 1)
          } catch (error) {
            failure = { error }
            throw error
          }
        }
        return true
      }
      try {
        const reached = await this.revisions.switchTo(id, { epoch, position: from }, drain)
        if (reached !== undefined) live = true
        return reached
      } catch (error) {
        if (failure?.error !== error) throw error
        return undefined // the event that stands in the way comes in the ordinary way, with its retries
      }
    }
    const bound = async (): Promise<Bound> => {
      const { mark, wanted } = await this.#standing(id, generation)
      return { mark, takeOver: wanted ? takeOver : undefined }
    }
    const commits = { checkpoints: this.revisions.checkpoints, name: checkpointOf(id), epoch, signal }
    return new Batches(pages, commits, work, position, live ? undefined : bound)
  }

  async #isLive(id: RevisionId, generation: number): Promise<boolean> {
    return (await this.#standing(id, generation)).live === id.revision
  }

  /** @throws NotFoundError when it is not the revision that was set up, or no longer. */
  async #standing(id: RevisionId, generation: number): Promise<Standing> {
    const standing = await this.revisions.standing(id)
    if (standing?.generation === generation) return standing
    throw new NotFoundError(`revision ${id.revision} of projection ${JSON.stringify(id.name)} was discarded`)
  }

  /** @throws InvalidOptionError when another revision is live: nobody would see what this one writes. */
  async #setUpLive<P extends E>(projection: Projection<P, Tx>, id: RevisionId): Promise<void> {
    const check = async (): Promise<void> => {
      const { live = id.revision } = (await this.revisions.standing(id)) ?? {}
      const expected = `${live}, the live one of ${JSON.stringify(id.name)}: an inline projection is not rebuilt`
      if (live !== id.revision) invalid('projection.revision', expected, id.revision)
    }
    await check() // before it leaves tables behind
    await this.#setUp(projection, id)
    await check() // another may have been the first
  }

  #setUp<P extends E>(projection: Projection<P, Tx>, id: RevisionId): Promise<number> {
    return this.revisions.setUp(id, async (tx, name) => projection.setup?.({ tx, name, ...SETTING_UP }))
  }

  #checked<P extends E>(projection: Projection<P, Tx>) {
    const { name, revision = 1, on } = checkMethods('projection', projection, ['project'])
    const id: RevisionId = {
      name: checkString('projection.name', name),
      revision: checkInteger('projection.revision', revision, 1),
    }
    const query = checkQuery(Array.isArray(on) ? { items: [{ types: on as string[] }] } : (on as Query))
    if (!query) return invalid('projection.on', 'a list of types, or a query', on)
    return {
      id,
      query,
      on,
      project: async (events: readonly Recorded<P>[], context: Context<Tx>) => projection.project(events, context),
      context: (tx: Tx, rest: Pick<Context<Tx>, 'replaying' | 'attempt' | 'signal'>): Context<Tx> => {
        return { tx, name: (table) => this.revisions.tableName(table, id), ...rest }
      },
    }
  }
}

/** Side effects have no place in `setup` and `drop`. */
const SETTING_UP = { replaying: true, attempt: 1, signal: new AbortController().signal } as const
