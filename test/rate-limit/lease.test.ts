import { describe, expect, test } from 'vitest'
import { MemoryTokenBucketStore, RateLimiter, type Limit } from '../../src/rate-limit/index.js'
import { LeasingStore, type LeaseOptions } from '../../src/rate-limit/lease.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

const limits: readonly Limit[] = [{ name: 'l', capacity: 100, refillPerSecond: 1 }]

/** Processes in front of one store, which answers later, if at all. */
function processes(count: number, options: LeaseOptions = { tokens: 10, ttlMs: 1_000 }) {
  const clock = new ManualClock()
  const buckets = new MemoryTokenBucketStore({ clock })
  const server = { asked: 0, isDown: false, delayMs: 0 }
  const reach = async <T>(call: () => T): Promise<T> => {
    server.asked++
    const { delayMs } = server
    if (delayMs > 0) await clock.sleep(delayMs / 2)
    if (server.isDown) throw new Error('connection refused')
    const answer = call()
    if (delayMs > 0) await clock.sleep(delayMs / 2)
    return answer
  }
  const shared = {
    take: (key: string, cost: number, list: readonly Limit[]) => reach(() => buckets.take(key, cost, list)),
    adjust: (key: string, tokens: number, list: readonly Limit[]) => reach(() => buckets.adjust(key, tokens, list)),
    reset: (key: string, list: readonly Limit[]) => reach(() => buckets.reset(key, list)),
  }
  const stores = Array.from({ length: count }, () => new LeasingStore(shared, options, clock))
  const left = (list = limits): number => buckets.take('a', 0, list).buckets[0]!.remaining
  return { clock, buckets, server, stores, first: stores[0]!, left }
}
const allowed = async (store: LeasingStore, cost = 1): Promise<boolean> => (await store.take('a', cost, limits)).allowed

