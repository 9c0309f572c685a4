import { fork, type ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { beforeAll, expect, inject, onTestFinished, test } from 'vitest'
import { transaction } from '../../src/kernel/postgres.js'
import type { Message } from '../../src/messaging/index.js'
import { bundle } from '../support/bundle.js'
import { openInbox, openOutbox, openPool } from './database.js'
import { expectOrder, tablesOf } from './outbox-laws.js'

const pool = openPool({ max: 24 })
const programs = { relay: '', consumer: '' }
beforeAll(async () => {
  programs.relay = await bundle('test/messaging/relay-process.ts')
  programs.consumer = await bundle('test/messaging/inbox-process.ts')
})

/** Processes of one test. They end with it. */
class Fleet {
  readonly all = new Set<ChildProcess>()

  constructor(
    private readonly program: string,
    private readonly args: readonly string[],
  ) {
    onTestFinished(() => {
      for (const child of this.all) child.kill('SIGKILL')
    })
  }

  start(): ChildProcess {
    const child = fork(this.program, this.args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    this.all.add(child)
    child.once('exit', () => this.all.delete(child))
    return child
  }
}
const oneOf = <T>(all: Iterable<T>): T | undefined => {
  const list = [...all]
  return list[Math.floor(Math.random() * list.length)]
}

async function openStream() {
  const { outbox, schema, drop } = await openOutbox(pool, { notify: true, partitions: 6 })
  const redis = new Redis(inject('redisUrl'))
  const stream = `test:${schema}`
  onTestFinished(async () => {
    await redis.del(stream)
    await redis.quit()
    await drop()
  })
  const published = async (): Promise<Message[]> =>
    (await redis.xrange(stream, '-', '+')).map(([, [, id, , key]]) => ({ id, key }) as Message)
  const fleet = new Fleet(programs.relay, [inject('postgresUrl'), inject('redisUrl'), schema, stream])
  return { outbox, schema, fleet, published }
}

test('relays that are killed and stopped publish every committed message, in the order of commits, and none that was rolled back', async () => {
  const { outbox, schema, fleet, published } = await openStream()
  await pool.query(`create table "${schema}".counters (key text primary key, n int not null default 0)`)
  await pool.query(`insert into "${schema}".counters (key) select 'k' || i from generate_series(0, 9) i`)
  await pool.query(`create table "${schema}".committed (id text primary key, n int)`)
  for (let i = 0; i < 3; i++) fleet.start()
  const state = { over: false }
  let count = 0
  const write = async (writer: number): Promise<void> => {
    while (!state.over) {
      const keys = [...new Set([0, 1, 2].map(() => `k${Math.floor(Math.random() * 10)}`))]
      const messages = keys.map((key) => ({ id: `${writer}-${count++}`, type: 't', key, data: 1 }))
      await transaction(pool, async (tx) => {
        for (const message of messages) await outbox.put(tx, message)
        await sleep(Math.random() * 30) // others put the same keys meanwhile, and commit before or after
        // The lock of its row makes the number the order of commits.
        for (const { id, key } of messages.toSorted((a, b) => (a.key < b.key ? -1 : 1)))
          await tx.query(
            `with c as (update "${schema}".counters set n = n + 1 where key = $2 returning n)
             insert into "${schema}".committed select $1, n from c`,
            [id, key],
          )
        if (Math.random() < 0.2) throw new Error('no')
      }).catch((error: Error) => expect(error.message).toBe('no'))
    }
  }
  const harm = async (): Promise<void> => {
    while (!state.over) {
      await sleep(250)
      const child = oneOf(fleet.all)!
      if (Math.random() < 0.5) {
        child.kill('SIGKILL')
        fleet.start()
      } else {
        child.kill('SIGSTOP')
        void sleep(Math.random() * 2_000).then(() => child.kill('SIGCONT'))
      }
    }
  }
  const all = [...Array.from({ length: 12 }, (_, i) => write(i)), harm()]
  await sleep(5_000)
  state.over = true
  await Promise.all(all)
  await sleep(2_100) // for those that wake up late
  await expect
    .poll(() => tablesOf(pool, schema), { timeout: 60_000, interval: 100 })
    .toEqual({ outbox_messages: 0, outbox_commits: 0 })
  const { rows } = await pool.query<{ id: string; n: number }>(`select id, n from "${schema}".committed`)
  const committed = new Map(rows.map(({ id, n }) => [id, n]))
  expect(committed.size).toBeGreaterThan(20) // or nothing was tried
  const messages = await published()
  expect(new Set(messages.map(({ id }) => id))).toEqual(new Set(committed.keys()))
  expectOrder(messages, (id) => committed.get(id)!)
}, 180_000)

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
test(
  'a relay that is killed is replaced when its lease ends, and partitions are shared evenly',
  { retry: 2 },
  async () => {
    const { outbox, fleet, published } = await openStream()
    const owned = new Map<ChildProcess, number>()
    const start = (): ChildProcess => {
      const child = fleet.start()
      child.on('message', (partitions) => owned.set(child, (partitions as number[]).length))
      return child
    }
    const [first, second] = [start(), start()]
    await expect.poll(() => [owned.get(first), owned.get(second)]).toEqual([3, 3])
    first.kill('SIGKILL')
    const began = Date.now()
    const messages = Array.from({ length: 60 }, (_, i) => ({ id: `m${i}`, type: 't', key: `k${i}`, data: 1 }))
    await transaction(pool, (tx) => outbox.put(tx, messages))
    await expect.poll(async () => (await published()).length, { interval: 20 }).toBe(60)
    expect(Date.now() - began).toBeLessThan(1_000 + 700) // the lease, and the slowness of a busy machine
  },
)

test('consumers that are killed half-way have the effect of each message exactly once', async () => {
  const { schema, effects, close } = await openInbox(pool)
  onTestFinished(close)
  const count = 2_000
  const fleet = new Fleet(programs.consumer, [inject('postgresUrl'), schema, String(count)])
  for (let i = 0; i < 3; i++) fleet.start()
  for (let i = 0; i < 8; i++) {
    await sleep(250)
    oneOf(fleet.all)?.kill('SIGKILL')
    fleet.start()
  }
  await Promise.all([...fleet.all].map((child) => new Promise((resolve) => child.once('exit', resolve))))
  const all = await effects()
  expect(all.toSorted()).toEqual(Array.from({ length: count }, (_, i) => `m${i}`).toSorted())
}, 180_000)
