import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { Context, SubscriptionLease } from '../../src/event-sourcing/index.js'
import { PostgresRevisions } from '../../src/event-sourcing/postgres-revisions.js'
import { PostgresCheckpoints, PostgresEventStore, PostgresProjector } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import type { SqlDatabase, SqlQueryable } from '../../src/kernel/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { openPGlite } from '../support/pglite.js'
import { openPool, openStore } from './database.js'
import { e, openTotals, totals, type Counted, type Totals } from './totals.js'

const pool = openPool()
const readPool = openPool({ max: 10 })
const open = () => openTotals(pool)

test('a rebuild under load: readers see the old tables or the new, never some of each, and side effects happen once', async () => {
  const { projector, keep, append, read, schema, times, numbers } = await open()
  const first = await append(100)
  const outbox = `"${schema}".sent`
  const [one, two] = [totals(1, { outbox }), totals(2, { outbox })]
  const live = keep(projector.run(one.projection, { batch: 10 }))
  await live.reached(first, 10_000)
  const writing = new AbortController()
  const writer = (async () => {
    while (!writing.signal.aborted) await append(3)
  })()
  const seen = new Set<number>()
  const reader = (async () => {
    while (!writing.signal.aborted) {
      const { rows } = await readPool.query(
        `select g.total, (select sum(times)::int from "${schema}".totals) as sum, (select max(times) from "${schema}".totals) as factor
         from "${schema}".grand g`,
      )
      expect(rows[0]?.sum ?? 0).toBe(rows[0]?.total)
      seen.add(rows[0]?.factor)
    }
  })()
  const rebuild = await projector.rebuild(two.projection, { batch: 20 })
  keep(rebuild.subscription)
  await systemClock.sleep(200)
  await Promise.all([rebuild.activate(), rebuild.activate()])
  await systemClock.sleep(100)
  writing.abort()
  await Promise.all([writer, reader])
  const position = await append(1)
  await rebuild.subscription.reached(position, 10_000)
  expect(await read()).toEqual(times(2).map((row) => ({ ...row, note: null })))
  expect([...seen].filter(Boolean)).toEqual([1, 2])
  const sent = await read('sent')
  expect(sent.map(({ n }) => n)).toEqual(numbers())
  expect(new Set(sent.map(({ revision }) => revision))).toEqual(new Set([1, 2]))
  await live.reached(position, 10_000) // the old revision goes on, for the way back
  const { rows } = await pool.query(`select n, times from "${schema}".totals_v1 order by 1`)
  expect(rows).toEqual(times(1))
})

test('a reader that holds its transaction open delays the switch, and does not fail or block other readers', async () => {
  const { projector, keep, append, schema } = await open()
  const position = await append(5)
  await keep(projector.run(totals(1).projection)).reached(position, 10_000)
  const rebuild = await projector.rebuild(totals(2).projection)
  keep(rebuild.subscription)
  await rebuild.subscription.reached(position, 10_000)
  const reader = await readPool.connect()
  await reader.query('begin')
  await reader.query(`select * from "${schema}".totals`)
  let activated = false
  const activating = rebuild.activate().then(() => (activated = true))
  await systemClock.sleep(500)
  const { rows } = await readPool.query(`select max(times) as factor from "${schema}".totals`)
  await reader.query(`select * from "${schema}".grand`)
  expect([activated, rows[0]?.factor]).toEqual([false, 1])
  await reader.query('commit')
  reader.release()
  await activating
  expect((await readPool.query(`select max(times) as factor from "${schema}".totals`)).rows).toEqual([{ factor: 2 }])
})

test('code of two revisions at the same time: neither disturbs the other, and only the live one has side effects', async () => {
  const { store, schema, projector, keep, append, read, times, numbers } = await open()
  const deployed = new PostgresProjector(store, pool, { schema })
  const [one, two] = [totals(1), totals(2)]
  const old = keep(projector.run(one.projection, { batch: 5 }))
  await old.reached(await append(10), 10_000)
  const next = keep(deployed.run(two.projection, { batch: 5 }))
  const position = await append(10)
  await Promise.all([old.reached(position, 10_000), next.reached(position, 10_000)])
  expect([await read(), two.sent, one.sent]).toEqual([times(1), [], numbers()])
  const { rows } = await pool.query(`select n, times from "${schema}".totals_v2 order by 1`)
  expect(rows).toEqual(times(2))
})

