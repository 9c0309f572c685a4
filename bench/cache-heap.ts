import { createCache as createDedupe } from 'async-cache-dedupe'
import { BentoCache, bentostore } from 'bentocache'
import { memoryDriver } from 'bentocache/drivers/memory'
import { createCache as createManager } from 'cache-manager'
import { Cacheable } from 'cacheable'
import { CacheManager } from 'holdfast/cache'
import { ManualCache } from 'layered-loader'
import { LRUCache } from 'lru-cache'
import { type Candidate, type Comparison } from './harness.js'
import { keyOf, product, type Product } from './product.js'

const ENTRIES = 50_000
const TTL_MS = 3_600_000
const LRU = 'lru-cache (floor)'

type Set = (id: string, value: Product, i: number) => unknown

/** Opens a cache for `n` entries and fills it: what the empty one takes counts too, and is held until the end. */
const filling = (open: (n: number) => Set): Candidate['batch'] => {
  let set: Set | undefined
  return async (n) => {
    set ??= open(n)
    for (let i = 0; i < n; i++) {
      const id = keyOf(i)
      await set(id, product(id), i)
    }
  }
}

const open: Record<string, (n: number) => Set> = {
  [LRU]: (n) => {
    const lru = new LRUCache<string, Product>({ max: n })
    return (id, value) => lru.set(id, value)
  },
  holdfast: (n) => {
    const ours = new CacheManager<Record<string, Product>>({ l1: { maxEntries: n }, defaults: { ttlMs: TTL_MS } })
    return (id, value) => ours.set(id, value)
  },
  'holdfast, five tags of a hundred': (n) => {
    const ours = new CacheManager<Record<string, Product>>({ l1: { maxEntries: n }, defaults: { ttlMs: TTL_MS } })
    const tags = Array.from({ length: 100 }, (_, i) => `tag-${i}`)
    const five = (i: number): string[] => [0, 1, 2, 3, 4].map((step) => tags[(i + 20 * step) % 100] as string)
    return (id, value, i) => ours.set(id, value, { tags: five(i) })
  },
  'layered-loader': (n) => {
    const loader = new ManualCache<Product>({
      inMemoryCache: { cacheType: 'lru-object', maxItems: n, ttlInMsecs: TTL_MS },
    })
    return (id, value) => loader.set(id, value)
  },
  'async-cache-dedupe': (n) => {
    let next: Product
    const dedupe = createDedupe({ ttl: TTL_MS / 1_000, storage: { type: 'memory', options: { size: n } } }).define(
      'product',
      async (_: string) => next,
    )
    return (id, value) => {
      next = value
      return dedupe.product(id)
    }
  },
  'cache-manager': () => {
    const manager = createManager({ ttl: TTL_MS })
    return (id, value) => manager.set(id, value)
  },
  cacheable: () => {
    const cacheable = new Cacheable({ ttl: TTL_MS })
    return (id, value) => cacheable.set(id, value)
  },
  bentocache: (n) => {
    const bento = new BentoCache({
      default: 'memory',
      stores: { memory: bentostore().useL1Layer(memoryDriver({ maxItems: n })) },
    })
    return (key, value) => bento.set({ key, value, ttl: '1h' })
  },
}

/** What an entry of the first level takes, each library in processes of its own. */
export function cacheHeap(): readonly Comparison[] {
  return [
    {
      title: 'Cache, what an entry takes in the first level, value and key too, of 50,000',
      keys: ENTRIES,
      processes: 5,
      candidates: Object.entries(open).map(([name, of]) => ({ name, batch: filling(of) })),
      targets: ['holdfast', 'holdfast, five tags of a hundred'].map((candidate) => ({
        candidate,
        than: LRU,
        more: 110,
      })),
    },
  ]
}
