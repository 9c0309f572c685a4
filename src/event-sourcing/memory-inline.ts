import type { Recorded } from './event.js'
import type { InlineProject } from './inline.js'
import { isQuery, matches } from './query.js'
import type { Query } from './store.js'

/** The transaction of an append in memory: what is to be done in the moment when it is recorded. */
export type AtOnce = (() => void)[]

/** Inline projections of a store in memory. They take time, so appends that have them come one after the other. */
export class MemoryInline {
  readonly #projections: { readonly query: Query; readonly project: InlineProject<AtOnce> }[] = []
  #turn: Promise<unknown> = Promise.resolve()

  add(on: readonly string[] | Query, project: InlineProject<AtOnce>): void {
    this.#projections.push({ query: isQuery(on) ? on : { items: [{ types: on }] }, project })
  }

  inTurn<T>(append: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(append)
    this.#turn = result.catch(() => {})
    return result
  }

  /** @returns what is to be done when the events are recorded */
  async project(recorded: readonly Recorded[]): Promise<() => void> {
    const atOnce: AtOnce = []
    for (const { query, project } of this.#projections) {
      const events = recorded.filter((event) => matches(query, event))
      // oxlint-disable-next-line no-await-in-loop -- in the order in which they were given
      if (events.length > 0) await project(atOnce, events)
    }
    return () => atOnce.forEach((apply) => apply())
  }
}
