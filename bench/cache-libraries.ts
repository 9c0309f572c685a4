import KeyvRedis from '@keyv/redis'
import { createCache as createDedupe } from 'async-cache-dedupe'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis'
import { createCache as createManager } from 'cache-manager'
import { Cacheable } from 'cacheable'
import { CacheManager } from 'holdfast/cache'
import { RedisCacheBackplane, RedisCacheStore } from 'holdfast/cache/redis'
import { Redis } from 'ioredis'
import { Keyv } from 'keyv'

const TTL_MS = 3_600_000

/** A cache in two levels, as one process of many has it. */
export interface Library {
  get(key: string): Promise<unknown>
  getOrSet(key: string, load: () => Promise<string>): Promise<unknown>
  set(key: string, value: string): Promise<unknown>
  delete(key: string): Promise<unknown>
}

/** Ports of 127.0.0.1: of Redis, or of lines that lead to it. */
export interface Ports {
  readonly commands: number
  readonly messages: number
}

function redis(port: number): Redis {
  const client = new Redis(port, '127.0.0.1')
  client.on('error', () => {})
  return client
}

function keyvRedis(port: number): KeyvRedis<string> {
  const store = new KeyvRedis<string>(`redis://127.0.0.1:${port}`)
  store.on('error', () => {})
  return store
}

function holdfast({ commands, messages }: Ports): Library {
  const cache = new CacheManager<Record<string, string>>({
    l2: new RedisCacheStore(redis(commands)),
    backplane: new RedisCacheBackplane(redis(messages)),
    defaults: { ttlMs: TTL_MS },
  })
  return {
    get: (key) => cache.get(key),
    getOrSet: (key, load) => cache.getOrSet(key, load),
    set: (key, value) => cache.set(key, value),
    delete: (key) => cache.delete(key),
  }
}

function bentocache({ commands, messages }: Ports): Library {
  const cache = new BentoCache({
    default: 'both',
    stores: {
      both: bentostore()
        .useL1Layer(memoryDriver({ maxItems: 10_000 }))
        .useL2Layer(redisDriver({ connection: redis(commands) as never }))
        .useBus(redisBusDriver({ connection: { host: '127.0.0.1', port: messages } })),
    },
  })
  return {
    get: (key) => cache.get({ key }),
    getOrSet: (key, factory) => cache.getOrSet({ key, ttl: '1h', factory }),
    set: (key, value) => cache.set({ key, value, ttl: '1h' }),
    delete: (key) => cache.delete({ key }),
  }
}

function cacheable({ commands }: Ports): Library {
  const cache = new Cacheable({ ttl: TTL_MS, secondary: keyvRedis(commands) })
  cache.on('error', () => {})
  return {
    get: (key) => cache.get(key),
    getOrSet: (key, load) => cache.getOrSet(key, load),
    set: (key, value) => cache.set(key, value),
    delete: (key) => cache.delete(key),
  }
}

function cacheManager({ commands }: Ports): Library {
  const second = new Keyv({ store: keyvRedis(commands) })
  second.on('error', () => {})
  const cache = createManager({ ttl: TTL_MS, stores: [new Keyv(), second] })
  return {
    get: (key) => cache.get(key),
    getOrSet: (key, load) => cache.wrap(key, load),
    set: (key, value) => cache.set(key, value),
    delete: (key) => cache.del(key),
  }
}

/** It has no `set`, and one level at a time. */
function asyncCacheDedupe({ commands }: Ports): Pick<Library, 'getOrSet'> {
  let load: () => Promise<string>
  const cache = createDedupe({
    ttl: TTL_MS / 1_000,
    storage: { type: 'redis', options: { client: redis(commands) as never } },
  }).define('value', (_: string) => load())
  return {
    getOrSet: (key, given) => {
      load = given
      return cache.value(key)
    },
  }
}

/** Each with its default options and those of its clients. */
export const libraries = { holdfast, bentocache, cacheable, 'cache-manager': cacheManager }

/** And those that have less than a {@link Library}. */
export const loaders: Record<string, (ports: Ports) => Pick<Library, 'getOrSet'>> = {
  ...libraries,
  'async-cache-dedupe': asyncCacheDedupe,
}
