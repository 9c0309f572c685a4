import { expect, test } from 'vitest'
import type { Clock } from '../../src/kernel/clock.js'
import { MemoryTokenBucketStore, perMinute, perSecond, RateLimiter, TokenBucket } from '../../src/rate-limit/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

// One test for each known defect of rate-limiter-flexible, @upstash/ratelimit and Bottleneck: docs/rate-limit-peers.md shows
// both side by side. What needs a Redis is in peer-defects.integration.test.ts.

const make = (limits: ConstructorParameters<typeof RateLimiter>[0]['limits']) => {
  const clock = new ManualClock()
  const store = new MemoryTokenBucketStore({ clock })
  return { clock, store, limiter: new RateLimiter({ limits, store, clock }) }
}
const DAY = 86_400_000

test('a limit over 30 days limits for 30 days, also in memory', async () => {
  const { limiter, clock } = make({ name: 'monthly', capacity: 2, refillPerSecond: 2 / (30 * 86_400) })
  const use = async (): Promise<boolean> => (await limiter.consume('a')).allowed
  expect([await use(), await use(), await use()]).toEqual([true, true, false])
  await clock.advance(5)
  expect(await use()).toBe(false)
  await clock.advance(15 * DAY - 10)
  for (let i = 0; i < 1_000; i++) await limiter.consume(`other ${i}`) // which sweep what is full
  expect(await use()).toBe(false)
  await clock.advance(5)
  expect([await use(), await use()]).toEqual([true, false])
})

test('a cost of NaN or -1000 throws, and the limit holds as before', async () => {
  const { limiter } = make(perSecond(2))
  for (const cost of [NaN, -1_000, -1, 0.5, Infinity, '1' as never])
    await expect(limiter.consume('a', cost)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  const all = await Promise.all(Array.from({ length: 6 }, () => limiter.consume('a')))
  expect(all.map(({ allowed }) => allowed)).toEqual([true, true, false, false, false, false])
})

test('a call that one of several limits refuses takes nothing from the others', async () => {
  const { limiter, clock } = make([perSecond(1), perMinute(10)])
  for (let i = 0; i < 50; i++) await limiter.consume('a')
  await clock.advance(1_000)
  let passed = 0
  for (let i = 0; i < 20; i++) {
    if ((await limiter.consume('a')).allowed) passed++
    await clock.advance(1_000)
  }
  expect(passed).toBe(12) // of the nine left, and three that came back in these 20 seconds
})

test('refused calls take nothing: who asks a thousand times waits no longer than who asks once', async () => {
  const { limiter, clock } = make(perSecond(2))
  await limiter.consume('a', 2)
  for (let i = 0; i < 1_000; i++)
    expect(await limiter.consume('a', 1 + (i % 2))).toMatchObject({ allowed: false, retryAfterMs: 500 * (1 + (i % 2)) })
  await clock.advance(500)
  expect((await limiter.consume('a')).allowed).toBe(true)
})

test('a key named like a member of Object.prototype is limited like any other', async () => {
  const { limiter } = make(perSecond(2))
  for (const key of Object.getOwnPropertyNames(Object.prototype)) {
    const all = [await limiter.consume(key), await limiter.consume(key), await limiter.consume(key)]
    expect(all.map(({ remaining, allowed }) => [remaining, allowed])).toEqual([
      [1, true],
      [0, true],
      [0, false],
    ])
  }
})

/** As the host's timers are: whole milliseconds, and one more. */
const coarse = (clock: ManualClock): Clock => ({
  now: () => clock.now(),
  epochMs: () => clock.epochMs(),
  setTimer: (fn, ms) => clock.setTimer(fn, Math.ceil(ms) + 1),
  sleep: (ms, signal) => clock.sleep(ms, signal),
})

test.each([100, 10_000, 1_000_000])(
  'those who wait get %d a second, as set, though no timer is finer than a millisecond',
  async (rate) => {
    const clock = new ManualClock()
    const capacity = Math.max(1, rate / 100)
    const bucket = new TokenBucket({ capacity, refillPerSecond: rate, initial: 0, clock: coarse(clock) })
    const cost = Math.max(1, rate / 10_000)
    let passed = 0
    const worker = async (): Promise<void> => {
      for (;;) {
        await bucket.take(cost)
        passed += cost
      }
    }
    for (let i = 0; i < 200; i++) void worker()
    for (let ms = 0; ms < 1_000; ms++) await clock.advance(1)
    await settle()
    expect(passed).toBeLessThanOrEqual(rate)
    expect(passed).toBeGreaterThan(rate * 0.8)
  },
)

test('memory does not grow with the keys ever seen: full buckets are forgotten, and there is a cap', async () => {
  const clock = new ManualClock()
  const store = new MemoryTokenBucketStore({ clock, maxKeys: 5_000 })
  const limiter = new RateLimiter({ limits: perSecond(100), store, clock })
  for (let i = 0; i < 20_000; i++) {
    await limiter.consume(`user ${i}`)
    expect(store.size).toBeLessThanOrEqual(5_000)
  }
  expect(store.size).toBe(5_000)
  await clock.advance(10)
  for (let i = 0; i < 3_000; i++) await limiter.peek('one')
  expect(store.size).toBe(0)
  expect(clock.pendingTimers).toBe(0)
})
