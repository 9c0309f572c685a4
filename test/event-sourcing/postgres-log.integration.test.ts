import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { postgresBin } from '../../scripts/programs.mjs'
import type { Event, Recorded } from '../../src/event-sourcing/index.js'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import { randomId } from '../../src/kernel/random.js'
import { begin, list, openPool, openStore } from './database.js'

const pool = openPool({ max: 40 })
const e = (data: unknown): Event => ({ type: 'e', data })
const data = (events: readonly Recorded[]): unknown[] => events.map((event) => event.data)

test('a page never passes an event that may still commit; a reader of `pos > last` does', async () => {
  const { store, schema } = await openStore(pool)
  const slow = await begin(pool)
  await store.append('slow', [e('first')], { tx: slow })
  await store.append('fast', [e('second')])
  const naive = async (after: number) =>
    (await pool.query(`select pos, data from "${schema}".es_events where pos > $1 order by pos`, [after])).rows
  const seen = await naive(0)
  expect(seen.map((row) => row.data)).toEqual(['second'])
  expect(await store.readPage()).toEqual({ events: [], next: 0, head: 0 })
  await slow.query('commit')
  expect(data((await store.readPage()).events)).toEqual(['first', 'second'])
  expect(await naive(seen[0].pos)).toEqual([]) // 'first' is lost to it for ever
})

test('a rolled-back position does not hold the log', async () => {
  const { store } = await openStore(pool)
  const client = await begin(pool)
  await store.append('s', [e(1), e(2)], { tx: client })
  await client.query('rollback')
  await store.append('s', [e(3)])
  const page = await store.readPage()
  expect(data(page.events)).toEqual([3])
  expect(page.next).toBe(page.head)
})

// emmett: with a write transaction idle in another database of the cluster nothing was delivered.
test('transactions that have nothing to do with the log do not hold it, here or in another database', async () => {
  const { store, schema } = await openStore(pool)
  const other = await openStore(pool)
  const here = await begin(pool)
  await here.query(`create table "${schema}".unrelated (x int)`)
  await here.query('select pg_advisory_xact_lock_shared(1, 0)')
  const elsewhere = await begin(pool)
  await other.store.append('s', [e(0)], { tx: elsewhere }) // another log of this database
  const name = `other_${randomId().replaceAll('-', '')}`
  await pool.query(`create database ${name}`)
  const url = new URL(inject('postgresUrl'))
  url.pathname = name
  const far = new pg.Client({ connectionString: url.href })
  await far.connect()
  onTestFinished(async () => {
    await far.end()
    await pool.query(`drop database ${name}`)
  })
  await far.query('begin')
  await far.query('create table t (x int)')
  await store.append('s', [e(1)])
  expect(data((await store.readPage()).events)).toEqual([1])
})

// emmett: ordered by transaction id, which such a transaction gets early, the stream came out as versions [2, 1].
test('an append in a transaction that wrote something before keeps its place in the stream', async () => {
  const { store, schema } = await openStore(pool)
  const early = await begin(pool)
  await early.query(`create table "${schema}".before (x int)`)
  await store.append('s', [e(1)])
  await store.append('s', [e(2)], { tx: early })
  await early.query('commit')
  expect((await store.readPage()).events.map((x) => x.version)).toEqual([1, 2])
})

test('a transaction that rolls back to a savepoint and appends again still holds the log', async () => {
  const { store } = await openStore(pool)
  const client = await begin(pool)
  await client.query('savepoint a')
  await store.append('s', [e('undone')], { tx: client })
  await client.query('rollback to savepoint a')
  await store.append('s', [e('kept')], { tx: client })
  await store.append('t', [e('after')])
  expect((await store.readPage()).events).toEqual([])
  await client.query('commit')
  expect(data((await store.readPage()).events)).toEqual(['kept', 'after'])
})

