import { fork, type ChildProcess } from 'node:child_process'
import { Pool } from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import { PostgresInbox } from '../../src/messaging/postgres.js'
import { range } from '../conformance/event-bus/bench.js'
import { bundle } from '../support/bundle.js'
import { until } from '../support/until.js'
import { brokerUrl, layLine, openBus, ownBus, ownPrefix, removeGroups } from './broker.js'
import type { Job } from './rabbitmq-worker.js'

/** Set it to 100000 for the long version. */
const MESSAGES = Number(process.env['HOLDFAST_RABBITMQ_MESSAGES'] ?? 1_000)
const KEYS = 50
const WORKERS = 4
const KILL_MS = 300
const CUT_MS = 500
const POISON = 19 // one message of so many per key
const LONGEST_MS = 120_000 + MESSAGES * 60

const script = await bundle('test/messaging/rabbitmq-worker.ts')

async function setUp(schema: string): Promise<Pool> {
  const pool = new Pool({ connectionString: inject('postgresUrl'), max: 2 })
  await new PostgresInbox(pool, { schema }).migrate()
  await pool.query(`create table ${schema}.effects (at bigserial primary key, key text not null, n int not null)`)
  onTestFinished(async () => {
    await pool.query(`drop schema ${schema} cascade`)
    await pool.end()
  })
  return pool
}

/** Consumers, one after another killed and replaced. */
class Consumers {
  readonly all = new Set<ChildProcess>()
  readonly ready: ChildProcess[] = []
  killed = 0
  #started = 0

  constructor(
    private readonly job: Omit<Job, 'rabbitmqUrl'>,
    private readonly urls: readonly string[],
  ) {}

  start(): ChildProcess {
    const rabbitmqUrl = this.urls[this.#started++ % this.urls.length] as string
    const child = fork(script, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    this.all.add(child)
    child.once('message', () => this.ready.push(child))
    child.once('exit', () => this.all.delete(child))
    child.send({ ...this.job, rabbitmqUrl })
    return child
  }

  /** Kills the one that has worked longest, if there is another; a new one takes its place. */
  kill(): void {
    if (this.ready.length < 2) return // processes take their time to start on a busy machine
    const oldest = this.ready.shift()
    if (!oldest) return
    oldest.kill('SIGKILL')
    this.killed++
    this.start()
  }

  end(): void {
    for (const child of this.all) child.kill('SIGKILL')
  }
}

/** Calls `act` every `ms` until it is told to stop. */
function every(ms: number, act: () => void): () => void {
  let stop = systemClock.setTimer(again, ms)
  function again(): void {
    act()
    stop = systemClock.setTimer(again, ms)
  }
  return () => stop()
}

test(
  `${MESSAGES} messages, consumers killed, connections cut: every effect once, order per key kept, poison in the dead letters`,
  async () => {
    const prefix = ownPrefix()
    const schema = `chaos_${process.pid}`
    const pool = await setUp(schema)
    const lines = await Promise.all(Array.from({ length: WORKERS + 1 }, layLine))
    const [toPublisher, ...toWorkers] = lines
    const consumers = new Consumers(
      { postgresUrl: inject('postgresUrl'), prefix, schema },
      toWorkers.map(({ url }) => url),
    )
    onTestFinished(() => consumers.end())
    const bus = openBus({ prefix, partitions: 4 }, toPublisher?.url)
    onTestFinished(async () => {
      await bus.close()
      await removeGroups(bus)
    })
    for (let i = 0; i < WORKERS; i++) consumers.start()
    await until(() => consumers.ready.length > 0, 60_000)

    const began = Date.now()
    let cuts = 0
    const stops = [
      every(KILL_MS, () => consumers.kill()),
      every(CUT_MS, () => {
        const { line } = lines[cuts++ % lines.length]!
        line.set('cut')
        line.set('open')
      }),
    ]
    onTestFinished(() => stops.forEach((stop) => stop()))

    const perKey = MESSAGES / KEYS
    const isPoison = (n: number): boolean => n % POISON === POISON - 1
    await Promise.all(
      Array.from({ length: KEYS }, async (_, k) => {
        for (let n = 0; n < perKey;) {
          const id = `${isPoison(n) ? 'poison-' : ''}${k}-${n}`
          try {
            await bus.publish({ id, type: 'A', key: `key-${k}`, data: n })
            n++
          } catch {
            await systemClock.sleep(20) // it may have been stored: the inbox knows the id
          }
        }
      }),
    )
    const publishedMs = Date.now() - began
    const good = KEYS * Array.from({ length: perKey }, (_, n) => n).filter((n) => !isPoison(n)).length
    const count = async (): Promise<number> =>
      Number((await pool.query<{ count: string }>(`select count(*) from ${schema}.effects`)).rows[0]?.count)
    await until(async () => (await count()) >= good, LONGEST_MS).catch(async (error: Error) => {
      throw new Error(`${await count()} of ${good}; ${consumers.killed} killed, ${cuts} cuts: ${error.message}`)
    })
    const handledMs = Date.now() - began
    stops.forEach((stop) => stop())
    // Poison messages, too: each as often as it was stored.
    const dead = new Set<string>()
    await until(async () => {
      for (const { id, attempts } of await bus.deadLetters('chaos').list(60_000)) {
        expect(attempts).toBeGreaterThanOrEqual(4)
        dead.add(id)
      }
      return dead.size >= MESSAGES - good
    }, 60_000)
    const { rows } = await pool.query<{ key: string; n: number }>(`select key, n from ${schema}.effects order by at`)
    expect(rows.length).toBe(good)
    expect([...dead].filter((id) => !id.startsWith('poison-'))).toEqual([])
    for (let k = 0; k < KEYS; k++) {
      const order = rows.filter(({ key }) => key === `key-${k}`).map(({ n }) => n)
      expect(order).toEqual(Array.from({ length: perKey }, (_, n) => n).filter((n) => !isPoison(n)))
    }
    if (process.env['HOLDFAST_RABBITMQ_MESSAGES'])
      console.log(JSON.stringify({ MESSAGES, publishedMs, handledMs, killed: consumers.killed, cuts, dead: dead.size }))
  },
  LONGEST_MS + 180_000,
)

test('a consumer that is stopped beyond its heartbeats is replaced, and what it does when it wakes up no longer counts', async () => {
  const prefix = ownPrefix()
  const schema = `stopped_${process.pid}`
  const pool = await setUp(schema)
  const consumers = new Consumers({ postgresUrl: inject('postgresUrl'), prefix, schema }, [`${brokerUrl}?heartbeat=1`])
  onTestFinished(() => consumers.end())
  const bus = ownBus({ prefix, partitions: 4 })
  const first = consumers.start()
  await until(() => consumers.ready.length === 1, 60_000)
  consumers.start()
  await until(() => consumers.ready.length === 2, 60_000)
  const messages = (from: number) =>
    range(10).flatMap((k) => range(20).map((n) => ({ type: 'A', key: `key-${k}`, data: from + n })))
  const effects = async () =>
    (await pool.query<{ key: string; n: number }>(`select key, n from ${schema}.effects order by at`)).rows
  first.kill('SIGSTOP') // the messages of all partitions go to it, and it has them when it wakes up
  await bus.publish(messages(0))
  await until(async () => (await effects()).length >= 200)
  first.kill('SIGCONT')
  await bus.publish(messages(20))
  await until(async () => (await effects()).length >= 400)
  for (const k of range(10))
    expect((await effects()).filter(({ key }) => key === `key-${k}`).map(({ n }) => n)).toEqual(range(40))
}, 120_000)
