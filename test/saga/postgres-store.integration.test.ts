import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { randomId } from '../../src/kernel/random.js'
import { saga, SagaOrchestrator, type SagaWake } from '../../src/saga/index.js'
import { PostgresSagaStore } from '../../src/saga/postgres.js'
import { until } from '../support/until.js'
import { openListener, openPool, openStore } from './database.js'
import { end, known, newSaga } from './rows.js'

const pool = openPool()

async function open(options: ConstructorParameters<typeof PostgresSagaStore>[1] = {}) {
  const opened = await openStore(pool, options)
  onTestFinished(opened.drop)
  return opened
}
async function listening(schema: string, options = {}): Promise<PostgresSagaStore> {
  const listener = await openListener()
  onTestFinished(() => listener.end())
  return new PostgresSagaStore(pool, { schema, listener, ...options })
}

test('the tables are made once when eight processes start at the same moment', async () => {
  const { schema, drop } = await openStore(pool)
  await drop()
  await Promise.all(Array.from({ length: 8 }, () => new PostgresSagaStore(pool, { schema }).migrate()))
  const store = new PostgresSagaStore(pool, { schema })
  onTestFinished(drop)
  expect((await store.create(newSaga('a'))).created).toBe(true)
})

test('sagas that are created at one moment travel together: of several of one id one is new, and what is refused fails alone', async () => {
  const { schema } = await open()
  let statements = 0
  const counting = {
    totalCount: 1,
    connect: () => pool.connect(),
    query: (text: string, params?: unknown[]) => {
      statements++
      return pool.query(text, params)
    },
  }
  const store = new PostgresSagaStore(counting, { schema })
  const long = 'x'.repeat(10_000)
  const ids = ['b', 'a', long, 'c', 'd']
  const created = await Promise.all(ids.map((id) => store.create(newSaga(id, { leaseMs: 1_000 }))))
  expect(created.map(({ created: isNew, saga: { id, epoch } }) => [isNew, id, epoch])).toEqual(
    ids.map((id) => [true, id, 1]),
  )
  expect(statements).toBe(1)

  const twice = await Promise.all(['e', 'f', 'e', 'a'].map((id) => store.create(newSaga(id))))
  expect(twice.map(({ created: isNew }) => isNew)).toEqual([true, true, false, false])
  expect(twice[2]!.saga).toEqual(twice[0]!.saga)

  const tooLarge = store.create(newSaga('g', { version: 2 ** 40 }))
  const beside = store.create(newSaga('h'))
  await expect(tooLarge).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect((await beside).created).toBe(true)
  expect(await store.read('g')).toBeUndefined()
})

test('what is large travels in several statements of at most 8 MB', async () => {
  const { schema } = await open()
  const sizes: number[] = []
  const measuring = {
    totalCount: 1,
    connect: () => pool.connect(),
    query: (text: string, params: unknown[] = []) => {
      sizes.push(Math.round(JSON.stringify(params).length / 1e6))
      return pool.query(text, params)
    },
  }
  const store = new PostgresSagaStore(measuring, { schema, prepare: false })
  const large = (n: number): string => JSON.stringify('x'.repeat(n))
  const inputs = [3e6, 3e6, 3e6].map(large)
  await Promise.all(inputs.map((input, i) => store.create(newSaga(`${i}`, { leaseMs: 60_000, input }))))
  expect(sizes.splice(0)).toEqual([6, 3])
  const ends = inputs.map((value, i) =>
    end(`${i}`, { record: { at: 1, entries: [{ type: 'done', path: 'a', value }] } }),
  )
  expect(await store.commit(ends)).toEqual(['ok', 'ok', 'ok'])
  expect(sizes).toEqual([6, 3])
})

test('an ended saga is deleted after its time with all that is its own, and its id starts clean', async () => {
  const { store, schema } = await open({ retainMs: 1_000 })
  const signal = { sagaId: 'a', kind: 'signal', name: 's', payload: '1', dedupeId: 'd' } as const
  const once = async (): Promise<void> => {
    expect((await store.create(newSaga('a', { leaseMs: 60_000 }))).created).toBe(true)
    expect((await store.read('a'))?.inbox).toEqual([])
    expect(await store.deliver(signal)).toBe('delivered')
    expect(await store.commit([end('a', { seen: 1 })])).toEqual(['ok'])
    expect((await store.create(newSaga('a'))).created).toBe(false)
    await sleep(1_050)
  }
  await once() // found when its id is asked for
  await once()
  await sleep(1_000)
  await store.claim({ known, limit: 1, leaseMs: 1_000 }) // or by whoever looks for work
  for (const table of ['sagas', 'saga_records', 'saga_inbox', 'saga_dedupe']) {
    const { rows } = await pool.query<{ n: number }>(`select count(*)::int as n from "${schema}".${table}`)
    expect([table, rows[0]?.n]).toEqual([table, 0])
  }
})

