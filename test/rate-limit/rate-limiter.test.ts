import { describe, expect, test } from 'vitest'
import { StoreError } from '../../src/kernel/errors.js'
import {
  MemoryTokenBucketStore,
  perDay,
  perHour,
  perMinute,
  perSecond,
  RateLimiter,
  type RateLimiterOptions,
  type Taken,
  type TokenBucketStore,
} from '../../src/rate-limit/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

const make = (options: Partial<RateLimiterOptions> = {}) => {
  const clock = new ManualClock()
  return { clock, limiter: new RateLimiter({ limits: perSecond(5), clock, ...options }) }
}

/** A store whose answers the test gives, by hand and in any order. */
class SilentStore implements TokenBucketStore {
  readonly asked: { resolve: (taken: Taken) => void; reject: (error: unknown) => void }[] = []
  take(): Promise<Taken> {
    return new Promise((resolve, reject) => this.asked.push({ resolve, reject }))
  }
  adjust(): Promise<void> {
    return this.take() as unknown as Promise<void>
  }
  reset(): Promise<void> {
    return this.take() as unknown as Promise<void>
  }
}

const yes: Taken = { allowed: true, buckets: [{ remaining: 4, retryAfterMs: 0, resetMs: 200 }] }

describe('limits', () => {
  test('perSecond, perMinute, perHour and perDay are a rate, with all of it at once or a smaller burst', () => {
    expect(perSecond(10)).toEqual({ name: '10-per-second', capacity: 10, refillPerSecond: 10 })
    expect(perMinute(90)).toEqual({ name: '90-per-minute', capacity: 90, refillPerSecond: 1.5 })
    expect(perHour(3_600, { burst: 20 })).toEqual({ name: '3600-per-hour', capacity: 20, refillPerSecond: 1 })
    expect(perDay(1, { name: 'daily' })).toEqual({ name: 'daily', capacity: 1, refillPerSecond: 1 / 86_400 })
    expect(perMinute(0.5, { burst: 1 })).toEqual({ name: '0.5-per-minute', capacity: 1, refillPerSecond: 0.5 / 60 })
  })

  test('what is no limit is refused at construction', () => {
    for (const count of [0, -1, NaN, Infinity, '5' as never, 2e6]) expect(() => perSecond(count)).toThrow(/count/)
    expect(() => perSecond(1.5)).toThrow(/capacity/)
    expect(() => perSecond(1, { burst: 0 })).toThrow(/capacity/)
    expect(() => perSecond(1, { name: '' })).toThrow(/name/)
    expect(() => make({ limits: [] })).toThrow(/limits: expected at least one/)
    expect(() => make({ limits: [perSecond(1), perSecond(1)] })).toThrow(/limits with different names/)
    expect(() => make({ limits: { name: 'a', capacity: 1, refillPerSecond: NaN } })).toThrow(/refillPerSecond/)
    expect(() => make({ storeTimeoutMs: 0 })).toThrow(/storeTimeoutMs/)
    expect(() => make({ onStoreFailure: 'maybe' as never })).toThrow(/onStoreFailure/)
    expect(() => make({ onStoreFailure: { share: 0 } })).toThrow(/onStoreFailure\.share/)
    const yearly = { name: 'yearly', capacity: 1, refillPerSecond: 1 / 31_536_000 } // its hundredth part takes a century
    expect(() => make({ limits: yearly, onStoreFailure: { share: 100 } })).toThrow(/refillPerSecond/)
    expect(() => make({ prefix: 1 as never })).toThrow(/prefix/)
  })

  test('limits are copied: a change to them afterwards is not seen', async () => {
    const limits = [{ name: 'a', capacity: 1, refillPerSecond: 1 }]
    const { limiter } = make({ limits })
    limits[0]!.capacity = 100
    limits.push(perSecond(3))
    expect(limiter.limits).toEqual([{ name: 'a', capacity: 1, refillPerSecond: 1 }])
    await limiter.consume('k')
    expect((await limiter.consume('k')).allowed).toBe(false)
  })
})

