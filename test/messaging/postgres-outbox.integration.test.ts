import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { transaction } from '../../src/kernel/postgres.js'
import { PostgresOutbox, type PostgresOutboxOptions, type RelayOptions } from '../../src/messaging/postgres.js'
import { outboxStatements } from '../../src/messaging/postgres-outbox.sql.js'
import { saga, SagaOrchestrator } from '../../src/saga/index.js'
import { PostgresSagaStore } from '../../src/saga/postgres.js'
import { openOutbox, openPool } from './database.js'
import { outboxLaws, Recorder, tablesOf } from './outbox-laws.js'

const pool = openPool()
outboxLaws('PostgresOutbox', () => pool)

async function open(options: PostgresOutboxOptions = {}) {
  const opened = await openOutbox(pool, options)
  onTestFinished(opened.drop)
  return opened
}
function relay(outbox: PostgresOutbox, bus: Recorder, options: RelayOptions = {}) {
  const running = outbox.relay(bus, { leaseMs: 2_000, pollMs: 50, ...options })
  onTestFinished(() => running.close())
  return running
}
/** A connection with a transaction on it, which the test ends. */
async function begin(more = ''): Promise<pg.PoolClient> {
  const client = await pool.connect()
  onTestFinished(async () => {
    await client.query('rollback')
    client.release()
  })
  await client.query(`begin ${more}`)
  return client
}
const message = (id: string, key?: string) => ({ id, type: 't', ...(key === undefined ? {} : { key }), data: id })

test('the tables are made once when eight processes start at the same moment, and the number of partitions stays', async () => {
  const { schema, drop } = await openOutbox(pool)
  await drop()
  onTestFinished(drop)
  await Promise.all(Array.from({ length: 8 }, () => new PostgresOutbox(pool, { schema, partitions: 3 }).migrate()))
  await new PostgresOutbox(pool, { schema }).migrate()
  await expect(new PostgresOutbox(pool, { schema, partitions: 4 }).migrate()).rejects.toThrow(/^partitions/)
  const outbox = new PostgresOutbox(pool, { schema })
  const bus = new Recorder()
  const running = outbox.relay(bus, { pollMs: 50 })
  await transaction(pool, (tx) => outbox.put(tx, message('a', 'k')))
  await bus.until(1)
  expect(running.partitions).toEqual([0, 1, 2])
  await running.close()
})

test('of two transactions with one key, the one that commits first is published first, though it put last', async () => {
  const { outbox } = await open()
  const bus = new Recorder()
  const [early, late] = [await begin(), await begin()]
  await outbox.put(late, message('late', 'k'))
  await outbox.put(early, message('early', 'k'))
  await early.query('commit')
  await late.query('commit')
  relay(outbox, bus)
  await bus.until(2)
  expect(bus.ids).toEqual(['early', 'late'])
})

test('while a transaction with a key is being committed, the next one with it waits, and no other', async () => {
  const { outbox } = await open()
  const [first, second] = [await begin(), await begin()]
  await outbox.put(first, message('first', 'k'))
  await outbox.put(second, message('second', 'k'))
  await first.query('set constraints all immediate') // as far as its commit comes before it is written
  let isOver = false
  const waiting = second.query('commit').then(() => (isOver = true))
  await transaction(pool, (tx) => outbox.put(tx, message('other', 'other')))
  await sleep(50)
  expect(isOver).toBe(false)
  await first.query('commit')
  await waiting
  const bus = new Recorder()
  relay(outbox, bus)
  await bus.until(3)
  expect(bus.ids.filter((id) => id !== 'other')).toEqual(['first', 'second'])
})

test('a message that commits late, below what is published already, is not skipped', async () => {
  const { outbox } = await open()
  const bus = new Recorder()
  relay(outbox, bus)
  const late = await begin()
  await outbox.put(late, message('late', 'k'))
  await late.query('set constraints all immediate') // it has its position now
  for (let i = 0; i < 30; i++) await transaction(pool, (tx) => outbox.put(tx, message(`m${i}`, `other ${i}`)))
  await bus.until(30)
  await late.query('commit')
  await bus.until(31)
  expect(bus.ids.at(-1)).toBe('late')
})

