import type { Unsubscribe } from '../kernel/emitter.js'
import type { Recorded } from './event.js'

/** Works on events in the transaction that appends them; what it throws undoes the append, and comes out of it. */
export type InlineWork<Tx> = (tx: Tx, events: readonly Recorded[]) => Promise<void>

/** How a projector is called within appends; a global symbol, so that it works across copies of the package. */
export const INLINE: unique symbol = Symbol.for('holdfast.inline') as never

/** A store that has it done with each append, in order of position, until the returned function is called. */
export interface InlineStore<Tx> {
  [INLINE](work: InlineWork<Tx>): Unsubscribe
}

/** Carries what work within an append threw past those who would take it for the store's failure. */
export class InlineFailure extends Error {
  constructor(readonly thrown: unknown) {
    super('work within an append failed')
  }
}

/** Runs all of it, one after the other. @throws InlineFailure */
export async function runInline<Tx>(
  works: Iterable<InlineWork<Tx>>,
  tx: Tx,
  events: readonly Recorded[],
): Promise<void> {
  try {
    // oxlint-disable-next-line no-await-in-loop -- in one transaction, one after the other
    for (const work of works) await work(tx, events)
  } catch (error) {
    throw new InlineFailure(error)
  }
}
