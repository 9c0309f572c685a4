import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { PostgresEventStore, PostgresProjector } from '../../src/event-sourcing/postgres.js'
import { begin, list, openPool, openStore } from './database.js'

const pool = openPool()
const e = (type: string) => ({ type, data: {} })

/** A table with a row per event, written in the transaction of its append; refuses the type 'bad'. */
async function withTable(): Promise<{ store: PostgresEventStore; schema: string; seen: () => Promise<string[]> }> {
  const { store, schema } = await openStore(pool)
  const projector = new PostgresProjector(store, pool, { schema })
  await projector.migrate()
  projector.inline({
    name: 'seen',
    on: { items: [{}] },
    setup: async ({ tx, name }) =>
      void (await tx.query(`create table ${name('seen')} (pos bigint primary key, type text)`)),
    async project(events, { tx, name }) {
      for (const { position, type } of events) {
        if (type === 'bad') throw new Error('not this one')
        await tx.query(`insert into ${name('seen')} values ($1, $2)`, [position, type])
      }
    },
  })
  const seen = async () => {
    const { rows } = await pool.query(`select type from "${schema}".seen order by pos`)
    return rows.map((row: { type: string }) => row.type)
  }
  return { store, schema, seen }
}

test('an inline projection sees each event once, in order, however it was appended', async () => {
  const { store, seen } = await withTable()
  await Promise.all(['a', 'b', 'c', 'd'].map((type, i) => store.append(`s${i % 2}`, [e(type)])))
  await store.appendAll([
    { stream: 's', events: [e('e'), e('f')] },
    { stream: 't', events: [e('g')] },
  ])
  const client = await begin(pool)
  await store.append('s', [e('h')], { tx: client })
  expect(await seen()).toHaveLength(7)
  await client.query('commit')
  await store.append('u', [e('i')], { unless: { query: { items: [{ types: ['none'] }] } } })
  expect(await seen()).toEqual((await list(store.readAll())).map((event) => event.type))
})

test('what an inline projection throws undoes that append, and comes out of it; others beside it are made', async () => {
  const { store, seen } = await withTable()
  const types = ['a', 'bad', 'b', 'bad', 'c']
  const answers = await Promise.allSettled(types.map((type, i) => store.append(`s${i}`, [e(type)])))
  expect(answers.map((answer) => answer.status === 'fulfilled')).toEqual([true, false, true, false, true])
  for (const answer of answers)
    if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ message: 'not this one' })
  await expect(store.appendAll([{ stream: 's', events: [e('d'), e('bad')] }])).rejects.toThrow('not this one')
  expect((await seen()).toSorted()).toEqual(['a', 'b', 'c'])
  expect((await list(store.readAll())).map((event) => event.type).toSorted()).toEqual(['a', 'b', 'c'])
})

test('what an inline projection throws undoes the append in a transaction of the caller’s too, which lives on', async () => {
  const { store, schema, seen } = await withTable()
  await pool.query(`create table "${schema}".strict (type text check (type <> 'refused'))`)
  new PostgresProjector(store, pool, { schema }).inline({
    name: 'strict',
    on: { items: [{}] },
    project: async ([event], { tx }) =>
      void (await tx.query(`insert into "${schema}".strict values ($1)`, [event?.type])),
  })
  const client = await begin(pool)
  const answers = await Promise.allSettled(
    ['a', 'bad', 'refused', 'b'].map((type) => store.append('s', [e(type)], { tx: client })),
  )
  expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled'])
  await client.query('commit')
  expect(await seen()).toEqual(['a', 'b'])
  expect((await list(store.read('s'))).map(({ type, version }) => [type, version])).toEqual([
    ['a', 1],
    ['b', 2],
  ])
})

test('an inline projection that swallows a failed statement fails its own append only', async () => {
  const { store, schema } = await openStore(pool)
  new PostgresProjector(store, pool, { schema }).inline({
    name: 'careless',
    on: ['bad'],
    project: async (_, { tx }) => void (await tx.query('select 1 / 0').catch(() => {})),
  })
  await new PostgresProjector(store, pool, { schema }).migrate()
  const types = ['a', 'b', 'bad', 'c']
  const answers = await Promise.allSettled(types.map((type, i) => store.append(`s${i}`, [e(type)])))
  expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  expect(await list(store.readAll())).toHaveLength(3)
})

