import type { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Repository } from '../../src/event-sourcing/index.js'
import { PostgresCheckpoints, PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import { checkpointsContract } from '../conformance/checkpoints.js'
import { compareWithModel, operations } from '../conformance/event-store-model.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { openPGlite } from '../support/pglite.js'
import { prop } from '../support/prop.js'
import { Counter } from './counter.js'

let db: PGlite
beforeAll(async () => {
  db = await openPGlite()
})
afterAll(() => db.close())

let schemas = 0
eventStoreContract('PGlite', async () => {
  const store = new PostgresEventStore(db, { schema: `s${schemas++}` })
  await store.migrate()
  return { store, advance: (ms) => systemClock.sleep(ms + 1), close: () => store.close() }
})

prop(
  'PGlite: answers as one list of rows does, whatever is asked of it in whatever order',
  [operations],
  async (list) => {
    const store = new PostgresEventStore(db, { schema: `s${schemas++}` })
    await store.migrate()
    await compareWithModel(store, list, (ms) => systemClock.sleep(ms))
  },
  { numRuns: 30 },
)

checkpointsContract(
  'PGlite',
  async () => {
    const checkpoints = new PostgresCheckpoints(db, { schema: `s${schemas++}` })
    await checkpoints.migrate()
    return { checkpoints, advance: (ms) => systemClock.sleep(ms), close: async () => {} }
  },
  {
    'an owner that is replaced while it works commits nothing':
      'PGlite has one connection: during a transaction nobody else can take the lease, who asks waits for its end',
  },
)

test('an aggregate written in PGlite’s own transaction commits or vanishes with it', async () => {
  const store = new PostgresEventStore(db, { schema: `s${schemas++}` })
  await store.migrate()
  const counters = new Repository(store, Counter, { category: 'counter' })
  const undone = db.transaction(async (tx) => {
    await counters.handle('1', (c) => c.open(5), { tx })
    await counters.handle('1', (c) => c.add(2), { tx })
    throw new Error('undone')
  })
  await expect(undone).rejects.toThrow('undone')
  expect((await counters.load('1')).exists).toBe(false)
  await db.transaction(async (tx) => {
    await counters.handle('1', (c) => c.open(5), { tx })
    await counters.handle('1', (c) => c.add(2), { tx })
  })
  expect((await counters.load('1')).state.total).toBe(2)
})

test('in a transaction nothing of a command goes around it, and so waits for its end', async () => {
  const store = new PostgresEventStore(db, { schema: `s${schemas++}` })
  await store.migrate()
  const counters = new Repository(store, Counter, { category: 'counter' })
  await counters.handle('1', (c) => c.open(5), { idempotencyKey: 'k' })
  await counters.handle('2', (c) => c.open(5))
  await store.truncate('counter-2', 2)
  const open = (c: Counter): void => c.open(5)
  await db.transaction(async (tx) => {
    expect((await counters.handle('1', open, { idempotencyKey: 'k', tx })).duplicate).toBe(true)
    await counters.handle('3', open, { idempotencyKey: 'own', tx })
    expect((await counters.handle('3', open, { idempotencyKey: 'own', tx })).state.limit).toBe(5)
    expect((await counters.handle('2', open, { tx })).version).toBe(2)
    await expect(counters.handle('3', open, { expectedVersion: 'no-stream', tx })).rejects.toMatchObject({
      missed: [{ version: 1 }],
    })
  })
})
