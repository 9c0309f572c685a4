import { readFileSync } from 'node:fs'
import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { MemoryCheckpoints, Repository, subscribe } from '../../src/event-sourcing/index.js'
import { PostgresCheckpoints, PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { migrate } from '../../src/kernel/postgres-schema.js'
import { randomId } from '../../src/kernel/random.js'
import { Counter } from './counter.js'
import { begin, list, openPool, openStore } from './database.js'

const pool = openPool()
const e = (data: unknown) => ({ type: 'e', data })

test.for(['read committed', 'serializable'])(
  'many processes may migrate at the same time (%s), and again at every start',
  async (level) => {
    const schema = `es_${randomId()}`
    const options = `-c default_transaction_isolation=${level.replace(' ', '\\ ')}`
    const pools = Array.from({ length: 8 }, () => {
      return new pg.Pool({ connectionString: inject('postgresUrl'), max: 1, options })
    })
    onTestFinished(async () => {
      await Promise.all(pools.map((p) => p.end()))
      await pool.query(`drop schema "${schema}" cascade`)
    })
    const stores = pools.map((p) => new PostgresEventStore(p, { schema }))
    await Promise.all(stores.map((store) => store.migrate()))
    await stores[0]?.append('s', [e(1)])
    await Promise.all(stores.map((store) => store.migrate()))
    await new PostgresCheckpoints(pool, { schema }).migrate()
    expect(await list((stores[1] as PostgresEventStore).read('s'))).toHaveLength(1)
    const { rows } = await pool.query(`select component, version from "${schema}".holdfast_versions`)
    expect(rows).toEqual([{ component: 'event-sourcing', version: 2 }])
  },
)

test('a schema of the version before is brought up to date, and writers of that version go on beside us', async () => {
  const schema = `es_${randomId()}`
  onTestFinished(async () => void (await pool.query(`drop schema "${schema}" cascade`)))
  const first = readFileSync('test/fixtures/event-sourcing-schema-1.sql', 'utf8').replaceAll('"SCHEMA"', `"${schema}"`)
  await migrate(pool, schema, 'event-sourcing', [[first]])
  /** What a process of the first version sends. */
  const appendOld = async (stream: string, data: string, tags: string | null): Promise<void> => {
    const { rows } = await pool.query(
      `select * from "${schema}".es_append(null, array[$1], array[-1], array[1], array[1], array[1], array['e'], array[$2], array[null], array[$3], array['id'])`,
      [stream, data, tags],
    )
    expect(rows).toMatchObject([{ status: 'ok' }])
  }
  await appendOld('s', '1', '["a"]')
  const store = new PostgresEventStore(pool, { schema })
  const client = await begin(pool)
  await client.query(`select from "${schema}".es_streams for update`)
  const underWay = appendOld('s', '2', '["a"]')
  const waits = `select 1 from pg_stat_activity where wait_event_type = 'Lock' and strpos(query, $1) > 0`
  while ((await pool.query(waits, [`"${schema}".es_append`])).rows.length === 0);
  await Promise.all([store.migrate(), store.migrate()])
  await client.query('rollback')
  await underWay
  await store.append('s', [e(3)], { expectedVersion: 2 })
  await appendOld('s', '4', '["b"]')
  expect((await list(store.read('s'))).map((x) => [x.version, x.data, x.tags])).toEqual([
    [1, 1, ['a']],
    [2, 2, ['a']],
    [3, 3, undefined],
    [4, 4, ['b']],
  ])
  for (const tag of ['a', 'b']) {
    const unless = { query: { items: [{ tags: [tag] }] } }
    await expect(store.append('t', [e(4)], { unless })).rejects.toMatchObject({ code: 'VERSION_CONFLICT' })
  }
  await new PostgresEventStore(pool, { schema }).migrate()
})

test('a schema that is there already is used, also by who may not make one', async () => {
  const schema = `es_${randomId()}`
  const role = `role_${randomId()}`
  await pool.query(`create role "${role}" login`)
  await pool.query(`create schema "${schema}" authorization "${role}"`)
  const url = new URL(inject('postgresUrl'))
  url.username = role
  const limited = new pg.Pool({ connectionString: url.href })
  onTestFinished(async () => {
    await limited.end()
    await pool.query(`drop schema "${schema}" cascade`)
    await pool.query(`drop role "${role}"`)
  })
  const store = new PostgresEventStore(limited, { schema })
  await store.migrate()
  await store.append('s', [e(1)])
  expect((await store.readPage()).events).toHaveLength(1)
})

test('a failed migration leaves nothing behind', async () => {
  const schema = `es_${randomId()}`
  await pool.query(`create schema "${schema}"`)
  await pool.query(`create table "${schema}".es_parked (in_the_way int)`)
  onTestFinished(async () => void (await pool.query(`drop schema "${schema}" cascade`)))
  const store = new PostgresEventStore(pool, { schema })
  await expect(store.migrate()).rejects.toMatchObject({ code: 'STORE_FAILED' })
  const { rows } = await pool.query(
    'select relname from pg_class c join pg_namespace n on n.oid = relnamespace where nspname = $1',
    [schema],
  )
  expect(rows).toEqual([{ relname: 'es_parked' }])
})

test('a schema name that PostgreSQL would cut or can’t take is refused', () => {
  for (const schema of ['', 'x'.repeat(64), 'a\0', 'a$holdfast$b'])
    expect(() => new PostgresEventStore(pool, { schema })).toThrow(/schema/)
})

test('what is no database is refused at construction', () => {
  for (const db of [undefined, null, {}, 'postgres://'])
    for (const Kind of [PostgresEventStore, PostgresCheckpoints])
      expect(() => new Kind(db as never)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
})

test('a single client of pg will do, for the store and for checkpoints', async () => {
  const { schema } = await openStore(pool)
  const client = new pg.Client({ connectionString: inject('postgresUrl') })
  await client.connect()
  onTestFinished(() => client.end())
  const store = new PostgresEventStore(client, { schema })
  await store.migrate()
  await Promise.all(Array.from({ length: 5 }, (_, i) => store.append(`s${i}`, [e(i)])))
  const seen: unknown[] = []
  const subscription = subscribe(store, new MemoryCheckpoints(), 'n', (event) => void seen.push(event.data))
  await subscription.reached((await store.readPage()).head, 10_000)
  await subscription.stop()
  expect(seen).toHaveLength(5)
})

// emmett: loading it set parsers for every user of pg in the process.
test('no type parser of the driver is set, and none that is set changes what is read', async () => {
  const before = [20, 114, 1184, 1700, 3802].map((oid) => pg.types.getTypeParser(oid)('1'))
  const { schema } = await openStore(pool)
  const odd = new pg.Pool({
    connectionString: inject('postgresUrl'),
    types: {
      getTypeParser: (oid: number) => (text: string) => {
        if (oid === 20 || oid === 23 || oid === 21) return BigInt(text)
        if (oid === 25) return text
        throw new Error(`nobody should read type ${oid}`)
      },
    },
  })
  onTestFinished(() => odd.end())
  const store = new PostgresEventStore(odd, { schema })
  const appended = await store.append('s', [{ type: 'e', data: { at: new Date(0) }, tags: ['t'] }], {
    idempotencyKey: 'k',
  })
  expect(await list(store.read('s'))).toEqual(appended.events)
  expect(await list(store.readAll({ query: { items: [{ tags: ['t'] }] } }))).toEqual(appended.events)
  expect(await store.append('s', [e(1)], { idempotencyKey: 'k' })).toEqual({ ...appended, duplicate: true })
  expect(await store.info('s')).toEqual({ version: 1, first: 1, state: 'live' })
  await expect(store.append('s', [e(1)], { expectedVersion: 0 })).rejects.toMatchObject({ actual: 1 })
  await store.tombstone('s')
  const checkpoints = new PostgresCheckpoints(odd, { schema })
  expect(await checkpoints.acquire('n', 'a', 1_000)).toEqual({ epoch: 1, position: undefined })
  expect([20, 114, 1184, 1700, 3802].map((oid) => pg.types.getTypeParser(oid)('1'))).toEqual(before)
})

test('what the driver throws comes out as a StoreError with its cause', async () => {
  const nowhere = new pg.Pool({ connectionString: 'postgres://127.0.0.1:1/none' })
  onTestFinished(() => nowhere.end())
  const store = new PostgresEventStore(nowhere)
  const failed = { code: 'STORE_FAILED', cause: { code: 'ECONNREFUSED' } }
  await expect(store.append('s', [e(1)])).rejects.toMatchObject(failed)
  await expect(store.migrate()).rejects.toMatchObject(failed)
  await expect(store.readPage()).rejects.toMatchObject(failed)
  await expect(list(store.read('s'))).rejects.toMatchObject(failed)
  const checkpoints = new PostgresCheckpoints(nowhere)
  await expect(checkpoints.acquire('n', 'a', 1)).rejects.toMatchObject(failed)
  await expect(checkpoints.commit('n', 1, 0, 1, async () => {})).rejects.toMatchObject(failed)
  const missing = new PostgresEventStore(pool, { schema: 'never_made' })
  await expect(missing.append('s', [e(1)])).rejects.toMatchObject({ code: 'STORE_FAILED', cause: { code: '3F000' } })
})

test('a connection whose prepared statements were thrown away, or made by others, is used all the same', async () => {
  const { schema } = await openStore(pool)
  const [one, other] = [1, 2].map(() => new pg.Pool({ connectionString: inject('postgresUrl'), max: 1 })) as [
    pg.Pool,
    pg.Pool,
  ]
  onTestFinished(async () => void (await Promise.all([one.end(), other.end()])))
  const store = new PostgresEventStore(one, { schema })
  await store.append('s', [e(1)])
  await list(store.read('s'))
  const { rows } = await one.query<{ name: string }>('select name from pg_prepared_statements')
  expect(rows.length).toBeGreaterThan(1)
  await one.query('discard all')
  expect(await list(store.read('s'))).toHaveLength(1)
  await store.append('s', [e(2)])
  for (const { name } of rows) await other.query(`prepare ${name} as select 1`)
  const beside = new PostgresEventStore(other, { schema })
  expect(await list(beside.read('s'))).toHaveLength(2)
  await beside.append('s', [e(3)])
  expect((await list(store.read('s'))).map(({ data }) => data)).toEqual([1, 2, 3])
})

test('one payload that the server refuses rejects its own append only', async () => {
  const { store, schema } = await openStore(pool)
  await pool.query(`alter table "${schema}".es_events add check (data::text <> '"poison"')`)
  const tries = await Promise.allSettled(
    Array.from({ length: 9 }, (_, i) => store.append(`s${i}`, [e(i === 4 ? 'poison' : i)])),
  )
  expect(tries.map((t) => t.status === 'fulfilled')).toEqual(tries.map((_, i) => i !== 4))
  expect((await store.readPage()).events).toHaveLength(8)
})

test('data that can’t be decoded is told with its place', async () => {
  const { store, schema } = await openStore(pool)
  const { position } = await store.append('s', [e(1)])
  await pool.query(`update "${schema}".es_events set data = '{"$holdfast":["Nothing"]}'`)
  const corrupt = { code: 'CORRUPT_DATA', message: expect.stringContaining(`event ${position} of stream s`) }
  await expect(list(store.read('s'))).rejects.toMatchObject(corrupt)
  await expect(store.readPage()).rejects.toMatchObject(corrupt)
})

test('data can be queried in SQL', async () => {
  const { store, schema } = await openStore(pool)
  await store.append('s', [e({ total: 5, items: ['a'] })])
  const { rows } = await pool.query(
    `select data->>'total' as total, data->'items'->>0 as item from "${schema}".es_events`,
  )
  expect(rows).toEqual([{ total: '5', item: 'a' }])
})

test('recordedAt does not go back when the server’s clock does', async () => {
  const { store, schema } = await openStore(pool)
  await store.append('s', [e(1)])
  await pool.query(`update "${schema}".es_streams set last_at = '2090-01-01T00:00:00Z'`)
  const { events } = await store.append('s', [e(2)])
  expect(events[0]?.recordedAt).toEqual(new Date('2090-01-01T00:00:00Z'))
})

test('commands from several processes on one stream are all decided in turn', async () => {
  const { store, schema } = await openStore(pool)
  const second = new PostgresEventStore(openedSecond(), { schema })
  const repositories = [store, second].map((s) => new Repository(s, Counter, { category: 'counter', retries: 100 }))
  await repositories[0]?.handle('1', (c) => c.open(12))
  const tries = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) => (repositories[i % 2] as Repository<Counter>).handle('1', (c) => c.add(1))),
  )
  expect(tries.filter((t) => t.status === 'fulfilled')).toHaveLength(12)
  expect((await repositories[1]?.load('1'))?.state.total).toBe(12)
})

