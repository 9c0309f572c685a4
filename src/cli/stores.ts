import type { EventStore } from '../event-sourcing/index.js'
import { PostgresEventStore } from '../event-sourcing/postgres.js'
import { RedisEventStore } from '../event-sourcing/redis.js'
import { messageOf } from '../kernel/errors.js'
import { UsageError, type Terminal } from './terminal.js'

type Opened = { readonly store: EventStore } & AsyncDisposable

/** Opens the log that the options name. @throws UsageError when they name none, or two. */
export async function openStore(
  values: {
    readonly 'database-url'?: string | undefined
    readonly schema?: string | undefined
    readonly 'redis-url'?: string | undefined
    readonly namespace?: string | undefined
  },
  { env }: Terminal,
): Promise<Opened> {
  const { 'redis-url': redisUrl, namespace, schema } = values
  if (redisUrl !== undefined) {
    const other = (['database-url', 'schema'] as const).find((option) => values[option] !== undefined)
    if (other) throw new UsageError(`--${other} goes without --redis-url`)
    return openRedis(redisUrl, namespace)
  }
  if (namespace !== undefined) throw new UsageError('--namespace goes with --redis-url')
  const url = values['database-url'] ?? env['DATABASE_URL']
  if (url === undefined) throw new UsageError('no log: give --database-url or --redis-url, or set DATABASE_URL')
  // `pg` takes anything else for a path, and then looks for a server called `base`.
  if (!/^(?:postgres(?:ql)?:|socket:|\/)/i.test(url))
    throw new UsageError('--database-url (or DATABASE_URL): expected postgres://…')
  return openPostgres(url, schema)
}

async function openPostgres(url: string, schema: string | undefined): Promise<Opened> {
  const { Pool } = (await driver('pg', () => import('pg'))).default
  const pool = new Pool({ connectionString: url, max: 2, application_name: 'holdfast' })
  pool.on('error', () => {}) // the next query tells of it
  const store = new PostgresEventStore(pool, { schema })
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close()
      await pool.end()
    },
  }
}

async function openRedis(url: string, namespace: string | undefined): Promise<Opened> {
  const { Redis } = await driver('ioredis', () => import('ioredis'))
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, connectionName: 'holdfast' })
  let why: unknown
  client.on('error', (error: unknown) => (why = error)) // what a call is told is only that the connection is closed
  try {
    await client.connect()
  } catch (error) {
    throw new Error(`Redis: ${messageOf(why ?? error)}`, { cause: error })
  }
  const store = new RedisEventStore(client, { namespace })
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close()
      client.disconnect()
    },
  }
}

/** The user's own. */
async function driver<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    throw new Error(`the driver is missing: npm install ${name}`, { cause })
  }
}
