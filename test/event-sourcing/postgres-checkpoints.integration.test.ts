import { expect, onTestFinished, test } from 'vitest'
import { subscribe, type Event, type EventStore, type Handler } from '../../src/event-sourcing/index.js'
import { PostgresCheckpoints } from '../../src/event-sourcing/postgres.js'
import { systemClock } from '../../src/kernel/clock.js'
import type { SqlQueryable } from '../../src/kernel/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { checkpointsContract } from '../conformance/checkpoints.js'
import { openPool, openStore } from './database.js'

const pool = openPool()
checkpointsContract('PostgreSQL', async () => {
  const schema = `es_${randomId()}`
  const checkpoints = new PostgresCheckpoints(pool, { schema })
  await checkpoints.migrate()
  return {
    checkpoints,
    advance: (ms) => systemClock.sleep(ms),
    close: async () => void (await pool.query(`drop schema "${schema}" cascade`)),
  }
})

type Counted = Event<'e', number>
const e = (data: number): Counted => ({ type: 'e', data })

async function openCounting() {
  const { store: any, schema } = await openStore(pool)
  const store: EventStore<Counted> = any
  const checkpoints = new PostgresCheckpoints(pool, { schema })
  await pool.query(`create table "${schema}".seen (pos bigint, data int)`)
  const count: Handler<Counted, SqlQueryable> = async (event, { tx }) => {
    await tx.query(`insert into "${schema}".seen values ($1, $2)`, [event.position, event.data])
  }
  const seen = async (): Promise<number[]> =>
    (await pool.query(`select data from "${schema}".seen order by pos`)).rows.map((r) => r.data)
  return { store, schema, checkpoints, count, seen }
}

test('what a handler writes in the transaction is there exactly once, with runners that fail and take over', async () => {
  const { store, checkpoints, count, seen } = await openCounting()
  const total = 400
  let failures = 0
  const shaky: Handler<Counted, SqlQueryable> = async (event, context) => {
    await count(event, context)
    if (event.data % 37 === 5 && context.attempt === 1 && failures++ < 8) throw new Error('once more')
  }
  const start = () => subscribe(store, checkpoints, 'n', shaky, { batch: 20, pollMs: 20 })
  const runners = [start(), start(), start()]
  onTestFinished(async () => void (await Promise.all(runners.map((runner) => runner.stop()))))
  let position = 0
  for (let i = 0; i < total; i++) {
    position = (await store.append(`s${i % 7}`, [e(i)])).position
    if (i % 100 === 50) {
      const working = runners.findIndex((runner) => runner.state !== 'standby')
      await runners[working]?.stop()
      runners[working] = start()
    }
  }
  await runners[0]?.reached(position, 20_000)
  expect(await seen()).toEqual(Array.from({ length: total }, (_, i) => i))
  expect(failures).toBeGreaterThan(0)
})

// emmett: a failed compare of the checkpoint did not roll the projection back.
test('the work of an owner that was replaced meanwhile is rolled back', async () => {
  const { store, schema, checkpoints, count, seen } = await openCounting()
  await store.append('s', [e(1)])
  const paused = await checkpoints.acquire('n', 'paused', 20)
  const [event] = (await store.readPage()).events
  const work = checkpoints.commit('n', paused?.epoch ?? 0, undefined, 1, async (tx) => {
    await count(event as never, { tx } as never)
    await systemClock.sleep(30)
    const next = await checkpoints.acquire('n', 'next', 10_000) // neither waits for the other
    await checkpoints.commit(
      'n',
      next?.epoch ?? 0,
      undefined,
      1,
      (own) => count(event as never, { tx: own } as never) as Promise<void>,
    )
  })
  await expect(work).rejects.toMatchObject({ code: 'FENCED' })
  expect(await seen()).toEqual([1])
  expect((await pool.query(`select pos::int from "${schema}".es_subscriptions`)).rows).toEqual([{ pos: 1 }])
})