test.each([
  ['before the relay has looked', 2],
  ['and reach those of before while the relay can not look', 40],
])('positions that go back, as after a fail-over that forgot some, hide no message: %s', async (_, count) => {
  const { outbox, schema } = await open()
  const bus = new Recorder()
  let isDown = false
  const query = (...args: [string]) => (isDown ? Promise.reject(new Error('the server is down')) : pool.query(...args))
  const client = Object.create(pool, { query: { value: query } }) as pg.Pool
  const running = relay(new PostgresOutbox(client, { schema }), bus)
  for (let i = 0; i < 30; i++) await transaction(pool, (tx) => outbox.put(tx, message(`m${i}`, `key ${i}`)))
  await bus.until(30)
  await expect.poll(async () => (await outbox.stats()).waiting).toBe(0)
  const failed = new Promise((resolve) => running.on('failed', resolve))
  isDown = count > 30
  if (isDown) await failed
  await pool.query(`select setval('"${schema}".outbox_pos', 5), setval('"${schema}".outbox_batch', 5)`)
  const ids = Array.from({ length: count }, (__, i) => `again ${i}`)
  for (const id of ids) await transaction(pool, (tx) => outbox.put(tx, message(id, 'k')))
  isDown = false
  await bus.until(30 + count)
  expect(bus.ids.slice(30)).toEqual(ids)
  await expect.poll(async () => (await outbox.stats()).waiting).toBe(0)
})

test.each([
  ['that was read before', undefined],
  ['that is sent again to be deleted', /outbox_page/],
])(
  'a server that has forgotten some gives their numbers to others, and nothing %s stands in their way',
  async (_, unread) => {
    const { outbox, schema } = await open()
    const bus = new Recorder()
    let failing = /outbox_remove/
    let removals = 0
    const query = async (...args: [{ text: string }]): Promise<unknown> => {
      const [{ text }] = args
      if (failing.test(text)) throw new Error('no answer')
      const answer = await pool.query(...args)
      if (text.includes('outbox_remove')) removals++
      return answer
    }
    const client = Object.create(pool, { query: { value: query } }) as pg.Pool
    relay(new PostgresOutbox(client, { schema }), bus, { pollMs: 20 })
    const put = async (ids: readonly string[]): Promise<void> => {
      for (const id of ids) await transaction(pool, (tx) => outbox.put(tx, message(id, 'k')))
    }
    await put(Array.from({ length: 9 }, (__, i) => `old ${i}`))
    await bus.until(9)
    if (unread) failing = /outbox_(remove|page)/
    const sequences = ['outbox_pos', 'outbox_batch'].map((name) => `select setval('"${schema}".${name}', 1, false)`)
    await pool.query([`truncate "${schema}".outbox_messages, "${schema}".outbox_commits`, ...sequences].join('; '))
    const ids = Array.from({ length: 5 }, (__, i) => `new ${i}`)
    await put(ids)
    if (unread) failing = unread
    await (unread ? expect.poll(() => removals).toBe(1) : bus.until(14))
    failing = /^never$/
    await put(['last'])
    await bus.until(15)
    expect(bus.ids.slice(9)).toEqual([...ids, 'last'])
    await expect.poll(() => tablesOf(pool, schema)).toEqual({ outbox_messages: 0, outbox_commits: 0 })
  },
)

test('transactions that put the same keys in opposite order never wait for each other before their commits', async () => {
  const { outbox } = await open()
  const [one, two] = [await begin(), await begin()]
  await outbox.put(one, message('a1', 'a'))
  await outbox.put(two, message('b2', 'b'))
  await outbox.put(one, message('b1', 'b'))
  await outbox.put(two, message('a2', 'a'))
  await Promise.all([one.query('commit'), two.query('commit')])
  const bus = new Recorder()
  relay(outbox, bus)
  await bus.until(4)
  const first = bus.ids[0]!.slice(1)
  expect(bus.ids.filter((id) => id.startsWith('a'))[0]).toBe(`a${first}`)
  expect(bus.ids.filter((id) => id.startsWith('b'))[0]).toBe(`b${first}`)
})

test('transactions at SERIALIZABLE that put at the same time do not fail for it', async () => {
  const { outbox } = await open()
  const [one, two] = [await begin('isolation level serializable'), await begin('isolation level serializable')]
  await outbox.put(one, message('one', 'k'))
  await outbox.put(two, message('two', 'k'))
  await one.query('commit')
  await two.query('commit')
  const bus = new Recorder()
  relay(outbox, bus)
  await bus.until(2)
  expect(bus.ids).toEqual(['one', 'two'])
})

