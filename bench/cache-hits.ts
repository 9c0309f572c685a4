import { LRUCache } from 'lru-cache'
import { newCache } from 'transitory'
import { lru, optimal, s3Fifo, wTinyLfu } from './cache-policies.js'
import { drifting, loop, scans, sessions, zipf } from './cache-traces.js'
import { synchronous, type Comparison, type Survey } from './harness.js'
import { keys } from './product.js'

const SIZES = [500, 2_500, 10_000]
const traces = {
  'Zipf 0.8': () => zipf(0.8),
  'Zipf 1.0': () => zipf(1),
  'Zipf 1.0, popularity drifts': () => drifting(1),
  'Zipf 1.0, a third are scans': () => scans(1),
  'Zipf 1.0, half are sessions of 20 requests for a key': () => sessions(1),
  'a loop a tenth longer than the cache': (size: number) => loop(1.1 * size),
}
const policies = [lru, wTinyLfu, s3Fifo, optimal]

const ratios: Survey = {
  title: 'Cache, hit ratio of eviction policies, 400,000 requests for 50,000 keys',
  columns: ['entries', 'LRU (lru-cache)', 'W-TinyLFU (transitory)', 'S3-FIFO (simulated)', 'optimal (Belady)'],
  survey: async () => {
    const rows = Object.entries(traces).flatMap(([name, make]) =>
      SIZES.map((size) => {
        const trace = make(size)
        const parts = policies.map((policy) => `${(100 * policy(trace, size)).toFixed(1)} %`)
        return [name, size.toLocaleString('en-US'), ...parts]
      }),
    )
    return { rows }
  },
}

/** What a hit costs: a policy that counts uses does more at each. */
function hits(): Comparison {
  const lruCache = new LRUCache<string, number>({ max: 10_000 })
  const tiny = newCache<string, number>().maxSize(10_000).build()
  for (const [i, key] of keys.entries()) {
    lruCache.set(key, i)
    tiny.set(key, i)
  }
  let at = 0
  const key = (): string => keys[at++ % keys.length] as string
  return {
    title: 'Cache, a hit of eviction policies',
    candidates: [
      { name: 'LRU (lru-cache)', batch: synchronous(() => lruCache.get(key())) },
      { name: 'W-TinyLFU (transitory)', batch: synchronous(() => tiny.getIfPresent(key())) },
    ],
  }
}

/** Whether another way to choose what goes would keep more of what is asked for. */
export function cacheHits(): readonly (Comparison | Survey)[] {
  return [ratios, hits()]
}
