import pg from 'pg'
import { afterAll, inject } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import { randomId } from '../../src/kernel/random.js'
import { compareWithModel, operations } from '../conformance/event-store-model.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { prop } from '../support/prop.js'

const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 10 })
afterAll(() => pool.end())

eventStoreContract('PostgreSQL', async () => {
  // A name that has to be quoted, with what would end the quotes.
  const schema = `es "test' ${randomId()}`
  const store = new PostgresEventStore(pool, { schema })
  await store.migrate()
  return {
    store,
    advance: (ms) => systemClock.sleep(ms + 1),
    async close() {
      await store.close()
      await pool.query(`drop schema "${schema.replaceAll('"', '""')}" cascade`)
    },
  }
})

prop(
  'PostgreSQL: answers as one list of rows does, whatever is asked of it in whatever order',
  [operations],
  async (list) => {
    const schema = `es_${randomId()}`
    const store = new PostgresEventStore(pool, { schema })
    await store.migrate()
    await compareWithModel(store, list, (ms) => systemClock.sleep(ms))
    await pool.query(`drop schema "${schema}" cascade`)
  },
  { numRuns: 30 },
)
