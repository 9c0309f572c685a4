import pg from 'pg'
import { afterAll, inject } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import { randomId } from '../../src/kernel/random.js'
import { eventStoreContract } from '../conformance/event-store.js'

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
