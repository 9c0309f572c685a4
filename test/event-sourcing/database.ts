import pg from 'pg'
import { afterAll, inject, onTestFinished } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { randomId } from '../../src/kernel/random.js'

/** A pool of this file's own on the shared server. To be called at the top of a test file. */
export function openPool(config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 20, ...config })
  pool.on('error', () => {}) // a connection that a test has killed
  afterAll(() => pool.end())
  return pool
}

/** A store in a fresh schema, dropped when the test has ended. */
export async function openStore(pool: pg.Pool): Promise<{ store: PostgresEventStore; schema: string }> {
  const schema = `es_${randomId()}`
  const store = new PostgresEventStore(pool, { schema })
  await store.migrate()
  onTestFinished(async () => void (await pool.query(`drop schema "${schema}" cascade`)))
  return { store, schema }
}

/** A connection with a transaction begun; rolled back when the test has ended, unless that was done before. */
export async function begin(pool: pg.Pool): Promise<pg.PoolClient> {
  const client = await pool.connect()
  await client.query('begin')
  onTestFinished(async () => {
    await client.query('rollback').catch(() => {})
    client.release()
  })
  return client
}

export async function list<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}
