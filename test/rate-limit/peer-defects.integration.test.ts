import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, inject, onTestFinished, test, vi } from 'vitest'
import { perDay, perSecond, RateLimiter, type Limit, type RateLimiterOptions } from '../../src/rate-limit/index.js'
import { RedisTokenBucketStore } from '../../src/rate-limit/redis.js'

// One test for each known defect of rate-limiter-flexible and @upstash/ratelimit that shows on a Redis only:
// docs/rate-limit-peers.md shows both side by side.

let redis: Redis
beforeAll(() => {
  redis = new Redis(inject('redisUrl'))
})
afterAll(() => redis.quit())

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Limiters that share one set of buckets, each with a store of its own. */
function make(limits: RateLimiterOptions['limits']) {
  const prefix = `${randomUUID()}:`
  const limiter = (): RateLimiter =>
    new RateLimiter({ limits, store: new RedisTokenBucketStore(redis, { prefix }), storeTimeoutMs: 20_000 })
  const keys = async (): Promise<string[]> => (await redis.keys(`${prefix}*`)).filter((key) => !key.includes('}!'))
  return { prefix, limiter, keys }
}

/** Asks for `cost` until it is admitted, as often as `retryAfterMs` says. */
async function admitted(limiter: RateLimiter, key: string, cost = 1): Promise<void> {
  for (;;) {
    const { allowed, retryAfterMs } = await limiter.consume(key, cost)
    if (allowed) return
    await sleep(retryAfterMs)
  }
}

test.each([500, 50])('a window of %d ms limits on Redis, and ends', async (ms) => {
  const { limiter, keys } = make({ name: 'short', capacity: 2, refillPerSecond: 2_000 / ms })
  const one = limiter()
  const all = await Promise.all([one.consume('a'), one.consume('a'), one.consume('a')])
  expect(all.map(({ allowed }) => allowed)).toEqual([true, true, false])
  expect(all[2].retryAfterMs).toBeLessThanOrEqual(ms / 2)
  await admitted(one, 'a', 2)
  for (const key of await keys()) expect(await redis.pttl(key)).not.toBe(-1)
})

test('a cost of NaN or -1000 throws before anything is sent, and the limit holds as before, on Redis', async () => {
  const { limiter, keys } = make(perSecond(2, { name: 'slow' }))
  const one = limiter()
  for (const cost of [NaN, -1_000, 0.5])
    await expect(one.consume('a', cost)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  expect(await keys()).toEqual([])
  const all = await Promise.all(Array.from({ length: 6 }, () => one.consume('a')))
  expect(all.map(({ allowed }) => allowed)).toEqual([true, true, false, false, false, false])
})

test('an unreachable Redis behind a client with its default options: there is a decision all the same', async () => {
  const client = new Redis('redis://127.0.0.1:1')
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  const limiter = new RateLimiter({ limits: perSecond(2), store: new RedisTokenBucketStore(client) })
  expect(await limiter.consume('a')).toMatchObject({ allowed: true, storeFailed: true })
  expect(await limiter.peek('a')).toMatchObject({ storeFailed: true })
  await expect(limiter.reset('a')).rejects.toMatchObject({ code: 'STORE_FAILED' })
}, 9_000) // the client gives up by itself after ten and a half

test('nothing stays on Redis: every key has an end, and is gone when its bucket is full', async () => {
  const { limiter, keys } = make([perSecond(20), perSecond(10)])
  const [one, other] = [limiter(), limiter()]
  await Promise.all(Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? one : other).consume(`k${i % 5}`)))
  for (let i = 0; i < 30; i++) await one.consume(`k${i % 5}`, 1 + (i % 12))
  for (const key of await keys()) expect(await redis.pttl(key)).not.toBe(-1)
  const daily = make(perDay(5))
  await daily.limiter().consume('a')
  const [held] = await daily.keys()
  expect(await redis.pttl(held!)).toBeGreaterThan(0)
  await sleep(1_100)
  expect(await keys()).toEqual([])
})

test('a client whose clock is an hour ahead takes what it takes, and locks nobody out', async () => {
  const limit: Limit = { name: 'shared', capacity: 1_000, refillPerSecond: 100 }
  const { limiter } = make(limit)
  const [ahead, other] = [limiter(), limiter()]
  const { now } = Date
  const clock = vi.spyOn(Date, 'now').mockImplementation(() => now() + 3_600_000)
  onTestFinished(() => clock.mockRestore())
  expect((await ahead.consume('a', 1_000)).allowed).toBe(true)
  clock.mockRestore()
  const { retryAfterMs } = await other.consume('a', 10)
  expect(retryAfterMs).toBeLessThanOrEqual(100)
  await admitted(other, 'a', 10)
})

test('refused calls take nothing on Redis either', async () => {
  const { limiter } = make({ name: 'slow', capacity: 10, refillPerSecond: 1e-6 })
  const one = limiter()
  await one.consume('a', 8)
  for (let i = 0; i < 100; i++) expect(await one.consume('a', 3)).toMatchObject({ allowed: false, remaining: 2 })
  expect(await one.consume('a', 2)).toMatchObject({ allowed: true, remaining: 0 })
})