test('listeners hear of sagas to be run, of messages, and of ends, as often as it takes', async () => {
  const { store, schema } = await open({ notify: true })
  const hearing = await listening(schema, { pollMs: 60_000 })
  const wakes: SagaWake[] = []
  const stop = hearing.onWake!((wake) => wakes.push(wake))
  await sleep(300) // it listens by then
  const heard = (wake: SagaWake): Promise<void> => expect.poll(() => wakes).toContainEqual(wake)
  await store.create(newSaga('a b"ü'))
  await heard({ id: 'a b"ü', dueInMs: 0 })
  await store.claim({ known, limit: 1, leaseMs: 60_000 })
  await store.commit([end('a b"ü')])
  await heard({ id: 'a b"ü', dueInMs: Infinity })
  // more than one message can hold
  const ids = Array.from({ length: 60 }, (_, i) => `${'x'.repeat(500)}${i}`)
  await Promise.all(ids.map((id) => store.create(newSaga(id))))
  for (const id of ids) await heard({ id, dueInMs: 0 })
  // more than is worth telling
  await store.create(newSaga('y'.repeat(8_000)))
  await heard({ id: undefined, dueInMs: 0 })
  stop()
  const count = wakes.length
  await store.create(newSaga('last'))
  await sleep(100)
  expect(wakes).toHaveLength(count)
})

test('a write that is fenced tells nobody', async () => {
  const { schema } = await open()
  const store = await listening(schema)
  const wakes: SagaWake[] = []
  onTestFinished(store.onWake!((wake) => wakes.push(wake)))
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  expect(await store.commit([end('a', { epoch: 2 })])).toEqual(['fenced'])
  expect(wakes).not.toContainEqual({ id: 'a', dueInMs: Infinity })
})

test('a write that is sent again while the first waits is ok as well, and written once', async () => {
  const { store, schema } = await open()
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  const holder = await openListener()
  onTestFinished(() => holder.end())
  await holder.query('begin')
  await holder.query(`select from "${schema}".sagas for update`)
  const both = [store.commit([end('a')]), store.commit([end('a')])]
  const waiting = `select from pg_stat_activity where wait_event_type = 'Lock' and position($1 in query) > 0`
  await until(async () => (await pool.query(waiting, [schema])).rowCount === 2)
  await holder.query('commit')
  expect(await Promise.all(both)).toEqual([['ok'], ['ok']])
  expect((await store.read('a'))?.journal).toHaveLength(1)
})

test('who is told how a transaction ended is told after its commit', async () => {
  const { schema } = await open()
  const done: string[] = []
  const noting = {
    totalCount: 1,
    query: (text: string, params?: unknown[]) => pool.query(text, params),
    connect: async () => {
      const client = await pool.connect()
      const query = async (text: string, params?: unknown[]) => {
        const result = await client.query(text, params)
        done.push(text)
        return result
      }
      return { query, release: (error?: Error | boolean) => client.release(error) }
    },
  }
  const listener = await openListener()
  onTestFinished(() => listener.end())
  const store = new PostgresSagaStore(noting, { schema, listener })
  const hear = ({ dueInMs }: SagaWake): void => {
    if (dueInMs === Infinity) done.push('told')
  }
  onTestFinished(store.onWake!(hear))
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  const work = (): Promise<void> => Promise.resolve()
  expect(await store.transaction(work, () => end('a'))).toBe('ok')
  expect(done.slice(done.indexOf('COMMIT')).slice(0, 2)).toEqual(['COMMIT', 'told'])
})

