import amqp from 'amqplib'
import { Pool } from 'pg'
import { systemClock } from '../../src/kernel/clock.js'
import { PostgresInbox } from '../../src/messaging/postgres.js'
import { RabbitMqEventBus } from '../../src/messaging/rabbitmq.js'

// One of several consumers of one group, that may be stopped or killed at any moment: writes one row per message, in the inbox's transaction.

/** What a worker is told, first of all. */
export interface Job {
  readonly rabbitmqUrl: string
  readonly postgresUrl: string
  readonly prefix: string
  readonly schema: string
}

async function run({ rabbitmqUrl, postgresUrl, prefix, schema }: Job): Promise<void> {
  const pool = new Pool({ connectionString: postgresUrl, max: 8 })
  pool.on('error', () => {})
  const inbox = new PostgresInbox(pool, { schema })
  const bus = new RabbitMqEventBus({
    connect: () => amqp.connect(rabbitmqUrl),
    prefix,
    partitions: 4,
    deliveryLimit: 1_000_000,
  })
  for (;;) {
    try {
      await bus.subscribe({
        group: 'chaos',
        types: ['A'],
        concurrency: 8,
        inbox,
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
process.once('disconnect', () => process.exit())
