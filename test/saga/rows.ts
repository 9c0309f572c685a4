import type { NewSaga, Transition } from '../../src/saga/index.js'

/** What is said to a store in tests of its own, where nothing depends on the rest. */
export const known = [{ name: 'order', version: 1, hash: 'h' }]

export const newSaga = (id: string, more: Partial<NewSaga> = {}): NewSaga => ({
  ...{ id, name: 'order', version: 1, hash: 'h', input: '1', deadlineMs: null, leaseMs: null },
  ...more,
})

/** The first transition of a saga, which ends it. */
export const end = (id: string, more: Partial<Transition> = {}): Transition => ({
  ...{ id, epoch: 1, position: 0, record: { at: 1, entries: [] }, status: 'completed', consumed: [], seen: 0 },
  ...{ next: { dueAt: null }, ...more },
})
