import pg from 'pg'
import { afterAll, inject } from 'vitest'

/** A pool of a test file's own on the shared server. To be called at its top. */
export function openPool(config: pg.PoolConfig = {}): pg.Pool {
  const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 20, ...config })
  pool.on('error', () => {}) // a connection that a test has killed
  afterAll(() => pool.end())
  return pool
}
