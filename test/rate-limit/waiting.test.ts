import { getEventListeners } from 'node:events'
import { describe, expect, test } from 'vitest'
import type { Clock } from '../../src/kernel/clock.js'
import { RateLimitedError, TokenBucket } from '../../src/rate-limit/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

const make = (options: { capacity?: number; refillPerSecond?: number; initial?: number } = {}) => {
  const clock = new ManualClock({ now: 12_345.678 })
  return { clock, bucket: new TokenBucket({ capacity: 5, refillPerSecond: 10, ...options, clock }) }
}

/** What became of a promise, without waiting for it. */
const watch = (promise: Promise<unknown>) => {
  const seen: { state: 'waits' | 'done' | 'failed'; error?: unknown } = { state: 'waits' }
  promise.then(
    () => (seen.state = 'done'),
    (error) => Object.assign(seen, { state: 'failed', error }),
  )
  return seen
}

const shared = () => {
  const controller = new AbortController()
  return { signal: controller.signal, abort: () => controller.abort() }
}

describe('TokenBucket.take', () => {
  test('take resolves at once while there are tokens, and else as soon as they are there', async () => {
    const { bucket, clock } = make()
    await bucket.take(5)
    const two = watch(bucket.take(2))
    await clock.advance(199.9)
    expect(two.state).toBe('waits')
    await clock.advance(0.1)
    expect(two.state).toBe('done')
    expect(clock.pendingTimers).toBe(0)
  })

  test('those who wait are served in order: a big cost at the head is not overtaken', async () => {
    const { bucket, clock } = make({ initial: 1 })
    const order: number[] = []
    for (const cost of [5, 1, 1]) void bucket.take(cost).then(() => order.push(cost))
    expect(bucket.tryTake(1)).toBe(false)
    expect(bucket.available).toBe(0)
    expect(bucket.decide(1)).toMatchObject({ allowed: false, remaining: 0, retryAfterMs: 700 })
    await clock.advance(399)
    expect(order).toEqual([])
    expect(bucket.tryTake(1)).toBe(false)
    await clock.advance(1)
    expect(order).toEqual([5])
    await clock.advance(200)
    expect(order).toEqual([5, 1, 1])
    await clock.advance(100)
    expect(bucket.tryTake(1)).toBe(true)
  })

  test('an aborted waiter takes nothing, and those behind move up at once', async () => {
    const { bucket, clock } = make({ initial: 2 })
    const controller = new AbortController()
    const reason = new Error('enough')
    const head = watch(bucket.take(5, { signal: controller.signal }))
    const next = watch(bucket.take(2))
    const last = watch(bucket.take(1))
    await settle()
    expect(next.state).toBe('waits')
    controller.abort(reason)
    await settle()
    expect(head).toEqual({ state: 'failed', error: reason })
    expect(next.state).toBe('done')
    expect(last.state).toBe('waits')
    await clock.advance(100)
    expect(last.state).toBe('done')
    expect(clock.pendingTimers).toBe(0)
    expect(bucket.decide(0)).toMatchObject({ allowed: false, remaining: 0, retryAfterMs: 100, resetMs: 500 })
  })

  test('a waiter aborted in the middle shortens the wait of those behind', async () => {
    const { bucket, clock } = make({ initial: 0 })
    const controller = new AbortController()
    const seen = [watch(bucket.take(1)), watch(bucket.take(5, { signal: controller.signal })), watch(bucket.take(1))]
    controller.abort()
    await clock.advance(200)
    expect(seen.map((s) => s.state)).toEqual(['done', 'failed', 'done'])
  })

  test('take with an aborted signal rejects with its reason and takes nothing', async () => {
    const { bucket } = make()
    await expect(bucket.take(1, { signal: AbortSignal.abort('no') })).rejects.toBe('no')
    expect(bucket.available).toBe(5)
  })

  test('a wait longer than maxWaitMs, behind those who wait already, is refused at once', async () => {
    const { bucket, clock } = make({ initial: 0 })
    const first = watch(bucket.take(3))
    await expect(bucket.take(1, { maxWaitMs: 399 })).rejects.toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 400 })
    const second = watch(bucket.take(1, { maxWaitMs: 400 }))
    await expect(bucket.take(1, { maxWaitMs: 0 })).rejects.toBeInstanceOf(RateLimitedError)
    await clock.advance(400)
    expect([first.state, second.state]).toEqual(['done', 'done'])
  })

  test('one more than maxWaiters is refused at once', async () => {
    const { bucket, clock } = make({ initial: 1 })
    await bucket.take(1, { maxWaiters: 0 })
    await expect(bucket.take(1, { maxWaiters: 0 })).rejects.toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 100 })
    const first = watch(bucket.take(1, { maxWaiters: 1 }))
    await expect(bucket.take(1, { maxWaiters: 1 })).rejects.toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 200 })
    await clock.advance(100)
    expect(first.state).toBe('done')
  })

  test('a cost above the capacity is refused for ever instead of waiting', async () => {
    const { bucket, clock } = make()
    const error = await bucket.take(6).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: Infinity, decision: { allowed: false } })
    expect(clock.pendingTimers).toBe(0)
    expect(bucket.available).toBe(5)
  })

  test('waits of weeks end in time', async () => {
    const { bucket, clock } = make({ capacity: 1, refillPerSecond: 1 / (30 * 86_400), initial: 0 })
    const month = watch(bucket.take(1))
    await clock.advance(30 * 86_400_000 - 1)
    expect(month.state).toBe('waits')
    await clock.advance(1)
    expect(month.state).toBe('done')
  })

  test('a refusal never says 0 ms, not even while the timer of those who wait is late', async () => {
    const manual = new ManualClock()
    let lateMs = 0
    const late: Clock = {
      now: () => manual.now() + lateMs,
      epochMs: () => manual.epochMs(),
      setTimer: (fn, ms) => manual.setTimer(fn, ms),
      sleep: (ms, signal) => manual.sleep(ms, signal),
    }
    const bucket = new TokenBucket({ capacity: 5, refillPerSecond: 10, initial: 0, clock: late })
    void bucket.take()
    lateMs = 1_000
    expect(bucket.decide()).toMatchObject({ allowed: false, retryAfterMs: 1 })
  })

  test('an aborted waiter frees its place at once: the next caller may wait', async () => {
    const { bucket, clock } = make({ initial: 0 })
    const aborts = [new AbortController(), new AbortController()]
    const waiting = aborts.map(({ signal }) => watch(bucket.take(2, { signal, maxWaiters: 2 })))
    const full = bucket.take(1, { maxWaiters: 2 })
    await expect(full).rejects.toMatchObject({ code: 'RATE_LIMITED', retryAfterMs: 500 })
    aborts[1]!.abort()
    const next = watch(bucket.take(1, { maxWaiters: 2 }))
    await expect(bucket.take(1, { maxWaiters: 2 })).rejects.toBeInstanceOf(RateLimitedError)
    aborts[0]!.abort()
    const last = watch(bucket.take(1, { maxWaiters: 2, maxWaitMs: 200 }))
    await clock.advance(200)
    expect([...waiting, next, last].map(({ state }) => state)).toEqual(['failed', 'failed', 'done', 'done'])
  })

  test('waiters that one signal aborts together all take nothing, whichever of them hears it first', async () => {
    const { bucket, clock } = make({ initial: 2 })
    const { signal, abort } = shared()
    const together = [5, 1, 1].map((cost) => watch(bucket.take(cost, { signal })))
    const behind = watch(bucket.take(2))
    abort()
    await settle()
    expect(together.map(({ state }) => state)).toEqual(['failed', 'failed', 'failed'])
    expect(behind.state).toBe('done')
    expect(clock.pendingTimers).toBe(0)
  })

  test('however many one signal aborts, each is looked at once', async () => {
    const { bucket } = make({ initial: 0 })
    const { signal, abort } = shared()
    let isAborted = false
    let looks = 0
    Object.defineProperty(signal, 'aborted', { get: () => isAborted && ++looks > 0 })
    const all = Array.from({ length: 1_000 }, () => watch(bucket.take(1, { signal })))
    isAborted = true
    abort()
    await settle()
    expect(all.every(({ state }) => state === 'failed')).toBe(true)
    expect(looks).toBeLessThan(1_000)
  })

  test('a waiter that was served or aborted leaves no listener on its signal', async () => {
    const { bucket, clock } = make({ initial: 0 })
    const { signal, abort } = shared()
    const served = bucket.take(1, { signal })
    expect(getEventListeners(signal, 'abort')).toHaveLength(1)
    await clock.advance(100)
    await served
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
    void bucket.take(1, { signal }).catch(() => {})
    abort()
    expect(getEventListeners(signal, 'abort')).toHaveLength(0)
    expect(clock.pendingTimers).toBe(0)
  })

  test('a big cost at the head is served in its time, however many small ones come and go behind it', async () => {
    const { bucket, clock } = make({ initial: 0 })
    const big = watch(bucket.take(5))
    let passed = 0
    for (let ms = 0; ms < 490; ms += 10) {
      if (bucket.tryTake()) passed++
      if (bucket.decide().allowed) passed++
      void bucket.take(1, { maxWaiters: 3 }).then(
        () => passed++,
        () => {},
      )
      await clock.advance(10)
    }
    expect([big.state, passed]).toEqual(['waits', 0])
    await clock.advance(10)
    expect([big.state, passed]).toEqual(['done', 0])
  })
})