test('hundreds of keys in one transaction take few locks, and keep the order with others', async () => {
  const { outbox } = await open()
  const [many, one] = [await begin(), await begin()]
  const keys = Array.from({ length: 500 }, (_, i) => `k${i}`)
  await outbox.put(one, message('one', 'k7'))
  await outbox.put(
    many,
    keys.map((key) => message(`many ${key}`, key)),
  )
  await many.query('set constraints all immediate')
  const { rows } = await many.query<{ n: number }>(
    `select count(*)::int as n from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()`,
  )
  expect(rows[0]!.n).toBeLessThan(10)
  const waiting = one.query('commit')
  await sleep(30)
  await many.query('commit')
  await waiting
  const bus = new Recorder()
  relay(outbox, bus)
  await bus.until(501)
  const ofKey = bus.taken.filter(({ key }) => key === 'k7').map(({ id }) => id)
  expect(ofKey).toEqual(['many k7', 'one'])
})

test('where transactions are REPEATABLE READ by default, nothing counts as settled, and all is published and deleted', async () => {
  const { outbox, schema } = await open()
  const options = '-c default_transaction_isolation=repeatable\\ read'
  const own = new pg.Pool({ connectionString: inject('postgresUrl'), max: 3, options })
  onTestFinished(() => own.end())
  const bus = new Recorder()
  const running = relay(new PostgresOutbox(own, { schema }), bus, { batchSize: 7 })
  for (let i = 0; i < 20; i++)
    await transaction(pool, (tx) => outbox.put(tx, [message(`a${i}`, 'a'), message(`b${i}`, 'b')]))
  await bus.until(40)
  await expect.poll(() => tablesOf(pool, schema)).toEqual({ outbox_messages: 0, outbox_commits: 0 })
  const { rows } = await own.query<{ commit: string }>(`select commit from "${schema}".outbox_page('{0}', 0, 0, 1)`)
  expect(rows).toEqual([{ commit: '0' }])
  await running.close()
  expect(bus.ids.filter((id) => id.startsWith('a'))).toEqual(Array.from({ length: 20 }, (_, i) => `a${i}`))
})

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
test(
  'an idle transaction elsewhere, and one with messages that does not end, stall nothing and slow nothing down',
  { retry: 2 },
  async () => {
    const { outbox, schema } = await open()
    const bus = new Recorder()
    const idle = await begin('isolation level repeatable read')
    await idle.query('select txid_current()') // keeps all that is deleted from now on in the tables
    const open1 = await begin()
    await outbox.put(open1, message('never', 'k'))
    relay(outbox, bus, { batchSize: 50 })
    const round = async (n: number): Promise<number> => {
      const began = performance.now()
      const all = Array.from({ length: 1_000 }, (_, i) => message(`${n} ${i}`, `${n} ${i}`))
      await transaction(pool, async (tx) => {
        for (let i = 0; i < 1_000; i += 50) await outbox.put(tx, all.slice(i, i + 50))
      })
      await bus.until((n + 1) * 1_000)
      return performance.now() - began
    }
    const times: number[] = []
    for (let n = 0; n < 6; n++) times.push(await round(n))
    await expect.poll(() => tablesOf(pool, schema)).toEqual({ outbox_messages: 0, outbox_commits: 0 })
    expect(Math.min(...times.slice(3))).toBeLessThan(3 * Math.min(...times.slice(0, 3)))
  },
)

test('what deletes a few messages reads a few rows, also where it was planned while the tables were empty', async () => {
  const { schema } = await open()
  const client = await pool.connect()
  onTestFinished(() => client.release())
  const few = [1, 2, 3]
  const [zeros, ones] = [few.map(() => 0), few.map(() => 1)]
  const params = [few, zeros, ones, ones, few, ones, few, ones]
  const remove = () => client.query(outboxStatements(`"${schema}"`).remove, params)
  for (const table of ['messages', 'commits']) await client.query(`vacuum analyze "${schema}".outbox_${table}`)
  for (let i = 0; i < 8; i++) await remove() // then one plan is kept
  const numbers = 'from generate_series(1, 3000) n'
  await client.query(`insert into "${schema}".outbox_commits select n, 0, n, 1 ${numbers}`)
  await client.query(
    `insert into "${schema}".outbox_messages select n, 0, 1, false, n::text, 't', null, 1, 'null' ${numbers}`,
  )
  await client.query('begin')
  await remove()
  const { rows } = await client.query<{ table: string; read: string; deleted: string }>(
    `select relname as table, seq_tup_read + idx_tup_fetch as read, n_tup_del as deleted from pg_stat_xact_user_tables
     where schemaname = $1 and n_tup_del > 0`,
    [schema],
  )
  await client.query('commit')
  expect(rows.map(({ deleted }) => Number(deleted))).toEqual([3, 3])
  for (const { read } of rows) expect(Number(read)).toBeLessThan(30)
})