test('a transaction holds one lock for the log and one for conditions, however often it appends', async () => {
  const { store } = await openStore(pool)
  const client = await begin(pool)
  for (let i = 0; i < 5; i++) await store.append('s', [e(i)], { tx: client })
  const { rows } = await client.query(
    `select count(*)::int as n from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()`,
  )
  expect(rows).toEqual([{ n: 2 }])
})

test('positions may pass 2^31 and 2^32', async () => {
  for (const start of [2 ** 31 - 2, 2 ** 32 - 2, 2 ** 40]) {
    const { store, schema } = await openStore(pool)
    await pool.query(`select setval('"${schema}".es_pos', ${start})`)
    const slow = await begin(pool)
    await store.append('slow', [e(1), e(2)], { tx: slow })
    await store.append('fast', [e(3), e(4)])
    expect(await store.readPage()).toEqual({ events: [], next: start, head: start })
    await slow.query('commit')
    const page = await store.readPage()
    expect([data(page.events), page.head]).toEqual([[1, 2, 3, 4], start + 4])
  }
})

test('what a transaction appends can be read in it before it commits, and nowhere after it is rolled back', async () => {
  const { store } = await openStore(pool)
  const tx = await begin(pool)
  const first = await store.append('s', [e(1)], { tx, idempotencyKey: 'k', expectedVersion: 0 })
  expect(data(await list(store.read('s', { tx })))).toEqual([1])
  expect(await list(store.read('s'))).toEqual([])
  expect(await store.append('s', [e(1)], { tx, idempotencyKey: 'k', expectedVersion: 0 })).toEqual({
    ...first,
    duplicate: true,
  })
  expect(await store.recall('k')).toBeUndefined()
  await tx.query('rollback')
  expect(await store.info('s')).toBeUndefined()
  expect((await store.append('s', [e(2)], { idempotencyKey: 'k' })).duplicate).toBe(false)
})

test('a conflict leaves the caller’s transaction usable, with nothing of the append in it', async () => {
  const { store } = await openStore(pool)
  await store.append('b', [e(0)])
  const tx = await begin(pool)
  await store.append('mine', [e(1)], { tx })
  const conflict = { code: 'VERSION_CONFLICT', stream: 'b', actual: 1, missed: [{ data: 0 }] }
  await expect(store.append('b', [e(2)], { tx, expectedVersion: 0, idempotencyKey: 'k' })).rejects.toMatchObject(
    conflict,
  )
  const both = [
    { stream: 'a', events: [e(3)] },
    { stream: 'b', events: [e(3)], expectedVersion: 0 },
  ]
  await expect(store.appendAll(both, { tx, idempotencyKey: 'k' })).rejects.toMatchObject(conflict)
  await store.append('mine', [e(4)], { tx, idempotencyKey: 'k' })
  await tx.query('commit')
  expect(data(await list(store.readAll()))).toEqual([0, 1, 4])
})

test('an append to any version waits for the transaction that holds the stream, and goes on from it', async () => {
  const { store } = await openStore(pool)
  const tx = await begin(pool)
  await store.append('s', [e(1)], { tx })
  const waiting = store.append('s', [e(2)])
  const exact = store.append('s', [e(3)], { expectedVersion: 1 }).catch((error) => error.code)
  await systemClock.sleep(50)
  await tx.query('commit')
  expect([(await waiting).version, await exact]).toSatisfy(
    ([v, x]) => (v === 2 && x === 'VERSION_CONFLICT') || (v === 3 && x.version === 2),
  )
})