test('what a listener has missed is found all the same', async () => {
  const { store, schema } = await open() // tells nobody
  const hearing = await listening(schema, { pollMs: 50 })
  const order = saga<number>('order', { version: 1 })
    .step('a', { run: () => 7 })
    .build()
  const worker = new SagaOrchestrator({ store: hearing, sagas: [order] })
  const asking = new SagaOrchestrator({ store: await listening(schema, { pollMs: 50, notify: false }), sagas: [order] })
  worker.start()
  await sleep(100)
  const quiet = new SagaOrchestrator({ store, sagas: [] })
  await quiet.run(order, 1, { id: '1' })
  const handle = await asking.run(order, 1, { id: '1' })
  expect(await handle.settled({ signal: AbortSignal.timeout(30_000) })).toMatchObject({ status: 'completed' })
  await Promise.all([worker.close(), asking.close(), quiet.close()])
})

test('a claim never sees a journal without what its last owner wrote', async () => {
  const { store } = await open()
  const ids = Array.from({ length: 20 }, (_, i) => `s${i}`)
  for (const id of ids) await store.create(newSaga(id, { leaseMs: 60_000 }))
  const owned = new Map(ids.map((id) => [id, { epoch: 1, position: 0 }]))
  let over = false
  const write = async (): Promise<void> => {
    for (let round = 0; round < 40; round++) {
      const batch = [...owned].map(([id, at]) => end(id, { ...at, status: 'running', next: { dueAt: 0 } }))
      owned.clear()
      await store.commit(batch)
      await expect.poll(() => owned.size, { interval: 1 }).toBeGreaterThan(0)
    }
    over = true
  }
  const claim = async (): Promise<void> => {
    // oxlint-disable-next-line no-unmodified-loop-condition -- write() does
    while (!over) {
      const { claimed } = await store.claim({ known, limit: 5, leaseMs: 60_000 })
      for (const { saga: of } of claimed) {
        expect(of.journal).toHaveLength(of.epoch - 1) // each owner writes once
        owned.set(of.id, { epoch: of.epoch, position: of.journal.length })
      }
    }
  }
  await Promise.all([write(), claim(), claim(), claim()])
})

test('a claim whose lease ends before it has read its sagas does not take them for its own under the epoch of the next owner', async () => {
  const { store, schema, drop } = await openStore(pool)
  onTestFinished(drop)
  const definition = { name: 'n', version: 1, hash: '0123456789abcdef' }
  const other = { known: [definition], limit: 10, leaseMs: 60_000 }
  await store.create({ id: '1', ...definition, input: '1', deadlineMs: null, leaseMs: null })
  const slow = new PostgresSagaStore(
    {
      async query(text, params) {
        const answer = await pool.query(text, params)
        if (!text.includes('epoch = s.epoch + 1')) return answer
        await sleep(30)
        expect((await store.claim(other)).claimed).toHaveLength(1)
        return answer
      },
    },
    { schema },
  )
  expect((await slow.claim({ ...other, leaseMs: 5 })).claimed).toEqual([])
})

test('a transaction under way hides its saga from claims, also when its lease has run out', async () => {
  const { store } = await open()
  await store.create(newSaga('a', { leaseMs: 50 }))
  let go = (): void => {}
  const held = new Promise<void>((resolve) => (go = resolve))
  const work = store.transaction(
    async (tx) => {
      await tx.query('select 1')
      await held
    },
    () => end('a', { status: 'running', next: { leaseMs: 50 } }),
  )
  await sleep(100)
  const { claimed } = await store.claim({ known, limit: 1, leaseMs: 60_000 })
  expect(claimed).toHaveLength(1) // its row is not locked before the end: whoever is late is fenced
  go()
  expect(await work).toBe('fenced')
})

test('renewals, commits and messages of many sagas at once never block each other for good', async () => {
  const { store } = await open()
  const ids = Array.from({ length: 50 }, (_, i) => `s${i}`)
  await Promise.all(ids.map((id) => store.create(newSaga(id, { leaseMs: 60_000 }))))
  const shuffled = (): string[] => ids.toSorted(() => Math.random() - 0.5)
  for (let round = 0; round < 20; round++) {
    const answers = await Promise.all([
      store.commit(shuffled().map((id) => end(id, { position: round, status: 'running', next: { leaseMs: 60_000 } }))),
      store.renew(
        shuffled().map((id) => ({ id, epoch: 1 })),
        60_000,
      ),
      ...shuffled().map((sagaId) => store.deliver({ sagaId, kind: 'signal', name: 's', payload: '1' })),
    ])
    expect(answers.flat()).not.toContain('fenced')
  }
})

