import { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import { compareWithModel, operations } from '../conformance/event-store-model.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { prop } from '../support/prop.js'

let db: PGlite
beforeAll(async () => {
  db = await PGlite.create()
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
