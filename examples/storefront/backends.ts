import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import { MemoryCacheBackplane, MemoryCacheStore, type CacheBackplane, type CacheStore } from 'holdfast/cache'
import { MemoryEventStore, type EventStore } from 'holdfast/event-sourcing'
import type { SqlListener } from 'holdfast/messaging/postgres'
import { MemoryTokenBucketStore, type TokenBucketStore } from 'holdfast/rate-limit'
import type { SagaStore } from 'holdfast/saga'
import { busInMemory, openBus } from './bus.js'
import { Inventory, type StockRoom } from './inventory.js'
import type { OrderEvent } from './order.js'
import type { OrdersReadModel } from './read-model.js'
import { MemoryPaymentBooks, type PaymentBooks } from './payment-books.js'
import { MemoryPaymentNotes, type PaymentNotes } from './payment-notes.js'
import { MemoryOrders } from './read-model-memory.js'
import { connectRedis, listenerOf } from './redis.js'
import { Carrier, type ParcelDesk } from './shipping.js'
import { Talk, type Conversation } from './shop-messages.js'

/** Where the shop keeps what it shares with other processes. */
export interface Backends {
  readonly events: EventStore<OrderEvent>
  readonly readModel: OrdersReadModel
  readonly buckets: TokenBucketStore
  /** `undefined`: in the memory of the orchestrator. */
  readonly sagas: SagaStore | undefined
  readonly inventory: StockRoom
  readonly carrier: ParcelDesk
  readonly notes: PaymentNotes
  /** How the services of a choreographed checkout talk. It is closed by who uses it. */
  readonly talk: Conversation
  /** Of a payment provider that the shop starts itself. */
  readonly books: PaymentBooks
  /** Events, sagas and stock are in one database. */
  readonly oneDatabase: boolean
  /** The second level of the cache, and how changes of it are told. */
  readonly cache: { readonly l2: CacheStore; readonly backplane: CacheBackplane }
  /** For people: where it is. */
  readonly about: About
  close(): Promise<void>
}

/** Where everything is, for people. */
export type About = Readonly<Record<'events' | 'sagas' | 'messages' | 'readModel' | 'buckets' | 'cache', string>>

/** A server that was asked for does not answer. The message is for people. */
export class BackendError extends Error {
  override readonly name = 'BackendError'
}

interface Opened<T> {
  readonly store: T
  readonly about: string
  readonly close: () => Promise<unknown>
}

/**
 * Memory, or the servers at the addresses given. The rest of the shop can't tell which: that is what ports are for.
 * @throws BackendError when a server can't be reached
 */
export async function openBackends(options: BackendOptions): Promise<Backends> {
  const { redis, postgres, readPostgres = postgres, rabbitmq, patienceMs } = options
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
    const how = { broker: rabbitmq ?? redis, patienceMs }
    const checkout = await open(postgres ? openCheckout(postgres, how) : inMemory(checkoutInMemory()))
    const books = await open(postgres ? openBooks(postgres) : inMemory(new MemoryPaymentBooks()))
    const readModel = await open(readPostgres ? openReadModel(readPostgres, store) : inMemory(new MemoryOrders(store)))
    const shared = await open(redis ? openRedis(redis) : inMemory(sharedMemory()))
    const about = {
      ...{ events: events.about, sagas: checkout.about, messages: checkout.store.messages, readModel: readModel.about },
      ...{ buckets: shared.about, cache: shared.about },
    }
    const oneDatabase = postgres !== undefined
    const own = { events: store, books: books.store, readModel: readModel.store }
    return { ...own, ...checkout.store, ...shared.store, oneDatabase, about, close }
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
  /** For messages. @defaultValue Redis */
  readonly rabbitmq?: string | undefined
  /** Milliseconds after which a message that no service has handled is said again. @defaultValue 5_000 */
  readonly patienceMs?: number | undefined
}

const inMemory = <T>(store: T): Opened<T> => ({ store, about: 'memory', close: async () => {} })

const sharedMemory = (): Pick<Backends, 'buckets' | 'cache'> => ({
  buckets: new MemoryTokenBucketStore(),
  cache: { l2: new MemoryCacheStore(), backplane: new MemoryCacheBackplane() },
})

/** What checkouts work with. */
interface ForCheckout extends Pick<Backends, 'sagas' | 'inventory' | 'carrier' | 'notes' | 'talk'> {
  /** Where the messages are. */
  readonly messages: string
}

