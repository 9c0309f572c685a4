import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import { begin, list, openPool, openStore } from './database.js'

const pool = openPool()
const e = (type: string, tags: string[] = []) => ({ type, data: {}, tags })
const byTag = (...tags: string[]) => ({ query: { items: [{ tags }] } })

/** Stores of as many processes: each has connections of its own. */
async function openStores(n: number): Promise<{ stores: PostgresEventStore[]; schema: string }> {
  const { schema } = await openStore(pool)
  const pools = Array.from({ length: n }, () => new pg.Pool({ connectionString: inject('postgresUrl'), max: 3 }))
  onTestFinished(async () => void (await Promise.all(pools.map((p) => p.end()))))
  return { stores: pools.map((p) => new PostgresEventStore(p, { schema })), schema }
}

/** What is settled within a moment that is long beside a statement. */
async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  const note = (): void => void (done = true)
  promise.then(note, note)
  for (let i = 0; i < 5; i++) await pool.query('select pg_sleep(0.02)')
  return done
}

test('what processes append at the same time is all there, in order, and none waits for ever', async () => {
  const { stores } = await openStores(4)
  const streams = ['a', 'b', 'c', 'd', 'e']
  const appends = stores.flatMap((store, s) =>
    Array.from({ length: 100 }, async (_, i) => {
      const stream = streams[(s + i) % streams.length] as string
      await store.append(stream, [e(`${s}-${i}`, [`tag:${i % 3}`])], {
        idempotencyKey: i % 4 === 0 ? `${s}/${i}` : undefined,
      })
    }),
  )
  await Promise.all(appends)
  const log = await list((stores[0] as PostgresEventStore).readAll())
  expect(new Set(log.map((event) => event.type)).size).toBe(400)
  for (const stream of streams)
    expect(log.filter((event) => event.streamId === stream).map((event) => event.version)).toEqual(
      Array.from({ length: 80 }, (_, i) => i + 1),
    )
})

test('of appends at one version from several processes exactly one wins, in a batch or alone', async () => {
  const { stores } = await openStores(4)
  for (let round = 0; round < 20; round++) {
    const answers = await Promise.allSettled(
      stores.flatMap((store) => [1, 2].map(() => store.append('s', [e('x')], { expectedVersion: round }))),
    )
    expect(answers.filter((answer) => answer.status === 'fulfilled')).toHaveLength(1)
  }
})

test('what can’t be written spoils no other append that travels with it', async () => {
  const { store, schema } = await openStore(pool)
  await pool.query(`alter table "${schema}".es_events add constraint no_poison check (type <> 'poison')`)
  const answers = await Promise.allSettled(
    Array.from({ length: 40 }, (_, i) => store.append(`s${i % 7}`, [e(i % 10 === 3 ? 'poison' : 'good')])),
  )
  const failed = answers.flatMap((answer, i) => (answer.status === 'rejected' ? [i] : []))
  expect(failed).toEqual([3, 13, 23, 33])
  expect(answers[3]).toMatchObject({ reason: { code: 'STORE_FAILED', cause: { code: '23514' } } })
  expect(await list(store.readAll())).toHaveLength(36)
})

test('appends whose answer was lost are not made again', async () => {
  const { schema } = await openStore(pool)
  const { totalCount } = pool
  const lossy = {
    totalCount,
    connect: () => pool.connect(),
    async query(statement: string, params?: unknown[]) {
      const answer = await pool.query(statement, params)
      throw answer.rows[0]?.status === 'ok' ? Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }) : new Error()
    },
  }
  const store = new PostgresEventStore(lossy, { schema })
  const answers = await Promise.allSettled([1, 2, 3].map(() => store.append('s', [e('a')])))
  for (const answer of answers) expect(answer).toMatchObject({ reason: { code: 'STORE_FAILED' } })
  expect(await list(new PostgresEventStore(pool, { schema }).read('s'))).toHaveLength(3)
})

test('many appends of one moment need few transactions', async () => {
  const { store, schema } = await openStore(pool)
  await Promise.all(Array.from({ length: 200 }, (_, i) => store.append(`s${i}`, [e('x')])))
  const { rows } = await pool.query(`select count(distinct xmin::text)::int as n from "${schema}".es_events`)
  expect(rows[0].n).toBeLessThanOrEqual(4)
})

test('appends to one stream are made in the order in which they were asked for, also by who does not await them', async () => {
  const { store } = await openStore(pool)
  const appends = Array.from({ length: 1_000 }, (_, i) => store.append('s', [e(`${i}`)]))
  expect((await Promise.all(appends)).map(({ version }) => version)).toEqual(appends.map((_, i) => i + 1))
})

test('a stream that a transaction holds does not hold up appends to others', async () => {
  const { store } = await openStore(pool)
  const client = await begin(pool)
  await store.append('held', [e('a')], { tx: client })
  const waiting: Promise<unknown>[] = []
  for (let i = 0; i < 4; i++) {
    waiting.push(store.append('held', [e('b')]))
    expect(await isDone(Promise.all(waiting))).toBe(false)
  }
  await store.append('free', [e('c')])
  await client.query('commit')
  await Promise.all(waiting)
  expect((await list(store.read('held'))).map(({ type }) => type)).toEqual(['a', 'b', 'b', 'b', 'b'])
})

