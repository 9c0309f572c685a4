import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { CacheManager, type CacheManagerOptions } from '../../src/cache/index.js'
import { RedisCacheBackplane, RedisCacheStore, type RedisClient, type RedisSubscriber } from '../../src/cache/redis.js'
import { Proxy } from '../support/proxy.js'
import { until } from '../support/until.js'
import { ownRedis } from '../support/redis.js'

const redisUrl = await ownRedis()

// One test for each known defect of cacheable, cache-manager, async-cache-dedupe, bentocache and layered-loader that shows on a
// Redis only: docs/cache-peers.md shows both side by side. A server that hangs, dies or is cut off: redis-faults.integration.test.ts.

let redis: Redis
beforeAll(() => {
  redis = new Redis(redisUrl)
})
afterAll(() => redis.quit())

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** A manager as another process has it: with connections of its own. Slow answers are waited for. */
async function member(prefix: string, options: CacheManagerOptions = {}): Promise<CacheManager> {
  const [client, subscriber] = [redis.duplicate(), redis.duplicate()]
  const cache = new CacheManager({
    l2: new RedisCacheStore(client, { prefix }),
    backplane: new RedisCacheBackplane(subscriber, { prefix }),
    l2TimeoutMs: 20_000,
    ...options,
  })
  onTestFinished(async () => {
    await cache.close()
    client.disconnect()
    subscriber.disconnect()
  })
  await cache.get('warm')
  return cache
}
async function two(
  options?: CacheManagerOptions,
): Promise<{ a: CacheManager; b: CacheManager; store: RedisCacheStore; prefix: string }> {
  const prefix = `${randomUUID()}:`
  const [a, b] = [await member(prefix, options), await member(prefix, options)]
  return { a, b, store: new RedisCacheStore(redis, { prefix }), prefix }
}

const changes = {
  delete: (cache: CacheManager) => cache.delete('k'),
  set: (cache: CacheManager) => cache.set('k', 'NEW', { tags: ['t'] }),
  tag: (cache: CacheManager) => cache.invalidateTags('t'),
}

for (const [name, change] of Object.entries(changes)) {
  test.each(['the same', 'another'])(
    `${name} during a load by %s process, on Redis: nobody gets OLD after it`,
    async (who) => {
      const { a, b } = await two()
      const changing = who === 'another' ? b : a
      let end!: (value: string) => void
      const early = a.getOrSet('k', () => new Promise<string>((resolve) => (end = resolve)), { tags: ['t'] })
      await until(() => a.stats().loads === 1)
      expect(await change(changing)).toBe('applied')
      expect(await changing.getOrSet('k', async () => 'NEW', { tags: ['t'] })).toBe('NEW') // before the old load ends
      end('OLD')
      expect(await early).toBe('OLD')
      for (const cache of [a, b]) expect(await cache.get('k')).toBe('NEW')
      await sleep(50)
      for (const cache of [a, b]) expect([await cache.get('k'), cache.peek('k')]).toEqual(['NEW', 'NEW'])
    },
  )
}

test('entries set in the very step in which their tag is invalidated are all there, on Redis', async () => {
  const { a, b } = await two()
  const keys = Array.from({ length: 200 }, (_, i) => `k${i}`)
  await Promise.all(keys.map((key) => a.set(key, 'old', { tags: ['t', key] })))
  await Promise.all(keys.flatMap((key) => [a.invalidateTags(key), a.set(key, 'new', { tags: ['t', key] })]))
  for (const cache of [a, b]) expect([...(await cache.getMany(keys)).values()]).toEqual(keys.map(() => 'new'))
  await b.invalidateTags('t')
  await b.set('k0', 'newer', { tags: ['t'] })
  await until(async () => (await a.getMany(keys)).size === 1)
  expect(await b.getMany(keys)).toEqual(new Map([['k0', 'newer']]))
})

test('expire never brings back what a set has replaced, whichever of them Redis takes first', async () => {
  const { a, b, store } = await two({ defaults: { graceMs: 60_000, tags: ['t'] } })
  for (let i = 0; i < 300; i++) {
    const what = i % 2 ? { keys: ['k'] } : { tags: ['t'] }
    const order = [() => a.set('k', i), () => b.expire(what)]
    if (i % 3 === 0) order.reverse()
    expect(await Promise.all(order.map((call) => call()))).toEqual(['applied', 'applied'])
    expect((await store.read(['k'])).entries[0]?.payload).toBe(String(i))
  }
})

test('ten invalidations of a tag at once, by two processes, count ten times; one of many tags is one step', async () => {
  const { a, b, store } = await two()
  for (const key of ['t', 'u']) await a.set(key, 'old', { tags: [key] })
  const { seq: before } = await store.state([])
  await Promise.all(Array.from({ length: 10 }, (_, i) => (i % 2 ? a : b).invalidateTags('t')))
  const { seq, tags } = await store.state(['t'])
  expect([seq - before, tags]).toEqual([10, [seq]])
  await b.set('new', 'v', { tags: ['t'] })
  expect([...(await a.getMany(['t', 'u', 'new'])).keys()]).toEqual(['u', 'new'])
  await b.invalidateTags('t', 'u', 'v')
  expect(await store.state(['t', 'u', 'v'])).toMatchObject({ seq: seq + 2, tags: [seq + 2, seq + 2, seq + 2] })
})

