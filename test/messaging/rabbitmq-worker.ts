import amqp from 'amqplib'
import { Pool, type PoolClient } from 'pg'
import { systemClock } from '../../src/kernel/clock.js'
import type { Inbox } from '../../src/messaging/index.js'
import { RabbitMqEventBus } from '../../src/messaging/rabbitmq.js'

// One of several consumers of one group, that may be killed at any moment: writes one row per message, in the inbox's transaction.

/** What a worker is told, first of all. */
export interface Job {
  readonly rabbitmqUrl: string
  readonly postgresUrl: string
  readonly prefix: string
  readonly schema: string
}

/** Who was first writes; who comes while he writes waits for him. */
function inbox(pool: Pool, schema: string): Inbox<PoolClient> {
  return {
    async once(group, id, work) {
      const client = await pool.connect()
      client.on('error', () => {})
      try {
        await client.query('begin')
        const first = await client.query(
          `insert into ${schema}.handled (grp, id) values ($1, $2) on conflict do nothing returning id`,
          [group, id],
        )
        if (first.rowCount === 1) await work(client)
        await client.query('commit')
        return first.rowCount === 1
      } catch (error) {
        await client.query('rollback').catch(() => {})
        throw error
      } finally {
        client.removeAllListeners('error')
        client.release()
      }
    },
  }
}

async function run({ rabbitmqUrl, postgresUrl, prefix, schema }: Job): Promise<void> {
  const pool = new Pool({ connectionString: postgresUrl, max: 8 })
  pool.on('error', () => {})
  const bus = new RabbitMqEventBus({
    connect: () => amqp.connect(rabbitmqUrl),
    prefix,
    partitions: 4,
    deliveryLimit: 10_000,
  })
  for (;;) {
    try {
      await bus.subscribe({
        group: 'chaos',
        types: ['A'],
        concurrency: 8,
        inbox: inbox(pool, schema),
        retry: { attempts: 4, backoff: () => 30 },
        handle: async ({ id, key, data }, { tx, attempt }) => {
          const n = data as number
          if (id.startsWith('poison')) throw new Error(`poison ${attempt}`)
          if (n % 37 === 5 && attempt === 1) throw new Error('once more')
          await tx.query(`insert into ${schema}.effects (key, n) values ($1, $2)`, [key, n])
        },
      })
      break
    } catch {
      await systemClock.sleep(50) // the line was cut meanwhile
    }
  }
  process.send?.('ready')
}

process.once('message', (job: Job) => void run(job))