test('transitions are planned once for a connection, however few there are in a statement', async () => {
  const { schema } = await open()
  const one = new pg.Pool({ connectionString: inject('postgresUrl'), max: 1 })
  onTestFinished(() => one.end())
  const store = new PostgresSagaStore(one, { schema })
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  for (let position = 0; position < 10; position++)
    await store.commit([end('a', { position, status: 'running', next: { leaseMs: 60_000 } })])
  const { rows } = await one.query<{ n: number }>(
    `select generic_plans::int as n from pg_prepared_statements where statement like '%saga_records (no, position, record)%'`,
  )
  expect(rows).toEqual([{ n: 5 }]) // after five that were planned for what they were given
})

test('records that travel together are told from each other, whatever is in them', async () => {
  const { store } = await open()
  const ids = ['a', 'b', 'c']
  await Promise.all(ids.map((id) => store.create(newSaga(id, { leaseMs: 60_000 }))))
  const record = (path: string) => ({ at: 1, entries: [{ type: 'started', path } as const] })
  const odd = ['line\nline\r\n', '{"quoted"},\\n', '']
  await store.commit(ids.map((id, i) => end(id, { record: record(odd[i]!) })))
  const journals = await Promise.all(ids.map(async (id) => (await store.read(id))?.journal))
  expect(journals).toEqual(odd.map((path) => [record(path)]))
})

test('finds what is due by an index, and leaves what it does not know unread', async () => {
  const { store, schema } = await open()
  await pool.query(
    `insert into "${schema}".sagas (key, kind, name, version, hash, input, created_at, updated_at, epoch, leased, wake_at)
     select 'k' || i, case when i % 100 = 0 then '1 order' else '1 other' end, 'order', 1, 'h', '1', 0, 0, 0, false,
       case when i % 1000 = 0 then 1 when i % 2 = 0 then 1e15 else 1 end
     from generate_series(1, 20000) as i`,
  )
  await pool.query(`analyze "${schema}".sagas`)
  const { claimed } = await store.claim({ known, limit: 100, leaseMs: 60_000 })
  expect(claimed).toHaveLength(20)
  await expect.poll(async () => (await reads(schema)).found).toBeGreaterThanOrEqual(20)
  expect((await reads(schema)).scanned).toBe(0)
})

/** How many rows were read one after another, and how many by an index. What connections did is known a second later. */
async function reads(schema: string): Promise<{ scanned: number; found: number }> {
  const { rows } = await pool.query<{ scanned: number; found: number }>(
    `select seq_tup_read::int as scanned, idx_tup_fetch::int as found from pg_stat_user_tables where schemaname = $1 and relname = 'sagas'`,
    [schema],
  )
  return rows[0]!
}

test('what is no database, no listener or no number is refused by name', () => {
  expect(() => new PostgresSagaStore({} as never)).toThrow(/^db/)
  expect(() => new PostgresSagaStore(pool, { listener: {} as never })).toThrow(/^listener/)
  expect(() => new PostgresSagaStore(pool, { retainMs: -1 })).toThrow(/^retainMs/)
  expect(() => new PostgresSagaStore(pool, { schema: '' })).toThrow(/^schema/)
  expect(inject('postgresUrl')).toMatch(/^postgres/)
})

test('a saga whose record can not be read is given out with no other, and told of', async () => {
  const { store, schema } = await open()
  for (const id of ['a', 'b', 'c']) await store.create(newSaga(id))
  const no = `select no from "${schema}".sagas where key = 'b'`
  await pool.query(`insert into "${schema}".saga_records values ((${no}), 0, '{')`)
  const { claimed, unreadable } = await store.claim({ known, limit: 9, leaseMs: 60_000 })
  expect(claimed.map(({ saga: { id } }) => id).toSorted()).toEqual(['a', 'c'])
  const code = 'CORRUPT_DATA'
  expect(unreadable).toEqual([expect.objectContaining({ code, message: expect.stringContaining('"b"') as string })])
})

test('a database that can not hold every result is refused', async () => {
  const name = `latin1_${randomId().replaceAll('-', '')}`
  await pool.query(`create database ${name} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0`)
  const url = new URL(inject('postgresUrl'))
  url.pathname = `/${name}`
  const latin1 = new pg.Pool({ connectionString: url.href, max: 1 })
  onTestFinished(async () => {
    await latin1.end()
    await pool.query(`drop database ${name}`)
  })
  await expect(new PostgresSagaStore(latin1).migrate()).rejects.toMatchObject({
    code: 'STORE_FAILED',
    message: expect.stringContaining('not LATIN1') as string,
  })
})
