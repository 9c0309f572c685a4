import { createHash } from 'node:crypto'
import { Redis } from 'ioredis'
import pg from 'pg'
import type { SqlPool, SqlResult } from '../../../src/kernel/postgres.js'
import type { SagaStore } from '../../../src/saga/index.js'
import type { IoRedisLike } from '../../../src/kernel/redis.js'
import { PostgresSagaStore } from '../../../src/saga/postgres.js'
import { RedisSagaStore } from '../../../src/saga/redis.js'
import { claimLua, commitLua, createLua, deliverLua, listLua, readLua, renewLua } from '../../../src/saga/redis.lua.js'

// The stores of the matrix, with an eye on all that is sent to their servers.

/** Called before a statement or command is sent; then when it is on its way, and when its answer is there. */
export type Watch = (what: string) => { sent(): void; answered(): void }

export interface Urls {
  readonly postgres: string
  readonly redis: string
}

/** A server that is connected. */
export interface Connected {
  /** Whether its stores have transactions. */
  readonly transactions: boolean
  open(place: string, watch?: Watch): SagaStore
  /** Makes what a store needs there. */
  prepare(place: string): Promise<void>
  close(): Promise<void>
}

export interface StoreKind {
  readonly name: string
  connect(urls: Urls): Promise<Connected>
}

const nobody: Watch = () => ({ sent: () => {}, answered: () => {} })

/** What a statement of the store is for, by its text. */
function purposeOf(text: string): string {
  const known: readonly (readonly [RegExp, string])[] = [
    [/epoch = s\.epoch \+ 1/, 'claim'],
    [/as due_in, min\(now\.now\)/, 'next'],
    [/unnest\(\$9::int\[\]/, 'commit'],
    [/string_agg/, 'read'],
    [/saga_deliver/, 'deliver'],
    [/insert into .*\.sagas/, 'create'],
    [/set wake_at = /, 'renew'],
    [/with gone/, 'sweep'],
    [/insert into .*\.ledger/, 'ledger'],
  ]
  return known.find(([pattern]) => pattern.test(text))?.[1] ?? text.trim().split(/\s/, 1)[0]!.toUpperCase()
}

type AnyQuery = (...args: unknown[]) => Promise<SqlResult>

/** A pool whose statements are watched one by one. */
export function watched(pool: pg.Pool, watch: Watch): SqlPool {
  const send = async (client: pg.PoolClient, args: unknown[]): Promise<SqlResult> => {
    const [first] = args
    const statement = watch(purposeOf(typeof first === 'string' ? first : (first as { text: string }).text))
    const answer = (client.query as unknown as AnyQuery).apply(client, args) // written to its socket at once: the client is idle
    statement.sent()
    const result = await answer
    statement.answered()
    return result
  }
  return {
    get totalCount() {
      return pool.totalCount
    },
    async query(...args: unknown[]) {
      const client = await pool.connect()
      try {
        return await send(client, args)
      } finally {
        client.release()
      }
    },
    async connect() {
      const client = await pool.connect()
      return {
        query: (...args: unknown[]) => send(client, args),
        release: (error) => client.release(error),
        on: (event, listener) => client.on(event, listener),
        removeListener: (event, listener) => client.removeListener(event, listener),
      }
    },
  }
}

const postgres: StoreKind = {
  name: 'PostgreSQL',
  async connect(urls) {
    const pool = new pg.Pool({ connectionString: urls.postgres, max: 4 })
    pool.on('error', () => {})
    await Promise.all([pool.query('select 1'), pool.query('select 1')])
    return {
      transactions: true,
      open: (place, watch = nobody) => new PostgresSagaStore(watched(pool, watch), { schema: place }),
      prepare: (place) => new PostgresSagaStore(pool, { schema: place }).migrate(),
      close: () => pool.end(),
    }
  },
}

/** What a script of the store is for, by its digest. */
const scripts = new Map<unknown, string>(
  Object.entries({
    create: createLua,
    claim: claimLua,
    renew: renewLua,
    commit: commitLua,
    deliver: deliverLua,
    read: readLua,
    list: listLua,
  }).map(([name, lua]) => [createHash('sha1').update(lua).digest('hex'), name]),
)

/** A client whose commands are watched one by one. */
const watchedRedis = (client: Redis, watch: Watch): IoRedisLike => ({
  async call(command, ...args) {
    const what = scripts.get(args[0]) ?? command
    const told = watch(what)
    const answer = client.call(command, ...args) // written to its socket at once: the client is connected
    told.sent()
    const result = await answer
    told.answered()
    return result
  },
})

const redis: StoreKind = {
  name: 'Redis',
  async connect(urls) {
    const client = new Redis(urls.redis)
    client.on('error', () => {})
    await client.ping()
    return {
      transactions: false,
      open: (place, watch = nobody) => new RedisSagaStore(watchedRedis(client, watch), { prefix: `${place}:` }),
      prepare: async () => {},
      close: async () => void (await client.quit()),
    }
  },
}

export const STORES: readonly StoreKind[] = [postgres, redis]
