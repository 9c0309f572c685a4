import pg from 'pg'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { queryRows, transaction, type SqlDatabase, type SqlQueryable } from '../../src/kernel/postgres.js'
import { openPGlite } from '../support/pglite.js'

const pool = new pg.Pool({ connectionString: inject('postgresUrl'), max: 2 })
pool.on('error', () => {}) // of connections that nobody uses
const client = new pg.Client(inject('postgresUrl'))
const lite = await openPGlite()

beforeAll(() => client.connect())
afterAll(() => Promise.all([pool.end(), client.end(), lite.close()]))

const databases: [string, SqlDatabase][] = [
  ['a pool', pool],
  ['a client', client],
  ['PGlite', lite],
]

test.each(databases)(
  '%s: a transaction with a failed statement never resolves, also when its error was caught',
  async (_, db) => {
    const spoilt = transaction(db, async (tx) => {
      await tx.query('create temporary table spoilt (x int)')
      await tx.query('this is no SQL').catch(() => {})
      return 'committed'
    })
    await expect(spoilt).rejects.toThrow(/rolled back|aborted/)
    expect(await queryRows(db, `select to_regclass('pg_temp.spoilt') as found`)).toEqual([{ found: null }])
    expect(await transaction(db, (tx) => queryRows(tx, 'select 1 as one'))).toEqual([{ one: 1 }])
  },
)

const pidOf = async (tx: SqlQueryable): Promise<unknown> =>
  (await queryRows(tx, 'select pg_backend_pid() as pid'))[0]!['pid']

test('a connection that dies in a transaction fails this one alone, and the pool goes on', async () => {
  const broken = transaction(pool, async (tx) => {
    const pid = await pidOf(tx)
    const ended = new Promise((resolve) => (tx as unknown as pg.PoolClient).once('end', resolve))
    await pool.query('select pg_terminate_backend($1)', [pid])
    await ended
  })
  await expect(broken).rejects.toThrow()
  expect(await transaction(pool, (tx) => queryRows(tx, 'select 1 as one'))).toEqual([{ one: 1 }])
})
