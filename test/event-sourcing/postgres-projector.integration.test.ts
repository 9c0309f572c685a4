import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { PostgresProjector } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import type { SqlDatabase } from '../../src/kernel/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { openPool } from './database.js'
import { openTotals, totals, type Totals } from './totals.js'

const pool = openPool()
const open = (db?: SqlDatabase) => openTotals(pool, db)

test('a projection fills its tables once, with runners that stop and take over', async () => {
  const { projector, keep, append, read, times } = await open()
  const { projection } = totals(1)
  const runners = [1, 2, 3].map(() => keep(projector.run(projection, { batch: 7, pollMs: 20 })))
  let position = 0
  for (let i = 0; i < 30; i++) {
    position = await append(5)
    if (i % 10 === 5) {
      const working = runners.findIndex(({ state }) => state !== 'standby')
      await runners[working]?.stop()
      runners[working] = keep(projector.run(projection, { batch: 7, pollMs: 20 }))
    }
  }
  await runners[0]?.reached(position, 20_000)
  expect(await read()).toEqual(times(1))
  expect(await read('grand')).toEqual([{ total: 150 }])
  expect(await projector.position('totals')).toBe(position)
})

test('eight processes that start at once set up once', async () => {
  const { store, schema, append, read, times, keep } = await open()
  const position = await append(10)
  let setups = 0
  const { projection } = totals(1)
  const counted: Totals = {
    ...projection,
    setup: async (context) => {
      setups++
      await projection.setup?.(context)
      await systemClock.sleep(30)
    },
  }
  const projectors = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const projector = new PostgresProjector(store, pool, { schema })
      await projector.migrate()
      return projector
    }),
  )
  const runners = projectors.map((projector) => keep(projector.run(counted)))
  await Promise.all(runners.map((runner) => runner.reached(position, 20_000)))
  expect([setups, await read()]).toEqual([1, times(1)])
})

test('a setup that fails leaves nothing behind and ends the projection', async () => {
  const { projector, keep, schema } = await open()
  const { projection } = totals(1)
  const broken: Totals = {
    ...projection,
    setup: async (context) => {
      await projection.setup?.(context)
      await context.tx.query('select 1/0')
    },
  }
  const failed = await new Promise((resolve) => keep(projector.run(broken)).on('failed', resolve))
  expect(failed).toMatchObject({ error: { code: '22012' } })
  const { rows } = await pool.query('select 1 from pg_tables where schemaname = $1 and tablename ~ $2', [schema, '_v1'])
  expect(rows).toEqual([])
})

test('an event that can’t be projected is found and parked; all the others are there once', async () => {
  const { projector, keep, append, read, numbers } = await open()
  const position = await append(40)
  const { projection, sent } = totals(1, { fails: (n) => n === 23 })
  const subscription = keep(projector.run(projection, { retry: { attempts: 2, giveUp: 'park' } }))
  await subscription.reached(position, 10_000)
  const others = numbers().filter((n) => n !== 23)
  expect(await read()).toEqual(others.map((n) => ({ n, times: 1 })))
  expect(sent.toSorted((a, b) => a - b)).toEqual(others)
})

test('an event that is refused only when its batch is committed is found and parked', async () => {
  const { schema, projector, keep, append, read, times } = await open()
  const { projection } = totals(1, {
    setup: async ({ tx, name }) =>
      void (await tx.query(
        `create table ${name('totals')} (n int primary key references "${schema}".known deferrable initially deferred, times int)`,
      )),
    project: async (events, { tx, name }) =>
      void (await tx.query(`insert into ${name('totals')} select n, 1 from unnest($1::int[]) n`, [
        events.map(({ data }) => data),
      ])),
  })
  await pool.query(`create table "${schema}".known as select * from generate_series(0, 19) n where n <> 7`)
  await pool.query(`alter table "${schema}".known add primary key (n)`)
  const running = keep(projector.run(projection, { retry: { attempts: 2, giveUp: 'park' } }))
  await running.reached(await append(20), 10_000)
  expect(await read()).toEqual(times(1).filter(({ n }) => n !== 7))
})

