import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { pollingReadModel, QueryBus } from '../../src/cqrs/index.js'
import type { Event, Projection } from '../../src/event-sourcing/index.js'
import { PostgresEventStore, PostgresProjector } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import type { SqlQueryable } from '../../src/kernel/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { openPool } from '../event-sourcing/database.js'

const pool = openPool()

type Deposited = Event<'Deposited', { cents: number }>

/** Slow enough that who does not wait reads too early. */
const balances = (revision: number): Projection<Deposited, SqlQueryable> => ({
  name: 'balances',
  revision,
  on: ['Deposited'],
  async setup({ tx, name }) {
    await tx.query(`create table ${name('balances')} (account text primary key, cents int, revision int)`)
  },
  async project(events, { tx, name }) {
    await systemClock.sleep(20)
    for (const { streamId, data } of events)
      // oxlint-disable-next-line no-await-in-loop -- one connection
      await tx.query(
        `insert into ${name('balances')} as b values ($1, $2, $3) on conflict (account) do update set cents = b.cents + $2`,
        [streamId, data.cents, revision],
      )
  },
})

test('atLeast reads your own writes from a projection in a database of its own, in this process or another, also through a rebuild', async () => {
  const name = `read_${randomId()}`
  await pool.query(`create database "${name}"`)
  const url = new URL(inject('postgresUrl'))
  url.pathname = name
  const read = new pg.Pool({ connectionString: url.href, max: 10 })
  read.on('error', () => {}) // the database is dropped below
  const schema = `es_${randomId()}`
  const store = new PostgresEventStore<Deposited>(pool, { schema })
  await store.migrate()
  const projector = new PostgresProjector(store, read)
  await projector.migrate()
  const subscription = projector.run(balances(1), { pollMs: 20 })
  const elsewhere = new PostgresProjector(store, read) // as in a process that only answers queries
  onTestFinished(async () => {
    await subscription.stop()
    await read.end()
    await pool.query(`drop database "${name}" with (force)`)
    await pool.query(`drop schema "${schema}" cascade`)
  })
  type Row = { cents: number; revision: number } | undefined
  const queries = new QueryBus<{ Here: { in: string; out: Row }; There: { in: string; out: Row } }>()
  const answer = async (account: string): Promise<Row> =>
    (await read.query('select cents, revision from holdfast.balances where account = $1', [account])).rows[0]
  queries.on('Here', answer, { readModel: subscription })
  queries.on('There', answer, { readModel: pollingReadModel(() => elsewhere.position('balances'), { pollMs: 10 }) })

  let total = 0
  const deposit = async (cents: number): Promise<number> => {
    total += cents
    return (await store.append('a-1', [{ type: 'Deposited', data: { cents } }])).position
  }
  const check = async (revision: number): Promise<void> => {
    for (let i = 0; i < 3; i++) {
      const here = await deposit(5)
      expect(await queries.send('Here', 'a-1', { atLeast: here })).toEqual({ cents: total, revision })
      const there = await deposit(7)
      expect(await queries.send('There', 'a-1', { atLeast: there })).toEqual({ cents: total, revision })
    }
  }
  await check(1)
  const rebuild = await projector.rebuild(balances(2), { pollMs: 20 })
  onTestFinished(() => rebuild.subscription.stop())
  const activating = rebuild.activate()
  const position = await deposit(1)
  expect(await queries.send('There', 'a-1', { atLeast: position })).toMatchObject({ cents: total }) // old or new
  await activating
  await check(2)
  const late = queries.send('There', 'a-1', { atLeast: position + 100, timeoutMs: 50 })
  await expect(late).rejects.toMatchObject({ code: 'TIMEOUT' })
})
