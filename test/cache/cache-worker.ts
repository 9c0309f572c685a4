import { Redis } from 'ioredis'
import { CacheManager } from '../../src/cache/index.js'
import { RedisCacheBackplane, RedisCacheStore } from '../../src/cache/redis.js'

// One of many processes on one Redis: asks for a key with many callers at once, and tells how many loads it made.

/** What a worker is told. */
export interface Job {
  readonly port: number
  readonly prefix: string
  readonly keys: readonly string[]
  readonly callers: number
  readonly loadMs: number
}

/** What it tells. */
export interface Outcome {
  readonly loads: number
  /** All values that its callers got. */
  readonly values: readonly string[]
}

async function run({ port, prefix, keys, callers, loadMs }: Job): Promise<Outcome> {
  const [client, subscriber] = [new Redis(port), new Redis(port)]
  const backplane = new RedisCacheBackplane(subscriber, { prefix })
  // A machine with more processes than cores may take longer than 50 ms to answer.
  const cache = new CacheManager<Record<string, string>>({
    l2: new RedisCacheStore(client, { prefix }),
    backplane,
    l2TimeoutMs: 30_000,
  })
  let loads = 0
  const load = async (): Promise<string> => {
    const value = `${process.pid} ${++loads}`
    await new Promise((resolve) => setTimeout(resolve, loadMs))
    return value
  }
  const calls = keys.flatMap((key) => Array.from({ length: callers }, () => cache.getOrSet(key, load)))
  const values = [...new Set(await Promise.all(calls))]
  await cache.close()
  client.disconnect()
  subscriber.disconnect()
  return { loads, values }
}

process.once(
  'message',
  (job) => void run(job as Job).then((outcome) => process.send!(outcome, () => process.disconnect())),
)
process.send!('ready')
