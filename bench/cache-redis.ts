import { createCache as createDedupe } from 'async-cache-dedupe'
import { BentoCache, bentostore } from 'bentocache'
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis'
import { memoryDriver } from 'bentocache/drivers/memory'
import { createCache as createManager } from 'cache-manager'
import { CacheManager } from 'holdfast/cache'
import { RedisCacheBackplane, RedisCacheStore } from 'holdfast/cache/redis'
import { Redis } from 'ioredis'
import KeyvRedis from '@keyv/redis'
import { Keyv } from 'keyv'
import { ManualCache, RedisCache } from 'layered-loader'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Candidate, type Comparison } from './harness.js'
import { keys, product, type Product } from './product.js'

const TTL_MS = 3_600_000
let at = 0
const key = (): string => keys[at++ % keys.length] as string
const hundred = keys.slice(0, 100)

const RAW = 'ioredis GET and JSON.parse (floor)'
const OURS = 'holdfast, get'
const RAW_SET = 'JSON.stringify and ioredis SET (floor)'
const OURS_SET = 'holdfast with backplane, set'
const BENTO = 'bentocache, get'

/** An answer that is late would not be measured but replaced: here it is waited for. */
const patient = { l2TimeoutMs: 10_000, defaults: { ttlMs: TTL_MS } }

async function reads(url: string): Promise<readonly Candidate[]> {
  const raw = new Redis(url)
  const store = new RedisCacheStore(new Redis(url))
  const ours = new CacheManager<Record<string, Product>>({ l1: false, l2: store, ...patient })
  const tagged = new CacheManager<Record<string, Product>>({
    l1: false,
    l2: new RedisCacheStore(new Redis(url), { prefix: 'tagged:' }),
    ...patient,
  })
  const bento = new BentoCache({
    default: 'redis',
    stores: { redis: bentostore().useL2Layer(redisDriver({ connection: new Redis(url) as never })) },
  })
  const manager = createManager({ ttl: TTL_MS, stores: [new Keyv({ store: new KeyvRedis(url) })] })
  const dedupe = createDedupe({
    ttl: TTL_MS / 1_000,
    storage: { type: 'redis', options: { client: new Redis(url) as never } },
  }).define('product', async (id: string) => product(id))
  const layered = new RedisCache<Product>(new Redis(url) as never, {
    json: true,
    ttlInMsecs: TTL_MS,
    prefix: 'layered',
  })
  for (const id of keys) {
    await raw.set(`raw:${id}`, JSON.stringify(product(id)), 'PX', TTL_MS)
    await ours.set(id, product(id))
    await tagged.set(id, product(id), { tags: ['a', id] })
    await bento.set({ key: id, value: product(id), ttl: '1h' })
    await manager.set(id, product(id))
    await dedupe.product(id)
    await layered.set(id, product(id))
  }
  return [
    { name: RAW, batch: sequential(async () => JSON.parse((await raw.get(`raw:${key()}`)) as string)) },
    { name: OURS, batch: sequential(() => ours.get(key())) },
    { name: 'holdfast, get, two tags', batch: sequential(() => tagged.get(key())) },
    { name: BENTO, batch: sequential(() => bento.get({ key: key() })) },
    { name: 'cache-manager, get', batch: sequential(() => manager.get(key())) },
    { name: 'async-cache-dedupe', batch: sequential(() => dedupe.product(key())) },
    { name: 'layered-loader, get', batch: sequential(() => layered.get(key())) },
  ]
}

async function many(url: string): Promise<Comparison> {
  const raw = new Redis(url)
  const ours = new CacheManager<Record<string, Product>>({
    l1: false,
    l2: new RedisCacheStore(new Redis(url)),
    ...patient,
  })
  for (const id of hundred) await ours.set(id, product(id))
  for (const id of hundred) await raw.set(`raw:${id}`, JSON.stringify(product(id)), 'PX', TTL_MS)
  const names = hundred.map((id) => `raw:${id}`)
  const [mget, getMany] = ['ioredis MGET and JSON.parse (floor)', 'holdfast, getMany']
  return {
    title: 'Cache on Redis, 100 keys at once',
    callers: 1,
    candidates: [
      { name: mget, batch: sequential(async () => (await raw.mget(names)).map((text) => JSON.parse(text as string))) },
      { name: getMany, batch: sequential(() => ours.getMany(hundred)) },
    ],
    targets: [{ candidate: getMany, than: mget, rate: 1 / 1.4 }],
  }
}