test('an inline projection of a revision that is not the live one refuses every append, and leaves nothing behind', async () => {
  const { store, schema, seen } = await withTable()
  await store.append('s', [e('a')])
  const elsewhere = new PostgresEventStore(pool, { schema })
  new PostgresProjector(elsewhere, pool, { schema }).inline({
    name: 'seen',
    revision: 2,
    on: ['b'],
    setup: async ({ tx, name }) => void (await tx.query(`create table ${name('seen')} (type text)`)),
    project: async (_, { tx, name }) => void (await tx.query(`insert into ${name('seen')} values ('b')`)),
  })
  const client = await begin(pool)
  for (const options of [{}, { tx: client }, { idempotencyKey: 'k' }]) {
    const refused = elsewhere.append('s', [e('b')], options)
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(refused).rejects.toThrow('projection.revision: expected 1, the live one of "seen"')
  }
  await client.query('commit')
  expect([await seen(), (await store.info('s'))?.version]).toEqual([['a'], 1])
  const { rows } = await pool.query(`select revision from "${schema}".es_revisions`)
  expect(rows).toEqual([{ revision: 1 }])
})

test('a repeat and a refused append are not projected', async () => {
  const { store, seen } = await withTable()
  await store.append('s', [e('a')], { idempotencyKey: 'k' })
  await store.append('s', [e('a')], { idempotencyKey: 'k' })
  await expect(store.append('s', [e('b')], { expectedVersion: 'no-stream' })).rejects.toThrow()
  expect(await seen()).toEqual(['a'])
})

test('on a single connection the tables are set up before the transaction of the append begins', async () => {
  const { schema } = await openStore(pool)
  const client = new pg.Client({ connectionString: inject('postgresUrl') })
  await client.connect()
  onTestFinished(() => client.end())
  const store = new PostgresEventStore(client, { schema })
  const projector = new PostgresProjector(store, client, { schema })
  await projector.migrate()
  projector.inline({
    name: 'counts',
    on: ['a'],
    setup: async ({ tx, name }) => void (await tx.query(`create table ${name('counts')} (n int)`)),
    project: async (events, { tx, name }) =>
      void (await tx.query(`insert into ${name('counts')} values ($1)`, [events.length])),
  })
  await Promise.all([store.append('s', [e('a')]), store.append('t', [e('a')])])
  expect((await pool.query(`select sum(n)::int as n from "${schema}".counts`)).rows).toEqual([{ n: 2 }])
})

test('a listener hears at once of what another process appends, until the store is closed', async () => {
  const { schema } = await openStore(pool)
  const listener = new pg.Client({ connectionString: inject('postgresUrl') })
  await listener.connect()
  onTestFinished(() => listener.end())
  const hearing = new PostgresEventStore(pool, { schema, listener })
  const writing = new PostgresEventStore(pool, { schema, notify: true })
  const elsewhere = new PostgresEventStore(pool, { schema: (await openStore(pool)).schema, notify: true })
  let rings = 0
  const rung = (): Promise<void> => {
    return new Promise((resolve) => {
      const leave = hearing.wake(() => {
        rings++
        leave()
        resolve()
      })
    })
  }
  const first = rung()
  await listener.query('select 1') // LISTEN has been sent before
  await elsewhere.append('s', [e('not ours')])
  await writing.append('s', [e('a')])
  await first
  const second = rung()
  for (let i = 0; i < 50; i++) await writing.append('s', [e('b')])
  await second
  for (const store of [hearing, writing, elsewhere]) await store.close()
  const { rows } = await listener.query('select count(*)::int as n from pg_listening_channels()')
  expect(rows).toEqual([{ n: 0 }])
  expect(rings).toBe(2)
})

test('what is no listener is refused by name', () => {
  expect(() => new PostgresEventStore(pool, { listener: {} as never })).toThrow(/^listener/)
  expect(() => new PostgresEventStore(pool, { notify: 1 as never })).toThrow(/^notify: /)
})
