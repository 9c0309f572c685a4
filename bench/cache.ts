import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { Cacheable } from 'cacheable'
import { CacheManager } from 'holdfast/cache'
import { LRUCache } from 'lru-cache'
import { sequential, synchronous, type Candidate, type Comparison } from './harness.js'

interface Product {
  readonly id: string
  readonly name: string
  readonly cents: number
  readonly tags: readonly string[]
  readonly stock: { readonly here: number; readonly there: number }
}
const keys = Array.from({ length: 1_000 }, (_, i) => `product-${i}`)
const product = (id: string): Product => ({
  id,
  name: `Product ${id}`,
  cents: 1_999,
  tags: ['new', 'tea'],
  stock: { here: 3, there: 4 },
})
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
}

async function filled(): Promise<Caches> {
  const lru = new LRUCache<string, Product>({ max: 10_000, ttl: 3_600_000 })
  const ours = new CacheManager<Record<string, Product>>({ l1: { maxEntries: 10_000 }, defaults: { ttlMs: 3_600_000 } })
  const bento = new BentoCache({
    default: 'memory',
    stores: { memory: bentostore().useL1Layer(memoryDriver({ maxItems: 10_000 })) },
  })
  const cacheable = new Cacheable({ ttl: 3_600_000 })
  for (const id of keys) {
    lru.set(id, product(id))
    await ours.set(id, product(id))
    await bento.set({ key: id, value: product(id), ttl: '1h' })
    await cacheable.set(id, product(id))
  }
  return { lru, ours, bento, cacheable }
}

const gets = ({ lru, ours, bento, cacheable }: Caches): Candidate[] => [
  { name: 'lru-cache behind an async function (floor)', batch: sequential(async () => lru.get(key())) },
  { name: 'holdfast, get', batch: sequential(() => ours.get(key())) },
  { name: 'bentocache, get', batch: sequential(() => bento.get({ key: key() })) },
  { name: 'cacheable, get', batch: sequential(() => cacheable.get(key())) },
]

const loads = ({ lru, ours, bento, cacheable }: Caches): Candidate[] => {
  const load = (): Product => product('x')
  return [
    { name: 'lru-cache behind an async function (floor)', batch: sequential(async () => lru.get(key()) ?? load()) },
    { name: 'holdfast, getOrSet', batch: sequential(() => ours.getOrSet(key(), load)) },
    { name: 'bentocache, getOrSet', batch: sequential(() => bento.getOrSet({ key: key(), ttl: '1h', factory: load })) },
    { name: 'cacheable, getOrSet', batch: sequential(() => cacheable.getOrSet(key(), async () => load())) },
  ]
}

const peeks = ({ lru, ours }: Caches): Candidate[] => [
  { name: 'lru-cache, get (floor)', batch: synchronous(() => lru.get(key())) },
  { name: 'holdfast, peek', batch: synchronous(() => ours.peek(key())) },
]

/** Hits of the first level, with every library's defaults. */
export async function cache(): Promise<readonly Comparison[]> {
  const caches = await filled()
  return [
    { title: 'Cache, first-level hit, get', candidates: gets(caches) },
    { title: 'Cache, first-level hit, getOrSet', candidates: loads(caches) },
    { title: 'Cache, first-level hit, synchronous', candidates: peeks(caches) },
  ]
}
