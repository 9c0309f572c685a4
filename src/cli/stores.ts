import type { EventStore } from '../event-sourcing/index.js'
import { PostgresEventStore } from '../event-sourcing/postgres.js'
import { RedisEventStore } from '../event-sourcing/redis.js'
import { messageOf } from '../kernel/errors.js'
import { PostgresSagaStore } from '../saga/postgres.js'
import { RedisSagaStore } from '../saga/redis.js'
import { UsageError, type Terminal } from './terminal.js'

type Opened<Store> = { readonly store: Store } & AsyncDisposable

/** Options that say where something is kept, as they were given. */
export interface Place {
  readonly 'database-url'?: string | undefined
  readonly schema?: string | undefined
  readonly 'redis-url'?: string | undefined
  /** What its keys on Redis begin with. */
  readonly prefix?: string | undefined
}

/** Opens the log that the options name. @throws UsageError when they name none, or two. */
export async function openStore(
  { namespace, ...values }: Omit<Place, 'prefix'> & { readonly namespace?: string | undefined },
  terminal: Terminal,
): Promise<Opened<EventStore>> {
  const place = placeOf({ ...values, prefix: namespace }, { what: 'log', prefix: 'namespace' }, terminal)
  const opened = await connect(place)
  const store =
    opened.kind === 'redis'
      ? new RedisEventStore(opened.client, { namespace })
      : new PostgresEventStore(opened.pool, { schema: values.schema })
  return {
    store,
    async [Symbol.asyncDispose]() {
      await store.close()
      await opened.close()
    },
  }
}

/** Opens the sagas that the options name. @throws UsageError when they name none, or two. */
export async function openSagas(
  values: Place,
  terminal: Terminal,
): Promise<Opened<PostgresSagaStore | RedisSagaStore>> {
  const { schema, prefix } = values
  const opened = await connect(placeOf(values, { what: 'sagas', prefix: 'prefix' }, terminal))
  const store =
    opened.kind === 'redis'
      ? new RedisSagaStore(opened.client, { prefix })
      : new PostgresSagaStore(opened.pool, { schema, notify: true }) // orchestrators hear of an order at once
  return { store, [Symbol.asyncDispose]: () => opened.close() }
}

/** The one server that the options name. */
function placeOf(
  values: Place,
  { what, prefix }: { readonly what: string; readonly prefix: string },
  { env }: Terminal,
): { readonly kind: 'postgres' | 'redis'; readonly url: string } {
  const { 'redis-url': redisUrl } = values
  if (redisUrl !== undefined) {
    const other = (['database-url', 'schema'] as const).find((option) => values[option] !== undefined)
    if (other) throw new UsageError(`--${other} goes without --redis-url`)
    return { kind: 'redis', url: redisUrl }
  }
  if (values.prefix !== undefined) throw new UsageError(`--${prefix} goes with --redis-url`)
  const url = values['database-url'] ?? env['DATABASE_URL']
  if (url === undefined) throw new UsageError(`no ${what}: give --database-url or --redis-url, or set DATABASE_URL`)
  // `pg` takes anything else for a path, and then looks for a server called `base`.
  if (!/^(?:postgres(?:ql)?:|socket:|\/)/i.test(url))
    throw new UsageError('--database-url (or DATABASE_URL): expected postgres://…')
  return { kind: 'postgres', url }
}

const connect = ({ kind, url }: ReturnType<typeof placeOf>) => (kind === 'redis' ? openRedis(url) : openPostgres(url))

async function openPostgres(url: string) {
  const { Pool } = (await driver('pg', () => import('pg'))).default
  const pool = new Pool({ connectionString: url, max: 2, application_name: 'holdfast' })
  pool.on('error', () => {}) // the next query tells of it
  return { kind: 'postgres', pool, close: () => pool.end() } as const
}

async function openRedis(url: string) {
  const { Redis } = await driver('ioredis', () => import('ioredis'))
  const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null, connectionName: 'holdfast' })
  let why: unknown
  client.on('error', (error: unknown) => (why = error)) // what a call is told is only that the connection is closed
  try {
    await client.connect()
  } catch (error) {
    throw new Error(`Redis: ${messageOf(why ?? error)}`, { cause: error })
  }
  return { kind: 'redis', client, close: async () => client.disconnect() } as const
}

/** The user's own. */
async function driver<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    throw new Error(`the driver is missing: npm install ${name}`, { cause })
  }
}