test('when the server refuses the commit at its end, neither the work nor the position stays', async () => {
  const { store, schema, checkpoints, count, seen } = await openCounting()
  await store.append('s', [e(1)])
  const [event] = (await store.readPage()).events
  await pool.query(`alter table "${schema}".seen add unique (data) deferrable initially deferred`)
  await pool.query(`insert into "${schema}".seen values (0, 1)`)
  const lease = await checkpoints.acquire('n', 'a', 10_000)
  const work = (tx: SqlQueryable) => count(event as never, { tx } as never) as Promise<void>
  const refused = checkpoints.commit('n', lease?.epoch ?? 0, undefined, 1, work)
  await expect(refused).rejects.toMatchObject({ code: 'STORE_FAILED', cause: { code: '23505' } })
  expect([await checkpoints.position('n'), await seen()]).toEqual([undefined, [1]])
})

test('an event that is refused only when its work is committed is found, tried as often as any, and parked', async () => {
  const { store, schema, checkpoints, count, seen } = await openCounting()
  await pool.query(`alter table "${schema}".seen add unique (data) deferrable initially deferred`)
  const { position } = await store.append('s', [1, 2, 1, 3].map(e))
  const options = { retry: { attempts: 2, giveUp: 'park' } } as const
  await using subscription = subscribe(store, checkpoints, 'n', count, options)
  const attempts: number[] = []
  subscription.on('error', ({ attempt }) => attempts.push(attempt))
  await subscription.reached(position, 5_000)
  expect(await seen()).toEqual([1, 2, 3])
  expect((await checkpoints.parked('n')).map((event) => [event.position, event.attempts])).toEqual([[3, 2]])
  expect(attempts).toEqual([1, 2])
})

test('a handler that swallows a failed statement ends its subscription, and is not repeated without end', async () => {
  const { store, schema } = await openStore(pool)
  await store.append('s', [{ type: 'e', data: 1 }])
  const handler = async (_: unknown, { tx }: { tx: SqlQueryable }): Promise<void> =>
    void (await tx.query('select 1/0').catch(() => {}))
  await using subscription = subscribe(store, new PostgresCheckpoints(pool, { schema }), 'n', handler)
  const failed = await new Promise((resolve) => void subscription.on('failed', resolve))
  expect(failed).toMatchObject({ error: { code: 'INVALID_OPTION', cause: { code: 'STORE_FAILED' } } })
  expect(subscription.state).toBe('failed')
})

test('in partitions, what handlers write in the transaction is there exactly once and in order, while runners come and go', async () => {
  const { store, schema, checkpoints, count } = await openCounting()
  await pool.query(`alter table "${schema}".seen add stream text, add nth serial`)
  const handler: Handler<Counted, SqlQueryable> = async (event, context) => {
    await count(event, context)
    await context.tx.query(`update "${schema}".seen set stream = $1 where pos = $2`, [event.streamId, event.position])
  }
  const start = () =>
    subscribe(store, checkpoints, 'n', handler, {
      partitions: { count: 4, by: ({ streamId }) => streamId },
      batch: 5,
      leaseMs: 500,
      pollMs: 20,
    })
  const runners = [start(), start()]
  onTestFinished(async () => void (await Promise.all(runners.map((runner) => runner.stop()))))
  let position = 0
  for (let i = 0; i < 300; i++) {
    position = (await store.append(`s${i % 9}`, [e(i)])).position
    if (i % 100 === 50) runners.push(start())
    if (i % 100 === 80) void runners.shift()?.stop()
  }
  await runners[0]?.reached(position, 25_000)
  const { rows } = await pool.query(`select pos::int as pos, data, stream from "${schema}".seen order by nth`)
  expect(rows.map(({ data }) => data as number).toSorted((a, b) => a - b)).toEqual(
    Array.from({ length: 300 }, (_, i) => i),
  )
  for (let s = 0; s < 9; s++) {
    const own = rows.filter(({ stream }) => stream === `s${s}`).map(({ pos }) => pos as number)
    expect(own).toEqual(own.toSorted((a, b) => a - b))
  }
})