const checkoutInMemory = (): ForCheckout => ({
  ...{ sagas: undefined, inventory: new Inventory(), carrier: new Carrier() },
  ...{ talk: new Talk(), messages: 'memory', notes: new MemoryPaymentNotes() },
})

// The drivers are loaded when they are wanted: the library itself needs neither.

async function openEvents(url: string): Promise<Opened<EventStore<OrderEvent>>> {
  const { PostgresEventStore } = await import('holdfast/event-sourcing/postgres')
  return openPostgres(url, async (pool) => {
    const store = new PostgresEventStore<OrderEvent>(pool, { schema: 'storefront' })
    await store.migrate()
    return store
  })
}

interface Talking extends Pick<BackendOptions, 'patienceMs'> {
  /** Where messages go. @defaultValue each shop has a bus of its own, in memory */
  readonly broker?: string | undefined
}

/** Sagas, and what the services keep, in the schema that the events are in. */
async function openCheckout(url: string, how: Talking): Promise<Opened<ForCheckout>> {
  const { PostgresSagaStore } = await import('holdfast/saga/postgres')
  const { PostgresInventory } = await import('./inventory-postgres.js')
  const { PostgresCarrier, PostgresPaymentNotes } = await import('./services-postgres.js')
  const { Client } = (await import('pg')).default
  const listener = new Client({ connectionString: url, connectionTimeoutMillis: 3_000 })
  listener.on('error', () => {}) // it is cut: orchestrators and relays look by themselves, only less often
  let closeTalk = async (): Promise<void> => {}
  const close = async (): Promise<void> => {
    await closeTalk()
    await listener.end().catch(() => {})
  }
  const make = async (pool: Pool): Promise<ForCheckout> => {
    await listener.connect()
    const sagas = new PostgresSagaStore(pool, { schema: 'storefront', listener })
    await sagas.migrate()
    const [inventory, carrier] = [new PostgresInventory(pool), new PostgresCarrier(pool)]
    const notes = new PostgresPaymentNotes(pool)
    for (const tables of [inventory, carrier, notes]) await tables.migrate()
    const opened = await openTalk(pool, listener, how)
    closeTalk = () => opened.close()
    return { sagas, inventory, carrier, notes, talk: opened.talk, messages: opened.messages }
  }
  try {
    const { store, about, close: closePool } = await openPostgres(url, make, 20)
    return { store, about, close: () => close().then(closePool) }
  } catch (error) {
    await close()
    throw error
  }
}

/** Messages by way of an outbox and inboxes, so that none is lost and none counts twice. */
async function openTalk(pool: Pool, listener: SqlListener, { broker, patienceMs }: Talking) {
  const { LastingTalk, nameOfLog } = await import('./shop-messages-postgres.js')
  const opened = broker
    ? await openBus(broker, await nameOfLog(pool)).catch((error: unknown) =>
        unusable(broker.startsWith('amqp') ? 'RabbitMQ' : 'Redis', broker, error),
      )
    : busInMemory()
  const talk = new LastingTalk(pool, opened.bus, { listener, patienceMs })
  await talk.migrate().catch(async (error: unknown) => {
    await opened.close()
    throw error
  })
  return { talk, messages: opened.about, close: () => opened.close() }
}

/** The payment provider is somebody else: it does not wait for the shop's connections. */
async function openBooks(url: string): Promise<Opened<PaymentBooks>> {
  const { PostgresPaymentBooks } = await import('./payment-books-postgres.js')
  const make = async (pool: Pool): Promise<PaymentBooks> => {
    const books = new PostgresPaymentBooks(pool)
    await books.migrate()
    return books
  }
  return openPostgres(url, make, 5)
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
    if (error instanceof BackendError) throw error // of another one
    return unusable('PostgreSQL', url, error)
  }
}

async function openRedis(url: string): Promise<Opened<Pick<Backends, 'buckets' | 'cache'>>> {
  const { RedisCacheBackplane, RedisCacheStore } = await import('holdfast/cache/redis')
  const { RedisTokenBucketStore } = await import('holdfast/rate-limit/redis')
  const client = await connectRedis(url).catch((error: unknown) => unusable('Redis', url, error))
  const subscriber = listenerOf(client) // what it misses the cache finds out
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

/** @throws BackendError always */
function unusable(what: string, url: string, error: unknown): never {
  throw new BackendError(`${what} at ${withoutPassword(url)} can't be used: ${reasonOf(error)}`, { cause: error })
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
