import pg from 'pg'
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest'
import { queryRows, transaction, type SqlDatabase, type SqlQueryable } from '../../src/kernel/postgres.js'
import { migrate } from '../../src/kernel/postgres-schema.js'
import { randomId } from '../../src/kernel/random.js'
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

test('a connection that dies in the very moment in which it is taken does not end the process', async () => {
  const own = new pg.Pool({ connectionString: inject('postgresUrl'), max: 1 })
  onTestFinished(() => own.end())
  const listening: number[] = []
  own.on('acquire', (connection) => queueMicrotask(() => listening.push(connection.listenerCount('error'))))
  for (const _ of ['a new one', 'one that was there']) await transaction(own, (tx) => tx.query('select 1'))
  expect(listening).toEqual([1, 1])
})

test('tables that are up to date are left alone, also by who may make none and where nothing can be written', async () => {
  const name = `up_to_date_${randomId().replaceAll('-', '')}`
  const asked = (options: string): pg.Pool => {
    const own = new pg.Pool({ connectionString: inject('postgresUrl'), max: 1, options })
    onTestFinished(() => own.end())
    return own
  }
  const steps = [[`create table ${name}.a (x int)`]]
  await migrate(pool, name, 'a', steps)
  await pool.query(
    `create role ${name}; grant usage on schema ${name} to ${name}; grant select on all tables in schema ${name} to ${name}`,
  )
  onTestFinished(async () => void (await pool.query(`drop schema ${name} cascade; drop role ${name}`)))
  await migrate(asked(`-c role=${name}`), name, 'a', steps)
  await migrate(asked('-c default_transaction_read_only=on'), name, 'a', steps)
  await expect(migrate(asked(`-c role=${name}`), name, 'a', [...steps, ['select 1']])).rejects.toThrow(
    'permission denied',
  )
})
