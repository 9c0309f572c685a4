import { setTimeout as sleep } from 'node:timers/promises'
import { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { saga, SagaOrchestrator } from '../../src/saga/index.js'
import { sagaStoreContract } from '../conformance/saga-store.js'
import { compareWithMemory, sagaOperations } from '../conformance/saga-store-model.js'
import { prop } from '../support/prop.js'
import { openStore } from './database.js'

let db: PGlite
beforeAll(async () => {
  db = await PGlite.create()
})
afterAll(() => db.close())

sagaStoreContract('PGlite', async () => {
  const { store, drop } = await openStore(db)
  return { store, advance: (ms) => sleep(ms), close: drop }
})

prop(
  'PGlite: answers as the one in memory does, whatever is asked of it in whatever order',
  [sagaOperations],
  async (operations) => {
    const { store, drop } = await openStore(db)
    try {
      await compareWithMemory(store, operations)
    } finally {
      await drop()
    }
  },
  { numRuns: 20 },
)

test('on one connection, transactions and the writes of other branches and sagas take turns and none waits for ever', async () => {
  const { store, drop } = await openStore(db)
  await db.query('create table effects (key text)')
  const effect = (name: string) => ({
    run: async ({ tx, key }: { tx: { query(text: string, params: unknown[]): Promise<unknown> }; key: string }) => {
      await tx.query('insert into effects values ($1)', [key])
      await sleep(5)
      return name
    },
  })
  const both = saga<number>('both', { version: 1 })
    .parallel('all', {
      a: (b) => b.transaction('one', effect('one')).transaction('two', effect('two')),
      b: (b) => b.step('plain', { run: () => sleep(3) }).transaction('three', effect('three')),
      c: (b) => b.step('more', { run: () => sleep(8) }).step('most', { run: () => 'most' }),
    })
    .build()
  const orchestrator = new SagaOrchestrator({ store, sagas: [both], pollMs: 20 })
  orchestrator.start()
  const handles = await Promise.all(
    Array.from({ length: 10 }, (_, i) => orchestrator.run(both, i, { id: `saga ${i}` })),
  )
  const outcomes = await Promise.all(handles.map((handle) => handle.settled()))
  expect(outcomes.every(({ status }) => status === 'completed')).toBe(true)
  const { rows } = await db.query<{ n: number }>(
    'select count(distinct key)::int as n, count(*)::int as all from effects',
  )
  expect(rows).toEqual([{ n: 30, all: 30 }])
  await orchestrator.close()
  await drop()
})
