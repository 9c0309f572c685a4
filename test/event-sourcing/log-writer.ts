import { Redis } from 'ioredis'
import pg from 'pg'
import type { Event, EventStore } from '../../src/event-sourcing/index.js'
import { PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import { RedisEventStore } from '../../src/event-sourcing/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { seededRandom } from '../../src/testing/index.js'

// One of the processes that append to one log without end, until it is killed.

/** What a writer is told. */
export interface Writing {
  readonly postgresUrl?: string
  readonly redisPort?: number
  /** Schema or namespace of the log. */
  readonly log: string
  readonly writer: number
  readonly seed: number
}

const LOOPS = 4
const e = (data: unknown): Event => ({ type: 'e', data, tags: ['t'] })

/** Transactions that take their time, roll back or lose their connection. */
async function slowly(pool: pg.Pool, store: EventStore, stream: () => string, random: () => number): Promise<void> {
  const client = await pool.connect()
  let broken = false
  try {
    await client.query('begin')
    for (let i = 0; i <= random() * 3; i++) {
      // oxlint-disable-next-line no-await-in-loop -- in one transaction
      await store.append(stream(), [e(0), e(1)], { tx: client })
      if (random() < 0.5) await systemClock.sleep(random() * 30) // oxlint-disable-line no-await-in-loop
    }
    const fate = random()
    if (fate < 0.02) await client.query('rollback')
    else if (fate < 0.03) {
      broken = true
      await client.query('select pg_terminate_backend(pg_backend_pid())').catch(() => {})
    } else await client.query('commit')
  } finally {
    client.release(broken)
  }
}

function write({ postgresUrl, redisPort, log, writer, seed }: Writing): void {
  const random = seededRandom(seed)
  const stream = (): string => `s${Math.floor(random() * 50)}-${random() < 0.2 ? 'shared' : writer}`
  const pool = new pg.Pool({ connectionString: postgresUrl, max: LOOPS + 2 })
  pool.on('error', () => {})
  const store: EventStore =
    postgresUrl === undefined
      ? new RedisEventStore(new Redis(redisPort as number), { namespace: log })
      : new PostgresEventStore(pool, { schema: log })
  let begun = false
  const loop = async (): Promise<never> => {
    for (;;) {
      const kind = random()
      // oxlint-disable no-await-in-loop -- one after the other, without end
      if (postgresUrl !== undefined && kind < 0.5) await slowly(pool, store, stream, random)
      else if (kind < 0.6) {
        const streams = [...new Set([stream(), stream()])]
        await store.appendAll(streams.map((name) => ({ stream: name, events: [e(2)] })))
      } else await store.append(stream(), [e(3)])
      if (!begun) process.send?.('begun')
      begun = true
      if (random() < 0.3) await systemClock.sleep(random() * 10)
      // oxlint-enable no-await-in-loop
    }
  }
  const restart = (): void => void loop().catch(restart) // a deadlock between transactions, a lost connection
  for (let i = 0; i < LOOPS; i++) restart()
}

process.once('message', (writing: Writing) => write(writing))
process.once('disconnect', () => process.exit())
