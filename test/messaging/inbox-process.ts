import pg from 'pg'
import { PostgresInbox } from '../../src/messaging/postgres.js'

// A consumer of its own process: handles the same messages as all others, in an order of its own, until it has been through.
const [databaseUrl, schema, count] = process.argv.slice(2) as [string, string, string]
const pool = new pg.Pool({ connectionString: databaseUrl, max: 8 })
pool.on('error', () => {})
const inbox = new PostgresInbox(pool, { schema })
const ids = Array.from({ length: Number(count) }, (_, i) => `m${i}`).toSorted(() => Math.random() - 0.5)
const insert = `insert into "${schema}".effects values ($1)`
await Promise.all(
  Array.from({ length: 4 }, async (_, lane) => {
    for (let i = lane; i < ids.length; i += 4) {
      if (i % 10 > 0) await inbox.once('g', ids[i]!, async (tx) => void (await tx.query(insert, [ids[i]])))
      else
        await inbox.onceEach('g', ids.slice(i, i + 20), async (tx, fresh) => {
          for (const id of fresh) await tx.query(insert, [id])
        })
    }
  }),
)
await pool.end()
process.exit(0)
