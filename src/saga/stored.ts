import { CorruptDataError, messageOf } from '../kernel/errors.js'
import type { ClaimedSaga, NewSaga, StoredSaga } from './store.js'

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