async function writes(url: string): Promise<readonly Candidate[]> {
  const raw = new Redis(url)
  const ours = new CacheManager<Record<string, Product>>({
    l2: new RedisCacheStore(new Redis(url), { prefix: 'writes:' }),
    backplane: new RedisCacheBackplane(new Redis(url), { prefix: 'writes:' }),
    ...patient,
  })
  const bento = new BentoCache({
    default: 'redis',
    stores: {
      redis: bentostore()
        .useL1Layer(memoryDriver({ maxItems: 10_000 }))
        .useL2Layer(redisDriver({ connection: new Redis(url) as never }))
        .useBus(redisBusDriver({ connection: new Redis(url) as never })),
    },
  })
  const layered = new ManualCache<Product>({
    inMemoryCache: { cacheType: 'lru-object', maxItems: 10_000, ttlInMsecs: TTL_MS },
    asyncCache: new RedisCache<Product>(new Redis(url) as never, { json: true, ttlInMsecs: TTL_MS, prefix: 'layered' }),
  })
  const set = (store: (id: string, value: Product) => Promise<unknown>): Candidate['batch'] =>
    sequential(() => {
      const id = key()
      return store(id, product(id))
    })
  return [
    { name: RAW_SET, batch: set((id, value) => raw.set(`raw:${id}`, JSON.stringify(value), 'PX', TTL_MS)) },
    { name: OURS_SET, batch: set((id, value) => ours.set(id, value)) },
    { name: 'bentocache with bus, set', batch: set((id, value) => bento.set({ key: id, value, ttl: '1h' })) },
    { name: 'layered-loader without notifications, set', batch: set((id, value) => layered.set(id, value)) },
  ]
}

/** Entries that carry the tag; the time must not depend on it. */
const ENTRIES = 100_000

async function tags(url: string): Promise<Comparison> {
  const raw = new Redis(url)
  const store = new RedisCacheStore(new Redis(url), { prefix: 'tags:' })
  const ours = new CacheManager<Record<string, number>>({ l1: { maxEntries: ENTRIES }, l2: store, ...patient })
  for (let from = 0; from < ENTRIES; from += 1_000)
    await Promise.all(Array.from({ length: 1_000 }, (_, i) => ours.set(`k${from + i}`, i, { tags: ['all'] })))
  const [incr, invalidate] = ['one INCR (floor)', 'holdfast, invalidateTags']
  return {
    title: 'Cache on Redis, a tag of 100,000 entries is invalidated',
    callers: 1,
    candidates: [
      { name: incr, batch: sequential(() => raw.incr('count')) },
      { name: invalidate, batch: sequential(() => ours.invalidateTags('all')) },
    ],
    targets: [{ candidate: invalidate, than: incr, rate: 1 / 2 }],
  }
}

/** One Redis, and one connection for each candidate. */
export async function cacheRedis(): Promise<readonly Comparison[]> {
  const { url } = await new Servers().redis() // ends with this process
  const reading = await reads(url)
  const writing = await writes(url)
  return [
    {
      title: 'Cache, second-level hit on Redis, 1 caller',
      callers: 1,
      candidates: reading,
      targets: [{ candidate: OURS, than: RAW, rate: 0.85 }],
    },
    {
      title: 'Cache, second-level hit on Redis, 64 callers at once',
      callers: 64,
      candidates: reading,
      targets: [
        { candidate: OURS, than: RAW, rate: 2 },
        { candidate: OURS, than: BENTO, rate: 4 },
      ],
    },
    await many(url),
    {
      title: 'Cache in two levels on Redis, set, 64 callers at once',
      callers: 64,
      candidates: writing,
      targets: [{ candidate: OURS_SET, than: RAW_SET, rate: 0.65 }],
    },
    await tags(url),
  ]
}