test('tables may have any name', async () => {
  const { schema, projector, keep, append } = await open()
  for (const table of ['a\\b', `it's "b"`, 'x'.repeat(60), '%s $1 NAME']) {
    const revised = (revision: number): Totals => ({
      name: table,
      revision,
      on: ['e'],
      setup: async ({ tx, name }) => void (await tx.query(`create table ${name(table)} (n int)`)),
      project: async (events, { tx, name }) =>
        void (await tx.query(`insert into ${name(table)} values ($1)`, [events.length])),
    })
    await keep(projector.run(revised(1))).reached(await append(1), 5_000)
    const next = await projector.rebuild(revised(2))
    keep(next.subscription)
    await next.activate({ signal: AbortSignal.timeout(30_000) })
    const old = await projector.rebuild(revised(1))
    await old.discard()
    const tables = 'select tablename from pg_tables where schemaname = $1 and starts_with(tablename, $2)'
    expect((await pool.query(tables, [schema, table])).rows).toEqual([{ tablename: `${table}_v2` }])
  }
})

test('a table of a name that another projection has is refused, and that one’s view stays', async () => {
  const { projector, keep, append, read, times } = await open()
  await keep(projector.run(totals(1).projection)).reached(await append(1), 10_000)
  const other = keep(projector.run({ ...totals(2).projection, name: 'other' }))
  const failed = await new Promise((resolve) => void other.on('failed', resolve))
  expect(failed).toMatchObject({
    error: { code: 'INVALID_OPTION', message: expect.stringMatching(/^table: .*totals/) },
  })
  expect(await read()).toEqual(times(1))
})

test('processes whose transactions are stricter by default set up and rebuild at the same time', async () => {
  const { store, schema, projector, keep, append, read, times } = await open()
  await append(5)
  const strict = Array.from({ length: 4 }, () => {
    const options = '-c default_transaction_isolation=serializable'
    return new pg.Pool({ connectionString: inject('postgresUrl'), max: 3, options })
  })
  onTestFinished(async () => void (await Promise.all(strict.map((p) => p.end()))))
  const others = strict.map((p) => new PostgresProjector(store, p, { schema }))
  const rebuilds = await Promise.all(others.map((other) => other.rebuild(totals(1).projection)))
  await Promise.all(rebuilds.map(({ subscription }) => subscription.stop()))
  await keep(projector.run(totals(1).projection)).reached(5, 10_000)
  expect(await read()).toEqual(times(1))
})

test('the read model in a database of its own: its checkpoint is there, and rolls back with it', async () => {
  const name = `read_${randomId()}`
  await pool.query(`create database "${name}"`)
  const url = new URL(inject('postgresUrl'))
  url.pathname = name
  const own = new pg.Pool({ connectionString: url.href, max: 4 })
  own.on('error', () => {}) // the database goes first
  onTestFinished(async () => {
    await own.end() // after the runners have stopped
    await pool.query(`drop database "${name}" with (force)`)
  })
  const { projector, keep, append, read, times, schema } = await open(own)
  const position = await append(30)
  let failures = 0
  const { projection } = totals(1)
  const shaky: Totals = {
    ...projection,
    project: async (events, context) => {
      await projection.project(events, context)
      if (failures++ < 3) throw new Error('after the writes')
    },
  }
  await keep(projector.run(shaky)).reached(position, 10_000)
  expect(await read()).toEqual(times(1))
  const { rows } = await own.query(`select pos::int as pos from "${schema}".es_subscriptions`)
  expect(rows).toEqual([{ pos: position }])
  const rebuild = await projector.rebuild(totals(2).projection)
  keep(rebuild.subscription)
  await rebuild.activate()
  expect((await read())[0]).toEqual({ n: 0, times: 2, note: null })
  await keep(projector.run(projection)).stop()
})
