import { Redis } from 'ioredis'
import pg from 'pg'
import { PostgresOutbox } from '../../src/messaging/postgres.js'

// A relay of its own process: publishes to a Redis stream, in order, and never lets a batch end half-way by itself.
const [databaseUrl, redisUrl, schema, stream] = process.argv.slice(2) as [string, string, string, string]
const pool = new pg.Pool({ connectionString: databaseUrl, max: 4 })
pool.on('error', () => {})
const listener = new pg.Client({ connectionString: databaseUrl })
listener.on('error', () => {})
await listener.connect()
const redis = new Redis(redisUrl)
const outbox = new PostgresOutbox(pool, { schema, listener })
const relay = outbox.relay(
  {
    publish: async (messages) => {
      const line = redis.pipeline()
      for (const { id, key } of [messages].flat()) line.xadd(stream, '*', 'id', id ?? '', 'key', key ?? '')
      await line.exec()
    },
  },
  { leaseMs: 1_000, pollMs: 200, batchSize: 50 },
)
relay.on('partitions', ({ owned }) => process.send?.(owned))
setInterval(() => {}, 1_000)
