import { createCache as createDedupe } from 'async-cache-dedupe'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { createCache as createManager, type Cache } from 'cache-manager'
import { Cacheable } from 'cacheable'
import { CacheManager } from 'holdfast/cache'
import { Loader } from 'layered-loader'
import { LRUCache } from 'lru-cache'
import { sequential, synchronous, type Candidate, type Comparison } from './harness.js'
import { keys, product, type Product } from './product.js'

let at = 0
const key = (): string => keys[(at = (at * 1_103_515_245 + 12_345) % 2_147_483_648) % keys.length] as string

interface Caches {
  readonly lru: LRUCache<string, Product>
  readonly ours: CacheManager<Record<string, Product>>
  readonly bento: {
    get(options: { key: string }): Promise<unknown>
    getOrSet(options: { key: string; ttl: string; factory: () => Product }): Promise<unknown>
  }
  readonly cacheable: Cacheable
  readonly manager: Cache
  readonly dedupe: { product(key: string): Promise<Product> }
  readonly loader: Loader<Product>
}

async function filled(): Promise<Caches> {
  const lru = new LRUCache<string, Product>({ max: 10_000, ttl: 3_600_000 })
  const ours = new CacheManager<Record<string, Product>>({ l1: { maxEntries: 10_000 }, defaults: { ttlMs: 3_600_000 } })
  const bento = new BentoCache({
    default: 'memory',
    stores: { memory: bentostore().useL1Layer(memoryDriver({ maxItems: 10_000 })) },
  })
  const cacheable = new Cacheable({ ttl: 3_600_000 })
  const manager = createManager({ ttl: 3_600_000 })
  const dedupe = createDedupe({ ttl: 3_600, storage: { type: 'memory', options: { size: 10_000 } } }).define(
    'product',
    async (id: string) => product(id),
  )
  const loader = new Loader<Product>({
    inMemoryCache: { cacheType: 'lru-object', maxItems: 10_000, ttlInMsecs: 3_600_000 },
    dataSourceGetOneFn: async (id) => product(id),
  })
  for (const id of keys) {
    lru.set(id, product(id))
    await ours.set(id, product(id))
    await bento.set({ key: id, value: product(id), ttl: '1h' })
    await cacheable.set(id, product(id))
    await manager.set(id, product(id))
    await dedupe.product(id)
    await loader.get(id)
  }
  return { lru, ours, bento, cacheable, manager, dedupe, loader }
}

const gets = ({ lru, ours, bento, cacheable, manager }: Caches): Candidate[] => [
  { name: 'lru-cache behind an async function (floor)', batch: sequential(async () => lru.get(key())) },
  { name: 'holdfast, get', batch: sequential(() => ours.get(key())) },
  { name: 'bentocache, get', batch: sequential(() => bento.get({ key: key() })) },
  { name: 'cacheable, get', batch: sequential(() => cacheable.get(key())) },
  { name: 'cache-manager, get', batch: sequential(() => manager.get(key())) },
]

const loads = ({ lru, ours, bento, cacheable, manager, dedupe, loader }: Caches): Candidate[] => {
  const load = (): Product => product('x')
  return [
    { name: 'lru-cache behind an async function (floor)', batch: sequential(async () => lru.get(key()) ?? load()) },
    { name: 'holdfast, getOrSet', batch: sequential(() => ours.getOrSet(key(), load)) },
    { name: 'bentocache, getOrSet', batch: sequential(() => bento.getOrSet({ key: key(), ttl: '1h', factory: load })) },
    { name: 'cacheable, getOrSet', batch: sequential(() => cacheable.getOrSet(key(), async () => load())) },
    { name: 'cache-manager, wrap', batch: sequential(() => manager.wrap(key(), async () => load())) },
    { name: 'async-cache-dedupe, memory', batch: sequential(() => dedupe.product(key())) },
    { name: 'layered-loader, get', batch: sequential(() => loader.get(key())) },
  ]
}

const peeks = ({ lru, ours }: Caches): Candidate[] => [
  { name: 'lru-cache, get (floor)', batch: synchronous(() => lru.get(key())) },
  { name: 'holdfast, peek', batch: synchronous(() => ours.peek(key())) },
]

const FLOOR = 'lru-cache behind an async function (floor)'

/** Hits of the first level with five tags each. */
async function tagged(caches: Caches): Promise<Comparison> {
  const tags = ['a', 'b', 'c', 'd', 'e']
  const ours = new CacheManager<Record<string, Product>>({ defaults: { ttlMs: 3_600_000 } })
  for (const id of keys) await ours.set(id, product(id), { tags })
  return {
    title: 'Cache, first-level hit, five tags',
    candidates: [
      { name: 'holdfast, get', batch: sequential(() => caches.ours.get(key())) },
      { name: 'holdfast, get, five tags', batch: sequential(() => ours.get(key())) },
    ],
    targets: [{ candidate: 'holdfast, get, five tags', than: 'holdfast, get', times: 1.3 }],
  }
}

/** Hits of the first level, with every library's defaults. */
export async function cache(): Promise<readonly Comparison[]> {
  const caches = await filled()
  const oursGet = 'holdfast, get'
  const oursLoad = 'holdfast, getOrSet'
  return [
    {
      title: 'Cache, first-level hit, get',
      candidates: gets(caches),
      targets: [
        { candidate: oursGet, than: FLOOR, times: 1.6 },
        ...['bentocache, get', 'cacheable, get', 'cache-manager, get'].map((than) => ({
          candidate: oursGet,
          than,
          times: 1 / 30,
        })),
      ],
    },
    {
      title: 'Cache, first-level hit, getOrSet',
      candidates: loads(caches),
      targets: [
        { candidate: oursLoad, ns: 330 },
        { candidate: oursLoad, than: 'bentocache, getOrSet', times: 1 / 35 },
        { candidate: oursLoad, than: 'layered-loader, get', times: 1.3 },
      ],
    },
    {
      title: 'Cache, first-level hit, synchronous',
      candidates: peeks(caches),
      targets: [{ candidate: 'holdfast, peek', than: 'lru-cache, get (floor)', times: 1.3 }],
    },
    await tagged(caches),
  ]
}
