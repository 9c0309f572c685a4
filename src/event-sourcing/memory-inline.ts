import type { Recorded } from './event.js'
import { Inline, InlineFailure } from './inline.js'

/** The transaction of an append in memory: what is to be done in the moment when it is recorded. */
export type AtOnce = (() => void)[]

/** Inline projections of a store in memory. They take time, so appends that have them come one after the other. */
export class MemoryInline extends Inline<AtOnce> {
  #turn: Promise<unknown> = Promise.resolve()

  inTurn<T>(append: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(append)
    this.#turn = result.catch(() => {})
    return result
  }

  /** @returns what is to be done when the events are recorded */
  async project(recorded: readonly Recorded[]): Promise<() => void> {
    const atOnce: AtOnce = []
    try {
      await this.ready()
      await this.run(atOnce, recorded)
    } catch (error) {
      throw error instanceof InlineFailure ? error.thrown : error
    }
    return () => atOnce.forEach((apply) => apply())
  }
}
