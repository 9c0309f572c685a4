import { expect, test } from 'vitest'
import { MemorySagaStore, type NewSaga } from '../../src/saga/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { sagaStoreContract } from '../conformance/saga-store.js'

for (const options of [{}, { retainMs: 10_000 }]) {
  sagaStoreContract(`MemorySagaStore ${JSON.stringify(options)}`, async () => {
    const clock = new ManualClock()
    return {
      store: new MemorySagaStore({ ...options, clock }),
      advance: (ms) => clock.advance(ms),
      close: async () => {},
    }
  })
}

const saga = (id: string): NewSaga => ({
  ...{ id, name: 'n', version: 1, hash: 'h', input: '1', deadlineMs: null, leaseMs: 1_000 },
})
const record = { at: 0, entries: [] }

test('an ended saga is deleted after its time, and its id starts clean', async () => {
  const clock = new ManualClock()
  const store = new MemorySagaStore({ retainMs: 100, clock })
  await store.create(saga('a'))
  await store.deliver({ sagaId: 'a', kind: 'signal', name: 's', payload: '1', dedupeId: 'd' })
  const end = { id: 'a', epoch: 1, position: 0, record, status: 'completed', consumed: [], seen: 1 } as const
  await store.commit([{ ...end, next: { dueAt: null } }])
  await clock.advance(99)
  expect((await store.create(saga('a'))).created).toBe(false)
  await clock.advance(1)
  expect(await store.read('a')).toBeUndefined()
  const again = await store.create(saga('a'))
  expect(again).toMatchObject({ created: true, saga: { epoch: 1, journal: [], inbox: [], lastMessage: 0 } })
  expect(await store.deliver({ sagaId: 'a', kind: 'signal', name: 's', payload: '1', dedupeId: 'd' })).toBe('delivered')
})

test('a parked saga is kept for good', async () => {
  const clock = new ManualClock()
  const store = new MemorySagaStore({ retainMs: 100, clock })
  await store.create(saga('a'))
  const park = { id: 'a', epoch: 1, position: 0, record, status: 'parked', consumed: [], seen: 0 } as const
  await store.commit([{ ...park, next: { dueAt: null } }])
  await clock.advance(1_000_000)
  expect(store.size).toBe(1)
})

test('says when the next saga falls due or loses its owner', async () => {
  const clock = new ManualClock()
  const store = new MemorySagaStore({ clock })
  const known = [{ name: 'n', version: 1, hash: 'h' }]
  expect((await store.claim({ known, limit: 1, leaseMs: 1_000 })).nextDueMs).toBe(Infinity)
  await store.create(saga('a'))
  expect((await store.claim({ known, limit: 1, leaseMs: 1_000 })).nextDueMs).toBe(1_000)
  await store.create({ ...saga('b'), leaseMs: null })
  expect((await store.claim({ known, limit: 9, leaseMs: 300 })).nextDueMs).toBe(300)
})
