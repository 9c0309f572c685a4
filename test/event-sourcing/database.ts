import type pg from 'pg'
import { onTestFinished } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { randomId } from '../../src/kernel/random.js'

export { openPool } from '../support/postgres.js'

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
