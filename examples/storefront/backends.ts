import { randomUUID } from 'node:crypto'
import { MemoryCacheBackplane, MemoryCacheStore, type CacheBackplane, type CacheStore } from 'holdfast/cache'
import { MemoryEventStore, type EventStore } from 'holdfast/event-sourcing'
import { MemoryTokenBucketStore, type TokenBucketStore } from 'holdfast/rate-limit'

/** Where the shop keeps what it shares with other processes. */
export interface Backends {
  readonly events: EventStore
  readonly buckets: TokenBucketStore
  /** The second level of the cache, and how changes of it are told. */
  readonly cache: { readonly l2: CacheStore; readonly backplane: CacheBackplane }
  /** For people: where it is. */
  readonly about: { readonly events: string; readonly buckets: string; readonly cache: string }
  close(): Promise<void>
}

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
export async function openBackends({
  redis,
  postgres,
}: {
  readonly redis?: string | undefined
  readonly postgres?: string | undefined
}): Promise<Backends> {
  const events = postgres ? await openPostgres(postgres) : inMemory(new MemoryEventStore())
  const shared = redis
    ? await openRedis(redis).catch(async (error: unknown) => {
        await events.close()
        throw error
      })
    : inMemory({
        buckets: new MemoryTokenBucketStore(),
        cache: { l2: new MemoryCacheStore(), backplane: new MemoryCacheBackplane() },
      })
  return {
    events: events.store,
    ...shared.store,
    about: { events: events.about, buckets: shared.about, cache: shared.about },
    async close() {
      await events.store.close()
      await Promise.all([events.close(), shared.close()])
    },
  }
}

const inMemory = <T>(store: T): Opened<T> => ({ store, about: 'memory', close: async () => {} })

// The drivers are loaded when they are wanted: the library itself needs neither.

async function openPostgres(url: string): Promise<Opened<EventStore>> {
  const { Pool } = (await import('pg')).default
  const { PostgresEventStore } = await import('holdfast/event-sourcing/postgres')
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 3_000 })
  pool.on('error', () => {}) // an idle connection was cut: the next query makes another
  const store = new PostgresEventStore(pool, { schema: 'storefront' })
  try {
    await store.migrate()
  } catch (error) {
    await pool.end()
    throw new BackendError(`PostgreSQL at ${withoutPassword(url)} can't be used: ${reasonOf(error)}`, { cause: error })
  }
  return { store, about: 'PostgreSQL', close: () => pool.end() }
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
  const subscriber = client.duplicate({ lazyConnect: false })
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