describe('a lease', () => {
  test('answers at once, without the server, as long as it lasts', async () => {
    const { first, server, left } = processes(1)
    expect(await allowed(first)).toBe(true)
    expect([server.asked, left()]).toEqual([1, 90])
    for (let i = 8; i >= 0; i--) {
      const taken = first.take('a', 1, limits)
      expect(taken).toMatchObject({ allowed: true, buckets: [{ remaining: 90 + i }] }) // no promise
    }
    expect(server.asked).toBe(1)
    expect(first.take('a', 1, limits)).toBeInstanceOf(Promise)
  })

  test('takes no more than it needs when the bucket has less than a block, so that the last tokens are not stranded', async () => {
    const { first, stores, left } = processes(2)
    await first.take('a', 97, limits)
    expect(left()).toBe(3)
    expect(await allowed(stores[1]!, 2)).toBe(true)
    expect(await allowed(stores[1]!)).toBe(true)
    expect(await allowed(stores[1]!)).toBe(false)
  })

  test('does not make a cost pass that is above the capacity: not with a full bucket behind it either', async () => {
    const { first, clock, left } = processes(1, { tokens: 10, ttlMs: 60_000 })
    await allowed(first)
    await clock.advance(20_000)
    expect(left()).toBe(100)
    const refused = { allowed: false, buckets: [{ remaining: 100, retryAfterMs: Infinity }] }
    for (let i = 0; i < 2; i++) expect(await first.take('a', 105, limits)).toMatchObject(refused)
    await clock.advance(30_000)
    expect(first.take('a', 105, limits)).toMatchObject(refused) // known here
    await clock.advance(30_000)
    expect(await first.take('a', 101, limits)).toMatchObject(refused)
    expect(left()).toBe(100)
  })

  test('is lost once its time is over, and never longer than that', async () => {
    const { first, clock, server, left } = processes(1)
    await allowed(first)
    await clock.advance(999)
    expect(first.take('a', 1, limits)).toMatchObject({ allowed: true })
    await clock.advance(1)
    await allowed(first)
    expect([server.asked, left()]).toEqual([2, 81]) // one has come back
    await clock.advance(1_000)
    await first.close()
    expect(left()).toBe(82) // what is lost is not given back
  })

  test('counts its time from when it was asked for: an answer on the way makes it no longer', async () => {
    const { first, server, clock } = processes(1)
    server.delayMs = 400
    await Promise.all([allowed(first), clock.advance(400)])
    await clock.advance(599)
    expect(first.take('a', 1, limits)).toMatchObject({ allowed: true })
    await clock.advance(1)
    expect(first.take('a', 1, limits)).toBeInstanceOf(Promise)
    await clock.advance(800)
  })

  test('tells those it refuses to come back no earlier than the answer allows, and asks again no later', async () => {
    const { first, server, clock } = processes(1, { tokens: 10, ttlMs: 60_000 })
    server.delayMs = 400
    const [, refused] = [first.take('a', 100, limits), first.take('a', 1, limits)]
    await clock.advance(400)
    expect(await refused).toMatchObject({ allowed: false, buckets: [{ retryAfterMs: 1_000 }] })
    await clock.advance(599) // 999 after the question, 599 after the answer
    expect(first.take('a', 1, limits)).toMatchObject({ allowed: false, buckets: [{ retryAfterMs: 401 }] })
    await clock.advance(1)
    expect(first.take('a', 1, limits)).toBeInstanceOf(Promise)
    await clock.advance(400)
  })

  test('of a small bucket takes the whole of it, at once', async () => {
    const { first, server, left } = processes(1)
    const few = [{ name: 'few', capacity: 5, refillPerSecond: 1 }]
    for (let i = 0; i < 5; i++) expect((await first.take('a', 1, few)).allowed).toBe(true)
    expect([server.asked, left(few)]).toEqual([1, 0])
  })

  test('of a key that is refused costs the server nothing until a token may be back', async () => {
    const { first, clock, server } = processes(1, { tokens: 10, ttlMs: 60_000 })
    await first.take('a', 100, limits)
    const refused = await first.take('a', 3, limits)
    expect(refused).toMatchObject({ allowed: false, buckets: [{ remaining: 0, retryAfterMs: 3_000 }] })
    const before = server.asked
    await clock.advance(1_000)
    expect(first.take('a', 3, limits)).toMatchObject({ allowed: false, buckets: [{ retryAfterMs: 2_000 }] })
    expect(server.asked).toBe(before)
    await clock.advance(2_000)
    expect(await allowed(first, 3)).toBe(true)
  })

  test('is had to the last token, and tells how many are left, also where a bucket fills in less than a millisecond', async () => {
    const { first, left } = processes(1, { tokens: 2, ttlMs: 1_000 })
    const quick = [{ name: 'quick', capacity: 5, refillPerSecond: 10_000 }]
    const seen: unknown[] = []
    for (let i = 0; i < 6; i++) {
      const { allowed: passes, buckets } = await first.take('a', 1, quick)
      seen.push([passes, buckets[0]!.remaining])
    }
    expect([seen, left(quick)]).toEqual([[4, 3, 2, 1, 0, 0].map((n, i) => [i < 5, n]), 0])
  })

  test('does not keep a refusal for longer than its time: who is let off elsewhere is let in here', async () => {
    const { first, stores, clock } = processes(2)
    const perHour = [{ name: 'h', capacity: 100, refillPerSecond: 1 / 36 }]
    const passes = async (): Promise<boolean> => (await first.take('a', 1, perHour)).allowed
    await first.take('a', 100, perHour)
    expect(await passes()).toBe(false)
    await stores[1]!.reset('a', perHour)
    await clock.advance(999)
    expect(await passes()).toBe(false)
    await clock.advance(1)
    expect(await passes()).toBe(true)
  })

  test('goes back with a penalty, which bites at once, and with a reset', async () => {
    const { first, left } = processes(1)
    await allowed(first)
    await first.adjust('a', -99, limits)
    expect(left()).toBe(0)
    expect(await allowed(first)).toBe(false)
    await first.reset('a', limits)
    expect([await allowed(first), left()]).toEqual([true, 90])
  })

  test('does not soften a penalty: one of the whole capacity leaves nothing, also where the bucket has filled up behind it', async () => {
    const { first, clock, left } = processes(1, { tokens: 10, ttlMs: 60_000 })
    await allowed(first)
    await clock.advance(20_000)
    await first.adjust('a', -100, limits)
    expect([left(), await allowed(first)]).toEqual([0, false])
    await first.adjust('a', -50, limits)
    const refused = { allowed: false, buckets: [{ retryAfterMs: 51_000 }] }
    for (let i = 0; i < 2; i++) expect(await first.take('a', 1, limits)).toMatchObject(refused)
  })

  test('goes back when the store is closed, which then asks the server each time', async () => {
    const { first, clock, server, left } = processes(1)
    await allowed(first)
    expect(left()).toBe(90)
    await first.close()
    expect([left(), clock.pendingTimers]).toEqual([99, 0])
    await allowed(first)
    expect([server.asked, left()]).toEqual([3, 98])
  })

  test('that is on its way when the store is closed goes back too', async () => {
    const { first, server, clock, left } = processes(1)
    server.delayMs = 50
    const call = allowed(first)
    const closed = first.close()
    await clock.advance(200)
    await closed
    expect([await call, left()]).toEqual([true, 99])
  })

  test('serves those who wait for it in the order they came, with one question to the server', async () => {
    const { first, server, clock } = processes(1)
    server.delayMs = 50
    const order: number[] = []
    const calls = Array.from({ length: 10 }, async (_, i) => {
      await first.take('a', 1, limits)
      order.push(i)
    })
    await clock.advance(50)
    await Promise.all(calls)
    expect([order, server.asked]).toEqual([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1])
  })

  test('is as large as what is waited for: a crowd has its answers in two round trips, not one per block', async () => {
    const { first, server, clock, left } = processes(1)
    server.delayMs = 50
    const calls = Array.from({ length: 90 }, () => allowed(first))
    await clock.advance(100)
    expect((await Promise.all(calls)).filter(Boolean)).toHaveLength(90)
    expect([server.asked, left()]).toEqual([2, 10]) // the first did not know of the others
  })

  test('gives the last tokens to those who wait, in order, and keeps none', async () => {
    const { first, server, clock, left } = processes(1)
    server.delayMs = 5
    const calls = [88, 1, 2, 4, 3, 7, 2].map((cost) => allowed(first, cost))
    await clock.advance(25)
    expect(await Promise.all(calls)).toEqual([true, true, true, true, true, false, true])
    expect([server.asked, left()]).toEqual([5, 0])
  })

  test('never leaves more in one process than a block, whatever those who wait want', async () => {
    const { first, server, clock, left } = processes(1, { tokens: 1, ttlMs: 60_000 })
    server.delayMs = 50
    const calls = [1, 60, 60, 5].map((cost) => allowed(first, cost))
    await clock.advance(400)
    expect(await Promise.all(calls)).toEqual([true, true, false, true])
    expect(left()).toBe(34)
    expect(first.take('a', 1, limits)).toBeInstanceOf(Promise)
  })

  test('is had by the first in line as long as there is enough for it, also when others are quicker', async () => {
    const { first, server, clock, buckets } = processes(1)
    await first.take('a', 92, limits)
    server.delayMs = 5
    const calls = Array.from({ length: 9 }, () => allowed(first))
    await clock.advance(7) // there were 8 for them
    buckets.take('a', 4, limits)
    await clock.advance(100)
    expect(await Promise.all(calls)).toEqual([true, true, true, true, false, false, false, false, false])
  })

  test('is not used by a small call that comes while a large one asks for more', async () => {
    const { first, server, clock, left } = processes(1)
    await first.take('a', 8, limits)
    server.delayMs = 50
    const order: string[] = []
    const large = Promise.resolve(first.take('a', 6, limits)).then(() => order.push('large'))
    const small = Promise.resolve(first.take('a', 1, limits)).then(() => order.push('small'))
    await clock.advance(50)
    await Promise.all([large, small])
    expect(order).toEqual(['large', 'small'])
    expect(left()).toBe(82) // filled up to a block, not by one
    for (let i = 0; i < 3; i++) expect(first.take('a', 1, limits)).toMatchObject({ allowed: true })
    expect(first.take('a', 1, limits)).toBeInstanceOf(Promise)
  })

  test('that can’t be had is the store’s failure, and what is held still counts', async () => {
    const { first, server } = processes(1)
    await allowed(first)
    server.isDown = true
    for (let i = 0; i < 9; i++) expect(await allowed(first)).toBe(true)
    await expect(first.take('a', 1, limits)).rejects.toThrow('connection refused')
    server.isDown = false
    expect(await allowed(first)).toBe(true)
  })

  test('that never comes fills no memory: above ten thousand calls that wait, more fail at once', async () => {
    const clock = new ManualClock()
    const silent = { take: () => new Promise<never>(() => {}), adjust: () => {}, reset: () => {} }
    const store = new LeasingStore(silent, { tokens: 10, ttlMs: 1_000 }, clock)
    for (let i = 0; i < 10_000; i++) void store.take(`k${i % 3}`, 1, limits)
    await expect(store.take('k0', 1, limits)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  })

  test('that a server does not take back holds up no one who closes for longer than its time', async () => {
    const { first, clock, server, left } = processes(1)
    await allowed(first)
    server.delayMs = 1e9
    const closed = expect(first.close()).rejects.toMatchObject({ code: 'STORE_FAILED' })
    await clock.advance(1_000)
    await closed
    expect(left()).toBe(91)
  })

  test('is looked at without being used', async () => {
    const { first, server } = processes(1)
    await allowed(first)
    expect(first.take('a', 0, limits)).toMatchObject({ allowed: true, buckets: [{ remaining: 99 }] })
    expect(server.asked).toBe(1)
    const limiter = new RateLimiter({ limits, store: first, clock: new ManualClock() })
    expect(await limiter.peek('b')).toMatchObject({ allowed: true, remaining: 100 })
  })

  test('is kept for ten thousand keys: more give back the oldest', async () => {
    const { first, buckets } = processes(1, { tokens: 10, ttlMs: 1e9 })
    for (let i = 0; i < 10_050; i++) await first.take(`k${i}`, 1, limits)
    const leftOf = (key: string): number => buckets.take(key, 0, limits).buckets[0]!.remaining
    expect([leftOf('k0'), leftOf('k49'), leftOf('k50'), leftOf('k10049')]).toEqual([99, 99, 90, 90])
  })

  test('that is still asked for stays, and keeps no others from being given back', async () => {
    const { first, server, buckets, clock } = processes(1, { tokens: 10, ttlMs: 1e9 })
    const leftOf = (key: string): number => buckets.take(key, 0, limits).buckets[0]!.remaining
    server.delayMs = 1_000
    const calls = ['x', 'y', 'z'].map(async (key) => (await first.take(key, 1, limits)).allowed)
    server.delayMs = 0
    for (let i = 0; i < 10_050; i++) await first.take(`k${i}`, 1, limits)
    expect([leftOf('k0'), leftOf('k49'), leftOf('k10049')]).toEqual([99, 99, 90])
    await clock.advance(1_000)
    expect(await Promise.all(calls)).toEqual([true, true, true])
    const before = server.asked
    for (const key of ['x', 'y', 'z']) await first.take(key, 9, limits)
    expect(server.asked).toBe(before)
  })

  test.each([0, 1.5, NaN, '5'])('of %s tokens is refused at construction', (tokens) => {
    expect(() => processes(1, { tokens: tokens as number, ttlMs: 1 })).toThrow('lease.tokens: expected an integer')
  })
})

interface Step {
  readonly do: 'take' | 'wait' | 'down' | 'penalize' | 'close'
  readonly who: number
  readonly amount: number
}
prop(
  'in any span of time no more pass than the limit, and what the processes may hold',
  [
    fc.array(
      fc.record<Step>({
        do: fc.constantFrom('take', 'take', 'take', 'take', 'wait', 'wait', 'down', 'penalize', 'close'),
        who: fc.nat(2),
        amount: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 1, max: 12 }) }, fc.integer({ min: 13, max: 25 })),
      }),
      { maxLength: 80, size: 'max' },
    ),
    fc.record({
      tokens: fc.integer({ min: 1, max: 8 }),
      ttlMs: fc.constantFrom(50, 400, 3_000),
      delayMs: fc.constantFrom(0, 0, 30),
    }),
  ],
  async (steps, { delayMs, ...lease }) => {
    const { clock, server, stores, buckets } = processes(3, lease)
    server.delayMs = delayMs
    const limit: Limit = { name: 'l', capacity: 20, refillPerSecond: 10 }
    const list = [limit]
    const passed: { at: number; cost: number }[] = []
    const calls: Promise<unknown>[] = []
    for (const step of steps) {
      const store = stores[step.who]!
      if (step.do === 'take')
        calls.push(
          Promise.resolve(store.take('a', step.amount, list)).then(
            (taken) => void (taken.allowed && passed.push({ at: clock.now(), cost: step.amount })),
            () => {},
          ),
        )
      if (step.do === 'wait') await clock.advance(step.amount * 40)
      if (step.do === 'down') server.isDown = !server.isDown
      if (step.do === 'penalize') calls.push(store.adjust('a', -step.amount, list).catch(() => {}))
      if (step.do === 'close') calls.push(store.close().catch(() => {}))
    }
    server.isDown = false
    await clock.advance(1_000)
    await Promise.all(calls)
    for (const [i, { at: from }] of passed.entries()) {
      expect(passed[i]!.cost).toBeLessThanOrEqual(limit.capacity)
      let sum = 0
      for (const { at, cost } of passed.slice(i)) {
        sum += cost
        const bound = limit.capacity + (limit.refillPerSecond * (at - from + 1)) / 1_000 + 3 * lease.tokens
        expect(sum).toBeLessThanOrEqual(bound + 1e-9)
      }
    }
    server.delayMs = 0
    await Promise.all(stores.map((store) => store.close()))
    await clock.advance(100_000)
    expect(buckets.take('a', 0, list).buckets[0]!.remaining).toBe(20)
    expect(clock.pendingTimers).toBe(0)
  },
)