test('there and back: the old revision’s tables are up to date, its views come back as they were, grants stay where they can', async () => {
  const { projector, keep, append, read, times, schema } = await open()
  const role = `reader_${randomId()}`
  await pool.query(`create role "${role}"`)
  onTestFinished(async () => void (await pool.query(`drop owned by "${role}"; drop role "${role}"`)))
  const live = keep(projector.run(totals(1).projection))
  await live.reached(await append(10), 10_000)
  await pool.query(`grant select on "${schema}".totals to "${role}"`)
  const two = totals(2, {
    setup: async ({ tx, name }) => {
      await tx.query(`create table ${name('totals')} (n int primary key, times int, note text)`)
      await tx.query(`create table ${name('lines')} (n int)`)
    },
    project: async (events, { tx, name }) => {
      const numbers = events.map(({ data }) => data)
      await tx.query(`insert into ${name('totals')} select n, 2 from unnest($1::int[]) n`, [numbers])
      await tx.query(`insert into ${name('lines')} select n from unnest($1::int[]) n`, [numbers])
    },
  })
  const there = await projector.rebuild(two.projection)
  keep(there.subscription)
  await there.activate()
  await there.subscription.reached(await append(10), 10_000)
  const granted = 'select has_table_privilege($1, $2, $3) as granted'
  const params = [role, `"${schema}".totals`, 'select']
  expect((await pool.query(granted, params)).rows).toEqual([{ granted: true }])
  expect(await read()).toEqual(times(2).map((row) => ({ ...row, note: null })))
  expect((await read('lines')).length).toBe(20)
  await expect(read('grand')).rejects.toMatchObject({ code: '42P01' }) // revision 2 has no such table
  const back = await projector.rebuild(totals(1).projection)
  keep(back.subscription)
  await back.activate()
  await back.subscription.reached(await append(1), 10_000)
  expect(await read()).toEqual(times(1))
  expect(await read('grand')).toEqual([{ total: 21 }])
  await expect(read('lines')).rejects.toMatchObject({ code: '42P01' })
})

test('a live revision that has never begun can’t begin while another takes its place', async () => {
  const { store, schema } = await openStore(pool)
  await new PostgresProjector(store, pool, { schema }).migrate()
  const checkpoints = new PostgresCheckpoints(pool, { schema })
  const revisions = new PostgresRevisions(pool, schema, checkpoints)
  for (const revision of [1, 2]) await revisions.setUp({ name: 'p', revision }, async () => {})
  const lease = await checkpoints.acquire('p@v2', 'b', 10_000)
  await checkpoints.commit('p@v2', lease?.epoch ?? 0, undefined, 0, async () => {})
  await revisions.want({ name: 'p', revision: 2 })
  let began: Promise<SubscriptionLease | undefined> | undefined
  await revisions.switchTo({ name: 'p', revision: 2 }, { epoch: lease?.epoch ?? 0, position: 0 }, async () => {
    began = checkpoints.acquire('p@v1', 'a', 10_000)
    const first = await Promise.race([began.then(() => 'began'), systemClock.sleep(200).then(() => 'waits')])
    expect(first).toBe('waits')
    return true
  })
  expect((await revisions.standing({ name: 'p', revision: 1 }))?.live).toBe(2)
  expect((await began)?.epoch).toBeGreaterThan(1) // whoever held it before is sent away
})

test('a discarded revision leaves nothing, in-flight work of another builder included', async () => {
  const { projector, keep, append, schema, read, times } = await open()
  await keep(projector.run(totals(1).projection)).reached(await append(50), 10_000)
  const slow = totals(2)
  const slowly: Totals = {
    ...slow.projection,
    project: async (events, context: Context<SqlQueryable>) => {
      await slow.projection.project(events, context)
      await systemClock.sleep(20)
    },
  }
  const other = keep(projector.run(slowly, { batch: 1 }))
  other.on('failed', () => {})
  await systemClock.sleep(200)
  const rebuild = await projector.rebuild(slowly)
  keep(rebuild.subscription)
  await rebuild.discard()
  await expect(other.reached(1_000, 5_000)).rejects.toMatchObject({ code: 'CLOSED', cause: { code: 'NOT_FOUND' } })
  const { rows } = await pool.query('select 1 from pg_tables where schemaname = $1 and tablename ~ $2', [schema, '_v2'])
  expect(rows).toEqual([])
  const again = await projector.rebuild(totals(2).projection)
  keep(again.subscription)
  await again.activate()
  expect(await read()).toEqual(times(2).map((row) => ({ ...row, note: null })))
  await expect(again.discard()).rejects.toMatchObject({ code: 'INVALID_OPTION' })
})

test.each(['PGlite', 'a single Client'])(
  'on one connection (%s): run, rebuild, activate',
  async (what) => {
    const client = what === 'PGlite' ? undefined : new pg.Client({ connectionString: inject('postgresUrl') })
    await client?.connect()
    const embedded = client ? undefined : await openPGlite()
    const db = (client ?? embedded) as SqlDatabase
    const schema = `es_${randomId()}`
    const store = new PostgresEventStore<Counted>(db, { schema })
    await store.migrate()
    const projector = new PostgresProjector(store, db, { schema })
    await projector.migrate()
    const before = await store.append('s', [e(1), e(2)])
    const live = projector.run(totals(1).projection)
    await live.reached(before.position, 10_000)
    const rebuild = await projector.rebuild(totals(2).projection)
    const { position } = await store.append('s', [e(3)])
    await live.reached(position, 10_000)
    await rebuild.activate()
    await rebuild.subscription.reached(position, 10_000)
    const rows = (await db.query(`select n, times from "${schema}".totals order by 1`)).rows
    expect(rows).toEqual([1, 2, 3].map((n) => ({ n, times: 2 })))
    const old = await projector.rebuild(totals(1).projection)
    await old.discard()
    await Promise.all([live.stop(), rebuild.subscription.stop()])
    await db.query(`drop schema "${schema}" cascade`)
    await client?.end()
    await embedded?.close()
  },
  60_000,
)
