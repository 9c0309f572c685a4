import pg from 'pg'
import { inject } from 'vitest'
import { randomId } from '../../src/kernel/random.js'
import { PostgresSagaStore, type PostgresSagaStoreOptions } from '../../src/saga/postgres.js'
import type { SqlDatabase } from '../../src/kernel/postgres.js'

export { openPool } from '../support/postgres.js'

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