function openedSecond(): pg.Pool {
  const second = new pg.Pool({ connectionString: inject('postgresUrl') })
  onTestFinished(() => second.end())
  return second
}

test('what is truncated or tombstoned leaves nothing behind, tags neither', async () => {
  const { store, schema } = await openStore(pool)
  await store.append('s', [{ type: 'e', data: 1, tags: ['a', 'b'] }])
  await store.append('s', [{ type: 'e', data: 2, tags: ['a', 'x'.repeat(2_000)] }])
  const rows = async () =>
    (
      await pool.query(
        `select (select count(*) from "${schema}".es_events)::int as events, (select count(*) from "${schema}".es_tags)::int as tags`,
      )
    ).rows
  await store.truncate('s', 2)
  expect(await rows()).toEqual([{ events: 1, tags: 2 }])
  await store.tombstone('s')
  expect(await rows()).toEqual([{ events: 0, tags: 0 }])
})

test('a reading that is under way when its stream is tombstoned says so, instead of ending early', async () => {
  const { store } = await openStore(pool)
  for (const direction of ['forward', 'backward'] as const) {
    const name = `s-${direction}`
    await store.append(
      name,
      Array.from({ length: 2_001 }, (_, i) => e(i)),
    ) // more than are fetched at a time
    const events = store.read(name, { direction })
    await events.next()
    await store.tombstone(name)
    await expect(list(events)).rejects.toMatchObject({ code: 'TOMBSTONED' })
  }
})
