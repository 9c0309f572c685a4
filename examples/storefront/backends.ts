import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import { MemoryCacheBackplane, MemoryCacheStore, type CacheBackplane, type CacheStore } from 'holdfast/cache'
import { MemoryEventStore, type EventStore } from 'holdfast/event-sourcing'
import { MemoryTokenBucketStore, type TokenBucketStore } from 'holdfast/rate-limit'
import type { SagaStore } from 'holdfast/saga'
import { Inventory, type StockRoom } from './inventory.js'
import type { OrderEvent } from './order.js'
import type { OrdersReadModel } from './read-model.js'
import { MemoryOrders } from './read-model-memory.js'

/** Where the shop keeps what it shares with other processes. */
export interface Backends {
  readonly events: EventStore<OrderEvent>
  readonly readModel: OrdersReadModel
  readonly buckets: TokenBucketStore
  /** `undefined`: in the memory of the orchestrator. */
  readonly sagas: SagaStore | undefined
  readonly inventory: StockRoom
  /** Events, sagas and stock are in one database. */
  readonly oneDatabase: boolean
  /** The second level of the cache, and how changes of it are told. */
  readonly cache: { readonly l2: CacheStore; readonly backplane: CacheBackplane }
  /** For people: where it is. */
  readonly about: About
  close(): Promise<void>
}

/** Where everything is, for people. */
export type About = Readonly<Record<'events' | 'sagas' | 'readModel' | 'buckets' | 'cache', string>>

/** A server that was asked for does not answer. The message is for people. */
export class BackendError extends Error {
  override readonly name = 'BackendError'
}

interface Opened<T> {
  readonly store: T
  readonly about: string
  close(): Promise<unknown>
}

/**
 * Memory, or the servers at the addresses given. The rest of the shop can't tell which: that is what ports are for.
 * @throws BackendError when a server can't be reached
 */
export async function openBackends({ redis, postgres, readPostgres = postgres }: BackendOptions): Promise<Backends> {
  const opened: Opened<unknown>[] = []
  const close = async (): Promise<void> => {
    for (const one of opened.toReversed()) await one.close()
  }
  const open = async <T>(opening: Promise<Opened<T>> | Opened<T>): Promise<Opened<T>> => {
    const one = await opening
    opened.push(one)
    return one
  }
  try {
    const events = await open(postgres ? openEvents(postgres) : inMemory(new MemoryEventStore<OrderEvent>()))
    const { store } = events
    opened.push({ ...events, close: () => store.close() })
    const checkout = await open(postgres ? openCheckout(postgres) : inMemory(checkoutInMemory()))
    const readModel = await open(readPostgres ? openReadModel(readPostgres, store) : inMemory(new MemoryOrders(store)))
    const shared = await open(redis ? openRedis(redis) : inMemory(sharedMemory()))
    const about = {
      ...{ events: events.about, sagas: checkout.about, readModel: readModel.about },
      ...{ buckets: shared.about, cache: shared.about },
    }
    const oneDatabase = postgres !== undefined
    return { events: store, readModel: readModel.store, ...checkout.store, ...shared.store, oneDatabase, about, close }
  } catch (error) {
    await close()
    throw error
  }
}

interface BackendOptions {
  readonly redis?: string | undefined
  /** Of the log. */
  readonly postgres?: string | undefined
  /** Of the read model. @defaultValue the log's */
  readonly readPostgres?: string | undefined
}

const inMemory = <T>(store: T): Opened<T> => ({ store, about: 'memory', close: async () => {} })

const sharedMemory = (): Pick<Backends, 'buckets' | 'cache'> => ({
  buckets: new MemoryTokenBucketStore(),
  cache: { l2: new MemoryCacheStore(), backplane: new MemoryCacheBackplane() },
})

const checkoutInMemory = (): Pick<Backends, 'sagas' | 'inventory'> => ({ sagas: undefined, inventory: new Inventory() })

// The drivers are loaded when they are wanted: the library itself needs neither.

async function openEvents(url: string): Promise<Opened<EventStore<OrderEvent>>> {
  const { PostgresEventStore } = await import('holdfast/event-sourcing/postgres')
  return openPostgres(url, async (pool) => {
    const store = new PostgresEventStore<OrderEvent>(pool, { schema: 'storefront' })
    await store.migrate()
    return store
  })
}

