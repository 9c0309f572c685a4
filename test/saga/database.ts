import pg from 'pg'
import { afterAll, inject } from 'vitest'
import { randomId } from '../../src/kernel/random.js'
import { PostgresSagaStore, type PostgresSagaStoreOptions } from '../../src/saga/postgres.js'
import type { SqlDatabase } from '../../src/kernel/postgres.js'

/** A pool of this file's own on the shared server. To be called at the top of a test file. */
export function openPool(config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 20, ...config })
  pool.on('error', () => {}) // a connection that a test has killed
  afterAll(() => pool.end())
  return pool
}

/** A connection that listens. */
export async function openListener(): Promise<pg.Client> {
  const listener = new pg.Client({ connectionString: inject('postgresUrl') })
  listener.on('error', () => {})
  await listener.connect()
  return listener
}

/** A store in a fresh schema. */
export async function openStore(
  db: SqlDatabase,
  options: PostgresSagaStoreOptions = {},
): Promise<{ store: PostgresSagaStore; schema: string; drop(): Promise<void> }> {
  const schema = options.schema ?? `saga_${randomId()}`
  const store = new PostgresSagaStore(db, { ...options, schema })
  await store.migrate()
  return { store, schema, drop: async () => void (await db.query(`drop schema "${schema}" cascade`)) }
}
