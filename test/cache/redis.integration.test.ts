import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, inject } from 'vitest'
import { RedisCacheStore } from '../../src/cache/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { cacheStoreContract } from '../conformance/cache-store.js'

const redis = new Redis(inject('redisUrl'))
afterAll(() => redis.disconnect())

cacheStoreContract('RedisCacheStore', async () => ({
  store: new RedisCacheStore(redis, { prefix: `${randomUUID()}:` }),
  advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  epochMs: () => systemClock.epochMs(),
  close: async () => {},
}))