/** Sagas and stock, in the schema that the events are in. */
async function openCheckout(url: string): Promise<Opened<Pick<Backends, 'sagas' | 'inventory'>>> {
  const { PostgresSagaStore } = await import('holdfast/saga/postgres')
  const { PostgresInventory } = await import('./inventory-postgres.js')
  const { Client } = (await import('pg')).default
  const listener = new Client({ connectionString: url, connectionTimeoutMillis: 3_000 })
  listener.on('error', () => {}) // it is cut: orchestrators look by themselves, only less often
  const opened = await openPostgres(
    url,
    async (pool) => {
      await listener.connect()
      const sagas = new PostgresSagaStore(pool, { schema: 'storefront', listener })
      await sagas.migrate()
      const inventory = new PostgresInventory(pool)
      await inventory.migrate()
      return { sagas, inventory }
    },
    20,
  )
  const close = async (): Promise<void> => {
    await listener.end().catch(() => {})
    await opened.close()
  }
  return { ...opened, close }
}

async function openReadModel(url: string, events: EventStore<OrderEvent>): Promise<Opened<OrdersReadModel>> {
  const { PostgresOrders } = await import('./read-model-postgres.js')
  return openPostgres(url, async (pool) => {
    const readModel = new PostgresOrders(events, pool)
    await readModel.migrate()
    const { head } = await events.readPage({ limit: 1 })
    if ((await readModel.position()) > head)
      throw new Error('its schema storefront_read is of another log than this one; drop it, and it is made anew')
    return readModel
  })
}

async function openPostgres<T>(url: string, make: (pool: Pool) => Promise<T>, max = 10): Promise<Opened<T>> {
  const { Pool } = (await import('pg')).default
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 3_000, max })
  pool.on('error', () => {}) // an idle connection was cut: the next query makes another
  try {
    return { store: await make(pool), about: 'PostgreSQL', close: () => pool.end() }
  } catch (error) {
    await pool.end()
    throw new BackendError(`PostgreSQL at ${withoutPassword(url)} can't be used: ${reasonOf(error)}`, { cause: error })
  }
}

async function openRedis(url: string): Promise<Opened<Pick<Backends, 'buckets' | 'cache'>>> {
  const { Redis } = await import('ioredis')
  const { RedisCacheBackplane, RedisCacheStore } = await import('holdfast/cache/redis')
  const { RedisTokenBucketStore } = await import('holdfast/rate-limit/redis')
  const client = new Redis(url, { lazyConnect: true, connectTimeout: 3_000, retryStrategy: null })
  let last: unknown
  client.on('error', (error) => (last = error)) // later on the limiter decides what then: see onStoreFailure
  try {
    await client.connect()
  } catch (error) {
    client.disconnect()
    throw new BackendError(`Redis at ${withoutPassword(url)} can't be used: ${reasonOf(last ?? error)}`, {
      cause: last ?? error,
    })
  }
  client.options.retryStrategy = (times) => Math.min(times * 100, 2_000) // from now on: come back when it does
  const subscriber = client.duplicate({ lazyConnect: false, autoResubscribe: false }) // the backplane subscribes anew
  subscriber.on('error', () => {}) // what it misses meanwhile the cache finds out
  // Each process has a read model of its own, which may lag behind another's: so it has entries of its own.
  const prefix = `storefront:cache:${randomUUID()}:`
  const cache = {
    l2: new RedisCacheStore(client, { prefix }),
    backplane: new RedisCacheBackplane(subscriber, { prefix }),
  }
  return {
    store: { buckets: new RedisTokenBucketStore(client), cache },
    about: 'Redis',
    close: async () => {
      client.disconnect()
      subscriber.disconnect()
    },
  }
}

function withoutPassword(url: string): string {
  const shown = new URL(url)
  if (shown.password) shown.password = '…'
  return decodeURI(shown.href)
}

/** The innermost cause has the news: `ECONNREFUSED` comes wrapped in what was being tried. */
function reasonOf(error: unknown): string {
  const { cause, message, code } = error as { cause?: unknown; message?: string; code?: string }
  return cause ? reasonOf(cause) : message || code || String(error)
}