test('an append that is aborted while it waits for others is not made', async () => {
  const { store } = await openStore(pool)
  const holder = await begin(pool)
  await store.append('s', [e('first')], { tx: holder })
  const busy = [store.append('s', [e('a')])]
  await pool.query('select 1') // on its way, waiting for the stream
  busy.push(store.append('s', [e('b')]))
  await pool.query('select 1')
  const controller = new AbortController()
  const aborted = store.append('t', [e('never')], { signal: controller.signal })
  controller.abort(new Error('enough'))
  await expect(aborted).rejects.toThrow('enough')
  await holder.query('commit')
  await Promise.all(busy)
  expect(await store.info('t')).toBeUndefined()
})

test('writers of one tag do not wait for each other, a condition waits for them, and sees what they wrote', async () => {
  const { store } = await openStore(pool)
  const slow = await begin(pool)
  await store.append('a', [e('Opened', ['account:1'])], { tx: slow })
  await store.append('b', [e('Noted', ['account:1'])]) // did not wait
  const other = store.append('d', [e('Claimed', ['account:2'])], { unless: byTag('account:2') })
  expect(await isDone(other)).toBe(true)
  const claim = store.append('c', [e('Claimed')], {
    unless: { query: { items: [{ types: ['Opened'], tags: ['account:1'] }] } },
  })
  claim.catch(() => {})
  expect(await isDone(claim)).toBe(false)
  await slow.query('commit')
  await expect(claim).rejects.toMatchObject({ code: 'VERSION_CONFLICT', missed: [{ type: 'Opened' }] })
})

test('a condition without tags waits for whoever writes, and holds against all', async () => {
  const { stores } = await openStores(3)
  const slow = await begin(pool)
  const [store] = stores as [PostgresEventStore]
  await store.append('a', [e('Opened')], { tx: slow })
  const claims = stores.map((each, i) =>
    each.append(`c${i}`, [e('Only')], { unless: { query: { items: [{ types: ['Only'] }] } } }),
  )
  const settled = Promise.allSettled(claims)
  expect(await isDone(settled)).toBe(false)
  await slow.query('commit')
  expect((await settled).filter((answer) => answer.status === 'fulfilled')).toHaveLength(1)
})

test('conditions of several processes on crossing tags neither deadlock nor let two pass', async () => {
  const { stores } = await openStores(4)
  for (let round = 0; round < 10; round++) {
    const tags = [`x:${round}`, `y:${round}`, `z:${round}`]
    const answers = await Promise.allSettled(
      stores.map((store, i) => {
        const [own, ...others] = [...tags.slice(i % 3), ...tags.slice(0, i % 3)] as [string, ...string[]]
        return store.append(`s${round}-${i}`, [e('Taken', [own, ...others])], { unless: byTag(own) })
      }),
    )
    expect(answers.filter((answer) => answer.status === 'fulfilled')).toHaveLength(1)
    for (const answer of answers)
      if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'VERSION_CONFLICT' })
  }
})

test('events with more tags than are locked one by one are seen by conditions too', async () => {
  const { stores } = await openStores(2)
  const many = Array.from({ length: 100 }, (_, i) => `t${i}`)
  const answers = await Promise.allSettled(
    stores.map((store, i) => store.append(`s${i}`, [e('Taken', many)], { unless: byTag('t50') })),
  )
  expect(answers.filter((answer) => answer.status === 'fulfilled')).toHaveLength(1)
})

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
test('a query for very many tags at once takes no longer than one for a few', { retry: 2 }, async () => {
  const { store } = await openStore(pool)
  const tags = Array.from({ length: 150 }, (_, i) => `t${i}`)
  await store.append('s', [e('all', tags), e('all but one', tags.slice(1)), e('none')])
  const began = systemClock.now()
  for (const [picked, types] of [
    [tags, ['all']],
    [tags.slice(1), ['all', 'all but one']],
    [[...tags, 'other'], []],
  ] as const) {
    const { events } = await store.readPage({ query: { items: [{ tags: picked }] } })
    expect(events.map(({ type }) => type)).toEqual(types)
  }
  expect(systemClock.now() - began).toBeLessThan(3_000) // many seconds, if each tag were a join
})

test('a condition in a transaction that can’t see what others commit is refused', async () => {
  const { store } = await openStore(pool)
  const client = await begin(pool)
  await client.query('set transaction isolation level repeatable read')
  const append = store.append('s', [e('x')], { unless: byTag('a'), tx: client })
  await expect(append).rejects.toThrow(/READ COMMITTED, not at repeatable read/)
})

test('line ends, quotes and empty texts in data and metadata come back, also where only some events have metadata', async () => {
  const { store } = await openStore(pool)
  const odd = ['a\nb', '', '\r\n"\\', '\n']
  const events = odd.map((data, i) => ({ type: 'e', data, ...(i % 2 === 1 ? { metadata: { note: data } } : {}) }))
  const unless = { query: { items: [{ tags: ['none'] }] } }
  const appended = await Promise.all([
    store.append('s', events),
    store.append('t', events),
    store.append('u', events.toReversed()), // the last two go together
    store.append('v', events, { unless }),
  ])
  for (const { stream, events: recorded } of appended) {
    const read = await list(store.read(stream))
    expect(read).toEqual(recorded)
    const sent = stream === 'u' ? events.toReversed() : events
    expect(read).toMatchObject(sent.map(({ metadata = {}, ...event }) => ({ ...event, metadata })))
  }
})