test('what invalidating tags asks of Redis is the same for ten entries and for two thousand', async () => {
  const monitor = await redis.duplicate().monitor()
  onTestFinished(() => monitor.disconnect())
  const costs: number[] = []
  for (const count of [10, 2_000]) {
    const { a, prefix } = await two()
    const keys = Array.from({ length: count }, (_, i) => `k${i}`)
    await Promise.all(keys.map((key, i) => a.set(key, i, { tags: ['t', `u${i % 2}`] })))
    const seen: (readonly string[])[] = []
    const said = async (text: string): Promise<number> => {
      await redis.echo(`${prefix}${text}`)
      const at = (): number => seen.findIndex((args) => args[1] === `${prefix}${text}`)
      await until(() => at() >= 0)
      return at()
    }
    monitor.on('monitor', (_time: string, args: readonly string[]) => {
      if (args.some((arg) => arg.includes(prefix))) seen.push(args) // those within scripts too
    })
    const begin = await said('begin')
    expect(await a.invalidateTags('t', 'u0', 'u1')).toBe('applied')
    costs.push((await said('end')) - begin)
    expect((await a.getMany(keys)).size).toBe(0)
  }
  expect(costs[0]).toBe(costs[1])
})

test.each(['ioredis', 'node-redis'] as const)(
  'an unreachable Redis behind a %s client with its default options: every call ends soon, and says so',
  async (name) => {
    const unreachable = 'redis://127.0.0.1:1'
    let client: RedisClient
    let subscriber: RedisSubscriber
    if (name === 'ioredis') {
      const clients = [new Redis(unreachable), new Redis(unreachable)] as const
      for (const each of clients) each.on('error', () => {})
      onTestFinished(() => clients.forEach((each) => each.disconnect()))
      ;[client, subscriber] = clients
    } else {
      const clients = [createClient({ url: unreachable }), createClient({ url: unreachable })] as const
      for (const each of clients) {
        each.on('error', () => {})
        each.connect().catch(() => {})
      }
      onTestFinished(() => clients.forEach((each) => each.destroy()))
      ;[client, subscriber] = clients
    }
    const cache = new CacheManager<Record<string, string>>({
      l2: new RedisCacheStore(client),
      backplane: new RedisCacheBackplane(subscriber),
      partition: 'serve',
    })
    const load = async (): Promise<string> => 'loaded'
    expect(await cache.getOrSet('miss', load)).toBe('loaded')
    expect(await cache.getOrSet('miss', () => Promise.reject(new Error('not needed')))).toBe('loaded')
    expect([await cache.get('none'), await cache.has('none')]).toEqual([undefined, false])
    expect([await cache.set('k', 'v'), await cache.delete('miss'), await cache.invalidateTags('t')]).toEqual([
      'queued',
      'queued',
      'queued',
    ])
    expect([await cache.get('k'), await cache.get('miss')]).toEqual(['v', undefined])
    expect(cache.stats()).toMatchObject({ l2Up: false, queued: 3 })
    await cache.close()
  },
  5_000,
)

test('lines that are cut under node-redis clients end no process, and changes and messages come through again', async () => {
  const proxy = await Proxy.to(Number(new URL(redisUrl).port))
  const prefix = `${randomUUID()}:`
  const url = `redis://127.0.0.1:${proxy.port}`
  const [client, subscriber] = [createClient({ url }), createClient({ url })]
  for (const each of [client, subscriber]) {
    each.on('error', () => {}) // as its own pages ask for
    await each.connect()
  }
  const cache = new CacheManager<Record<string, string>>({
    l2: new RedisCacheStore(client, { prefix }),
    backplane: new RedisCacheBackplane(subscriber, { prefix }),
    l2TimeoutMs: 1_000,
  })
  onTestFinished(async () => {
    await cache.close()
    client.destroy()
    subscriber.destroy()
    proxy.close()
  })
  const other = await member(prefix, { maxStalenessMs: 60_000 })
  await until(async () => (await cache.set('k', 'v1')) === 'applied')
  expect(await other.get('k')).toBe('v1')
  proxy.set('cut')
  expect(await cache.set('k', 'v2')).toBe('queued')
  await other.set('l', 'v2')
  proxy.set('open')
  await until(() => cache.stats().queued === 0)
  await until(async () => {
    await other.set('l', 'v3')
    await cache.get('l')
    await other.set('l', 'v4')
    await sleep(20)
    return cache.peek('l') === undefined && cache.stats().coherent // a message took it away
  })
  expect(await cache.get('l')).toBe('v4')
})