// emmett main: after dump and restore none of the restored events was delivered.
test('a log that was dumped and restored is read whole, and goes on', async () => {
  const { store, schema } = await openStore(pool)
  for (let i = 0; i < 5; i++) await store.append(`s${i % 2}`, [e(i)], { idempotencyKey: `k${i}` })
  const name = `copy_${randomId().replaceAll('-', '')}`
  await pool.query(`create database ${name}`)
  const url = new URL(inject('postgresUrl'))
  const bin = postgresBin() as string
  const dump = spawnSync(join(bin, 'pg_dump'), ['--schema', `"${schema}"`, url.href], { encoding: 'utf8' })
  url.pathname = name
  const restore = spawnSync(join(bin, 'psql'), ['-q', '-v', 'ON_ERROR_STOP=1', url.href], {
    input: dump.stdout,
    encoding: 'utf8',
  })
  expect([dump.stderr, restore.stderr]).toEqual(['', ''])
  const copyPool = new pg.Pool({ connectionString: url.href })
  onTestFinished(async () => {
    await copyPool.end()
    await pool.query(`drop database ${name}`)
  })
  const copy = new PostgresEventStore(copyPool, { schema })
  await copy.migrate()
  expect(await list(copy.readAll())).toEqual(await list(store.readAll()))
  expect((await copy.append('s0', [e(0)], { idempotencyKey: 'k0' })).duplicate).toBe(true)
  const { position } = await copy.append('s0', [e('new')], { expectedVersion: 3 })
  expect(data((await copy.readPage({ after: position - 1 })).events)).toEqual(['new'])
})

test('a page of some types is found in one pass over the log', async () => {
  const { store, schema } = await openStore(pool)
  await store.append('s', [e(1), { ...e(2), type: 'f' }, { ...e(3), type: 'g' }])
  const asked: [text: string, params: unknown[] | undefined][] = []
  const watched = new PostgresEventStore(
    {
      query: (text, params) => {
        asked.push([text, params])
        return pool.query(text, params)
      },
    },
    { schema },
  )
  const query = { items: [{ types: ['e', 'h'] }, { types: ['g'] }] }
  expect(data((await watched.readPage({ query })).events)).toEqual([1, 3])
  const [text, params] = asked.at(-1) ?? []
  const { rows } = await pool.query(`explain ${text}`, params)
  expect(JSON.stringify(rows)).not.toMatch(/Join|Nested Loop/)
})

test('a look at the log that can find nothing new does not look at the locks of the server', async () => {
  const { store, schema } = await openStore(pool)
  const { position } = await store.append('s', [e(1)])
  const { next, head } = await store.readPage()
  await pool.query(`create or replace function "${schema}".es_horizon(out o_head bigint, out o_last bigint)
    language plpgsql as $$ begin raise 'looked at'; end $$`)
  expect([next, head]).toEqual([position, position])
  expect(await store.readPage({ after: head })).toEqual({ events: [], next: head, head })
  await store.append('s', [e(1)])
  await expect(store.readPage({ after: head })).rejects.toThrow('looked at')
})

test('a reader that never rests beside fast writers misses nothing', async () => {
  const { store, schema } = await openStore(pool)
  // A pause between the two things that the horizon looks at, so that what may come between them does.
  const { rows: defined } = await pool.query(`select pg_get_functiondef('"${schema}".es_horizon'::regproc) as text`)
  const text: string = defined[0].text
  const second = Math.max(text.indexOf('o_last := ('), text.indexOf('v_low := ('))
  await pool.query(`${text.slice(0, second)} perform pg_sleep(0.01); ${text.slice(second)}`)
  const until = systemClock.now() + 2_000
  const write = async (writer: number): Promise<void> => {
    while (systemClock.now() < until) await store.append(`s${writer}`, [e(0)])
  }
  const seen: number[] = []
  const read = async (): Promise<void> => {
    for (let after = 0, ended = false; ;) {
      const { events, next, head } = await store.readPage({ after })
      seen.push(...events.map((event) => event.position))
      if (ended && next === head) return
      after = next
      ended = systemClock.now() > until + 200
    }
  }
  await Promise.all([read(), ...[1, 2, 3].map(write)])
  const { rows } = await pool.query(`select pos from "${schema}".es_events order by pos`)
  expect(seen).toEqual(rows.map((row) => Number(row.pos)))
})