describe('RateLimiter', () => {
  test('consumes until the bucket is empty, and again as it refills', async () => {
    const { limiter, clock } = make()
    const limit = perSecond(5)
    const rest = { limit, storeFailed: false }
    expect(await limiter.consume('a')).toEqual({ allowed: true, remaining: 4, retryAfterMs: 0, resetMs: 200, ...rest })
    expect(await limiter.consume('a', 4)).toEqual({
      allowed: true,
      remaining: 0,
      retryAfterMs: 0,
      resetMs: 1_000,
      ...rest,
    })
    expect(await limiter.consume('a')).toEqual({
      allowed: false,
      remaining: 0,
      retryAfterMs: 200,
      resetMs: 1_000,
      ...rest,
    })
    expect((await limiter.consume('b')).allowed).toBe(true)
    await clock.advance(200)
    expect((await limiter.consume('a')).allowed).toBe(true)
    expect((await limiter.consume('a')).allowed).toBe(false)
  })

  test('a bad cost or key rejects, and changes nothing', async () => {
    const { limiter } = make()
    for (const cost of [NaN, -1, -1_000, 0.5, Infinity, '1', null, {}, 1n, true] as never[]) {
      for (const call of ['consume', 'refund', 'penalize', 'reserve'] as const)
        await expect(limiter[call]('a', cost), String(cost)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
      expect(() => limiter.for('a', cost)).toThrow(/cost/)
    }
    for (const key of [undefined, null, 1, {}] as never[]) {
      for (const call of ['consume', 'peek', 'refund', 'penalize', 'reset'] as const)
        await expect(limiter[call](key), String(key)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    }
    expect((await limiter.peek('a')).remaining).toBe(5)
  })

  test('a cost above the capacity is refused for ever; refusals take nothing', async () => {
    const { limiter } = make({ limits: [perMinute(100), perSecond(5)] })
    for (let i = 0; i < 10; i++)
      expect(await limiter.consume('a', 6)).toMatchObject({
        allowed: false,
        retryAfterMs: Infinity,
        limit: { name: '5-per-second' },
      })
    expect(await limiter.consume('a', 5)).toMatchObject({ allowed: true, remaining: 0 })
    expect(await limiter.peek('a')).toMatchObject({ limit: { name: '5-per-second' }, remaining: 0 })
  })

  test('names the limit that refuses longest, else the one with the fewest tokens', async () => {
    const { limiter } = make({ limits: [perSecond(5), perMinute(6), perHour(30)] })
    expect((await limiter.consume('a', 1)).limit.name).toBe('5-per-second')
    await limiter.refund('a')
    expect(await limiter.consume('a', 5)).toMatchObject({ limit: { name: '5-per-second' }, remaining: 0 })
    expect(await limiter.consume('a', 2)).toMatchObject({ limit: { name: '6-per-minute' }, retryAfterMs: 10_000 })
    expect(await limiter.consume('a', 1)).toMatchObject({ limit: { name: '5-per-second' }, retryAfterMs: 200 })
  })

  test('peek and a cost of 0 tell what a call of 1 would get, and take nothing', async () => {
    const { limiter } = make()
    for (let i = 0; i < 10; i++) expect(await limiter.peek('a')).toMatchObject({ allowed: true, remaining: 5 })
    await limiter.consume('a', 5)
    expect(await limiter.consume('a', 0)).toEqual(await limiter.peek('a'))
    expect(await limiter.peek('a')).toMatchObject({ allowed: false, remaining: 0, retryAfterMs: 200 })
  })

  test('refund gives back, penalize takes what is not there, reset fills', async () => {
    const { limiter, clock } = make()
    await limiter.consume('a', 5)
    await limiter.refund('a', 2)
    expect((await limiter.peek('a')).remaining).toBe(2)
    await limiter.refund('a', 100)
    expect((await limiter.peek('a')).remaining).toBe(5)
    await limiter.penalize('a', 15)
    expect(await limiter.peek('a')).toMatchObject({ allowed: false, retryAfterMs: 2_200 })
    await clock.advance(2_199)
    expect((await limiter.peek('a')).allowed).toBe(false)
    await clock.advance(1)
    expect((await limiter.peek('a')).allowed).toBe(true)
    await limiter.penalize('a', 15)
    await limiter.reset('a')
    expect(await limiter.peek('a')).toMatchObject({ allowed: true, remaining: 5, resetMs: 0 })
  })

  test('a reservation gives its tokens back once, and a refused one none', async () => {
    const { limiter } = make()
    const kept = await limiter.reserve('a', 2)
    const cancelled = await limiter.reserve('a', 3)
    const refused = await limiter.reserve('a', 1)
    expect([kept, cancelled, refused].map((r) => r.decision.allowed)).toEqual([true, true, false])
    await refused.cancel()
    await Promise.all([cancelled.cancel(), cancelled.cancel()])
    await cancelled.cancel()
    expect((await limiter.peek('a')).remaining).toBe(3)
  })

  test('limiters with a prefix share a store and nothing else', async () => {
    const clock = new ManualClock()
    const store = new MemoryTokenBucketStore({ clock })
    const [login, api, same] = ['login:', 'api:', 'api:'].map((prefix) => make({ store, prefix, clock }).limiter)
    await login!.consume('a', 5)
    expect(await api!.consume('a', 2)).toMatchObject({ remaining: 3, limit: { name: '5-per-second' } })
    expect((await same!.peek('a')).remaining).toBe(3)
  })

  test('keys with the names of object members are keys like others', async () => {
    const { limiter } = make()
    for (const key of ['constructor', '__proto__', 'toString', 'hasOwnProperty', '']) {
      expect((await limiter.consume(key, 5)).allowed).toBe(true)
      expect((await limiter.consume(key)).allowed).toBe(false)
    }
  })

  test('jumps of the wall clock change nothing', async () => {
    const { limiter, clock } = make()
    await limiter.consume('a', 5)
    for (const ms of [3_600_000, -7_200_000]) {
      clock.jumpEpoch(ms)
      expect(await limiter.peek('a')).toMatchObject({ allowed: false, retryAfterMs: 200 })
    }
  })

  test('tells listeners of refusals', async () => {
    const { limiter } = make()
    const seen: unknown[] = []
    const stop = limiter.on('refused', (event) => seen.push(event))
    await limiter.consume('a', 5)
    const decision = await limiter.consume('a', 2)
    await limiter.peek('a')
    stop()
    await limiter.consume('a')
    expect(seen).toEqual([{ key: 'a', cost: 2, decision }])
  })
})

describe('RateLimiter.for', () => {
  test('runs the operation while there are tokens, and throws RateLimitedError without running it', async () => {
    const { limiter } = make()
    const policy = limiter.for('a', 2)
    let ran = 0
    expect(await policy.execute(() => ++ran)).toBe(1)
    expect(await policy.wrap((n: number) => ++ran + n)(10)).toBe(12)
    const error = await policy.execute(() => ++ran).catch((e: unknown) => e)
    expect(error).toMatchObject({ name: 'RateLimitedError', code: 'RATE_LIMITED', retryAfterMs: 200 })
    expect(error).toMatchObject({ decision: { allowed: false, remaining: 1, limit: perSecond(5) } })
    expect((error as Error).message).toBe("rate limit '5-per-second' refuses: retry after 200 ms")
    expect(await policy.attempt(() => ++ran)).toMatchObject({ ok: false, error: { code: 'RATE_LIMITED' } })
    expect(ran).toBe(2)
  })

  test('what the operation throws comes out as the same object, and its tokens are spent', async () => {
    const { limiter } = make()
    const error = new Error('mine')
    await expect(limiter.for('a').execute(() => Promise.reject(error))).rejects.toBe(error)
    expect((await limiter.peek('a')).remaining).toBe(4)
  })

  test('an aborted call ends with the reason, takes nothing and does not run', async () => {
    const { limiter } = make()
    const signal = AbortSignal.abort('no')
    await expect(limiter.for('a').execute(() => 1, { signal })).rejects.toBe('no')
    expect((await limiter.peek('a')).remaining).toBe(5)
  })

  test('a call aborted while the store is asked ends with the reason and does not run', async () => {
    const store = new SilentStore()
    const { limiter } = make({ store })
    const controller = new AbortController()
    let ran = false
    const call = limiter.for('a').execute(() => (ran = true), { signal: controller.signal })
    await settle()
    controller.abort('no')
    await expect(call).rejects.toBe('no')
    store.asked[0]!.resolve(yes)
    await settle()
    expect(ran).toBe(false)
  })
})

describe('a store that fails', () => {
  const broken: TokenBucketStore = {
    take: () => Promise.reject(new StoreError('gone')),
    adjust: () => Promise.reject(new Error('gone')),
    reset: () => {
      throw new StoreError('gone')
    },
  }

  test('allow: every call passes, but for one that never could', async () => {
    const { limiter } = make({ store: broken })
    for (let i = 0; i < 20; i++)
      expect(await limiter.consume('a')).toEqual({
        allowed: true,
        remaining: 0,
        retryAfterMs: 0,
        resetMs: 0,
        limit: perSecond(5),
        storeFailed: true,
      })
    expect(await limiter.consume('a', 6)).toMatchObject({ allowed: false, retryAfterMs: Infinity, storeFailed: true })
  })

  test('deny: none passes, and the refusal says why', async () => {
    const { limiter } = make({ store: broken, onStoreFailure: 'deny' })
    expect(await limiter.consume('a')).toMatchObject({ allowed: false, retryAfterMs: 1_000, storeFailed: true })
    await expect(limiter.for('a').execute(() => 1)).rejects.toThrow(/its store having failed: retry after 1000 ms/)
  })

  test('share: this process alone counts its part of every limit', async () => {
    const limits = [perSecond(20, { burst: 23 }), perMinute(100)]
    const { limiter, clock } = make({ store: broken, limits, onStoreFailure: { share: 4 } })
    const allowed = async (): Promise<number> => {
      const all = await Promise.all(Array.from({ length: 60 }, () => limiter.consume('a')))
      expect(all.every((d) => d.storeFailed)).toBe(true)
      return all.filter((d) => d.allowed).length
    }
    expect(await allowed()).toBe(5)
    await clock.advance(400)
    expect(await allowed()).toBe(2)
    await clock.advance(1_000)
    expect(await allowed()).toBe(5)
    await clock.advance(60_000)
    expect(await limiter.consume('a', 15)).toMatchObject({ allowed: false, retryAfterMs: 1_000 })
    expect(await limiter.consume('a', 24)).toMatchObject({ allowed: false, retryAfterMs: Infinity })
    const reservation = await limiter.reserve('a', 5)
    await reservation.cancel()
    expect(await limiter.peek('a')).toMatchObject({ allowed: true, remaining: 5, limit: limits[0] })
  })

  test('listeners learn of each failure', async () => {
    const { limiter } = make({ store: broken })
    const seen: unknown[] = []
    limiter.on('storeFailed', (event) => seen.push(event))
    await limiter.consume('a')
    await limiter.reset('b').catch(() => {})
    expect(seen).toMatchObject([
      { key: 'a', error: { code: 'STORE_FAILED' } },
      { key: 'b', error: { code: 'STORE_FAILED' } },
    ])
  })

  test('refund, penalize and reset reject with StoreError', async () => {
    const { limiter } = make({ store: broken })
    for (const done of [limiter.refund('a'), limiter.penalize('a'), limiter.reset('a')])
      await expect(done).rejects.toMatchObject({ name: 'StoreError', code: 'STORE_FAILED' })
  })

  test('cancel of a reservation that passed without a store does not ask it', async () => {
    const { limiter } = make({ store: broken })
    await expect((await limiter.reserve('a')).cancel()).resolves.toBeUndefined()
  })

  test('a mistake of the caller that the store finds is no failure of the store', async () => {
    const store = new MemoryTokenBucketStore()
    const { limiter } = make({
      store: { ...broken, take: () => store.take('a', 1, [{ ...perSecond(1), refillPerSecond: 0 }]) },
    })
    await expect(limiter.consume('a')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })

  test('a store that does not answer is decided without, within storeTimeoutMs', async () => {
    const store = new SilentStore()
    const { limiter, clock } = make({ store, onStoreFailure: 'deny' })
    let decision: unknown
    void limiter.consume('a').then((d) => (decision = d))
    await clock.advance(47.9)
    expect(decision).toBeUndefined()
    await clock.advance(0.1) // a host's timer is late by up to two
    expect(decision).toMatchObject({ allowed: false, storeFailed: true })
  })

  test('an answer in time is the decision, and leaves no timer; a failure in time neither', async () => {
    const store = new SilentStore()
    const { limiter, clock } = make({ store, onStoreFailure: 'deny' })
    const failing = make({ store: broken })
    expect(await failing.limiter.consume('a')).toMatchObject({ storeFailed: true })
    expect(failing.clock.pendingTimers).toBe(0)
    const call = limiter.consume('a')
    await clock.advance(47.9)
    store.asked[0]!.resolve(yes)
    expect(await call).toMatchObject({ allowed: true, remaining: 4, storeFailed: false })
    expect(clock.pendingTimers).toBe(0)
  })

  test('an answer that comes too late changes no decision, and a late failure is no unhandled rejection', async () => {
    const store = new SilentStore()
    const { limiter, clock } = make({ store, onStoreFailure: 'deny', storeTimeoutMs: 10 })
    const events: unknown[] = []
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown): unknown => unhandled.push(error)
    process.on('unhandledRejection', onUnhandled)
    limiter.on('storeFailed', (e) => events.push(e))
    limiter.on('refused', (e) => events.push(e))
    const calls = [limiter.consume('a'), limiter.consume('b'), limiter.reset('c').catch((e: unknown) => e)]
    await clock.advance(10)
    const decided = await Promise.all(calls)
    const before = structuredClone(decided.slice(0, 2))
    const count = events.length
    store.asked[0]!.resolve(yes)
    store.asked[1]!.reject(new Error('late'))
    store.asked[2]!.reject(new Error('late'))
    await settle()
    await clock.advance(1_000)
    process.off('unhandledRejection', onUnhandled)
    expect(decided.slice(0, 2)).toEqual(before)
    expect(decided[2]).toMatchObject({ code: 'STORE_FAILED' })
    expect(events).toHaveLength(count)
    expect(unhandled).toEqual([])
  })
})
