import type { Event, Recorded } from './event.js'
import { isQuery, matches } from './query.js'
import type { Query } from './store.js'

/** Name of a store's method that takes inline projections: {@link InlineStore}. A global symbol, so that it works across copies of the package. */
export const INLINE: unique symbol = Symbol.for('holdfast.inline') as never

/** Called in the transaction of an append, with what it is about to record; what it throws fails the append. */
export type InlineProject<Tx> = (tx: Tx, events: readonly Recorded[]) => Promise<void>

/** A store whose appends carry projections in their own transaction. `Tx` is what the store has for one. */
export interface InlineStore<Tx> {
  /**
   * Calls `project` for every append, through this object, of events that `on` picks.
   * @param ready awaited before each such transaction begins
   */
  [INLINE](on: readonly string[] | Query, project: InlineProject<Tx>, ready?: () => Promise<unknown>): void
}

/** Events as what they are known to be. */
export const asRecorded = <E extends Event>(events: readonly Recorded[]): readonly Recorded<E>[] =>
  events as unknown as readonly Recorded<E>[]

/** Carries what a projection threw past those who would take it for the store's failure. */
export class InlineFailure extends Error {
  constructor(readonly thrown: unknown) {
    super('a projection within an append failed')
  }
}

interface Entry<Tx> {
  readonly query: Query
  readonly project: InlineProject<Tx>
  readonly ready: () => Promise<unknown>
}

/** The inline projections of a store. */
export class Inline<Tx> {
  readonly #projections: Entry<Tx>[] = []

  /** Whether there are none. */
  get isEmpty(): boolean {
    return this.#projections.length === 0
  }

  add(on: readonly string[] | Query, project: InlineProject<Tx>, ready: () => Promise<unknown> = async () => {}): void {
    this.#projections.push({ query: isQuery(on) ? on : { items: [{ types: on }] }, project, ready })
  }

  /** To be awaited before the transaction begins. @throws InlineFailure */
  async ready(): Promise<void> {
    await this.#each(({ ready }) => ready())
  }

  /** Runs all of them, one after the other. @throws InlineFailure */
  async run(tx: Tx, recorded: readonly Recorded[]): Promise<void> {
    await this.#each(async ({ query, project }) => {
      const events = recorded.filter((event) => matches(query, event))
      if (events.length > 0) await project(tx, events)
    })
  }

  async #each(work: (projection: Entry<Tx>) => Promise<unknown>): Promise<void> {
    try {
      // oxlint-disable-next-line no-await-in-loop -- in the order in which they were given
      for (const projection of this.#projections) await work(projection)
    } catch (error) {
      throw new InlineFailure(error)
    }
  }
}