test('a listener wakes a relay that would not look for a long time', async () => {
  const listener = new pg.Client({ connectionString: inject('postgresUrl') })
  await listener.connect()
  onTestFinished(() => listener.end())
  const { outbox, schema } = await open({ notify: true })
  const hearing = new PostgresOutbox(pool, { schema, listener })
  const bus = new Recorder()
  relay(hearing, bus, { pollMs: 60_000, leaseMs: 60_000 })
  await sleep(300)
  await transaction(pool, async (tx) => {
    await outbox.put(tx, message('a', 'k'))
    await sleep(100) // told before it is committed: the relay looks more than once
  })
  await bus.until(1)
  await sleep(300)
  await transaction(pool, (tx) => outbox.put(tx, message('b', 'k')))
  await bus.until(2)
})

test('writes in the transaction of a saga, and with what an event store appends', async () => {
  const { outbox, schema } = await open()
  const bus = new Recorder()
  relay(outbox, bus)
  const sagas = new PostgresSagaStore(pool, { schema })
  const events = new PostgresEventStore(pool, { schema })
  await sagas.migrate()
  await events.migrate()
  const order = saga<string>('order', { version: 1 })
    .transaction('place', {
      run: async ({ tx, input }) => {
        await outbox.put(tx, message(`saga ${input}`, input))
        return 'placed'
      },
    })
    .build()
  const orchestrator = new SagaOrchestrator({ store: sagas, sagas: [order] })
  orchestrator.start()
  onTestFinished(() => orchestrator.close())
  await (await orchestrator.run(order, 'o1', { id: 'o1' })).settled()
  await transaction(pool, async (tx) => {
    await events.append('order-2', [{ type: 'Placed', data: 1 }], { tx })
    await outbox.put(tx, message('event', 'o2'))
  })
  await bus.until(2)
  expect(bus.ids.toSorted()).toEqual(['event', 'saga o1'])
})

test('a database that is gone for a while is waited for', async () => {
  const { outbox, schema } = await open()
  const own = new pg.Pool({ connectionString: inject('postgresUrl'), max: 3, application_name: schema })
  own.on('error', () => {})
  onTestFinished(() => own.end())
  const bus = new Recorder()
  const running = new PostgresOutbox(own, { schema }).relay(bus, { leaseMs: 500, pollMs: 20 })
  onTestFinished(() => running.close())
  const state = { over: false }
  const cutting = (async () => {
    while (!state.over) {
      await sleep(40)
      await pool.query('select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1', [schema])
    }
  })()
  for (let i = 0; i < 200; i++) await transaction(pool, (tx) => outbox.put(tx, message(`m${i}`, 'k')))
  await sleep(300)
  state.over = true
  await cutting
  await expect
    .poll(() => tablesOf(pool, schema), { timeout: 10_000 })
    .toEqual({ outbox_messages: 0, outbox_commits: 0 })
  const first = [...new Set(bus.ids)]
  expect(first).toEqual(Array.from({ length: 200 }, (_, i) => `m${i}`))
})

test('close does not wait for a database that never answers longer than the lease', async () => {
  const silent = new PostgresOutbox({ query: () => new Promise(() => {}) })
  const running = silent.relay(new Recorder(), { graceMs: 20, leaseMs: 50 })
  await running.close()
  expect(running.partitions).toEqual([])
})

test('what is malformed is refused by name, and nothing is written', async () => {
  const { outbox } = await open()
  expect(() => new PostgresOutbox({} as never)).toThrow(/^db/)
  expect(() => new PostgresOutbox(pool, { partitions: 0 })).toThrow(/^partitions/)
  expect(() => new PostgresOutbox(pool, { listener: {} as never })).toThrow(/^listener/)
  expect(() => outbox.relay({} as never)).toThrow(/^bus/)
  expect(() => outbox.relay(new Recorder(), { batchSize: 0 })).toThrow(/^batchSize/)
  expect(() => outbox.relay(new Recorder(), { leaseMs: 0, publishTimeoutMs: 1 })).toThrow(/^leaseMs/)
  expect(() => outbox.relay(new Recorder(), { publishTimeoutMs: 0 })).toThrow(/^publishTimeoutMs/)
  await expect(outbox.put({} as never, message('a'))).rejects.toThrow(/^tx/)
  await expect(outbox.put(pool, [message('a'), { type: '', data: 1 }])).rejects.toThrow(/^message.type/)
  await expect(outbox.put(pool, [message('a'), { type: 't', data: () => 1 }])).rejects.toMatchObject({
    code: 'INVALID_PAYLOAD',
  })
  expect(await outbox.stats()).toEqual({ waiting: 0, parked: 0, lagMs: 0 })
})
