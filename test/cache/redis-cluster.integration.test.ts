import { randomUUID } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { CacheManager } from '../../src/cache/index.js'
import { RedisCacheBackplane, RedisCacheStore } from '../../src/cache/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { cacheStoreContract } from '../conformance/cache-store.js'
import { redisCluster } from '../support/redis.js'

const redis = redisCluster()

cacheStoreContract('RedisCacheStore on a Cluster', async () => ({
  store: new RedisCacheStore(redis.cluster, { prefix: `${randomUUID()}:` }),
  advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  epochMs: () => systemClock.epochMs(),
  close: async () => {},
}))

test('a change reaches another manager by message, whichever node it listens to', async () => {
  for (const prefix of ['a:', 'b:', 'c:', '', '}', '{x}', '{}']) {
    const [writer, reader] = [1, 2].map(
      () =>
        new CacheManager<Record<string, number>>({
          l2: new RedisCacheStore(redis.cluster, { prefix }),
          backplane: new RedisCacheBackplane(redis.subscriber, { prefix }),
          l2TimeoutMs: 5_000,
          maxStalenessMs: 60_000,
        }),
    )
    onTestFinished(async () => {
      await writer!.close()
      await reader!.close()
    })
    let heard = false
    for (let tries = 0; tries < 100 && !heard; tries++) {
      // the first may be before the subscription
      await writer!.set('k', 1)
      expect(await reader!.get('k')).toBe(1)
      expect(await writer!.delete('k')).toBe('applied')
      await new Promise((resolve) => setTimeout(resolve, 50))
      heard = reader!.peek('k') === undefined
    }
    expect(heard, `with the prefix '${prefix}'`).toBe(true)
  }
})
