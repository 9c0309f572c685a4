import { CorruptDataError, messageOf } from '../kernel/errors.js'
import type { ClaimedSaga, NewSaga, StoredSaga, Transition } from './store.js'

/** A saga of which nothing has been written but that it is there. */
export const fresh = (now: number, epoch: number): Omit<StoredSaga, keyof NewSaga> => ({
  ...{ status: 'running', createdAt: now, updatedAt: now, epoch, journal: [], inbox: [], lastMessage: 0 },
})

/** @param id of the saga, `what` the part of it that `text` is. @throws CorruptDataError */
export function parseStored<T>(id: string, what: string, text: string): T {
  try {
    return JSON.parse(text) as T
  } catch (cause) {
    throw new CorruptDataError(`saga ${JSON.stringify(id)}: its ${what} can't be read: ${messageOf(cause)}`, { cause })
  }
}

/** What was claimed, each read on its own: one that can't be must not hold up the others. */
export function readClaimed<T>(
  taken: readonly T[],
  read: (one: T) => ClaimedSaga | undefined,
): { readonly claimed: readonly ClaimedSaga[]; readonly unreadable: readonly unknown[] } {
  const claimed: ClaimedSaga[] = []
  const unreadable: unknown[] = []
  for (const one of taken) {
    try {
      const saga = read(one)
      if (saga) claimed.push(saga)
    } catch (error) {
      unreadable.push(error)
    }
  }
  return { claimed, unreadable }
}

/** A transition, and its record as text: JSON, hence one line. */
export interface Written {
  readonly id: string
  readonly transition: Transition
  readonly record: string
}

export const written = (transition: Transition): Written => ({
  id: transition.id,
  transition,
  record: JSON.stringify(transition.record),
})

/** One after the other when it is asked for: together they may be large. */
export function* allWritten(transitions: readonly Transition[]): Generator<Written> {
  for (const transition of transitions) yield written(transition)
}

/** In their order; in one batch no two of a saga. @param most in one: so many, and of such a size together unless it is a single one */
export function* batches<T extends { readonly id: string }>(
  all: Iterable<T>,
  sizeOf: (one: T) => number,
  most: { readonly count: number; readonly size: number },
): Generator<readonly T[]> {
  let batch: T[] = []
  let ids = new Set<string>()
  let size = 0
  for (const one of all) {
    const more = sizeOf(one)
    const isFull = batch.length === most.count || size + more > most.size || ids.has(one.id)
    if (isFull && batch.length > 0) {
      yield batch
      ;[batch, ids, size] = [[], new Set(), 0]
    }
    batch.push(one)
    ids.add(one.id)
    size += more
  }
  if (batch.length > 0) yield batch
}
