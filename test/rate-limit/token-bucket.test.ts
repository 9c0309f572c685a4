import { describe, expect, test } from 'vitest'
import type { Clock } from '../../src/kernel/clock.js'
import { RateLimitedError, TokenBucket } from '../../src/rate-limit/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { TextbookBucket } from './textbook.js'

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

describe('TokenBucket', () => {
  test('starts full, or with initial tokens', () => {
    expect(make().bucket.available).toBe(5)
    expect(make({ initial: 0 }).bucket.available).toBe(0)
    expect(make({ initial: 2 }).bucket.available).toBe(2)
  })

  test('refuses options out of range', () => {
    for (const capacity of [0, -1, 1.5, NaN, Infinity, '5' as never])
      expect(() => make({ capacity })).toThrow(/capacity/)
    for (const refillPerSecond of [0, -1, NaN, Infinity, 2e8, '5' as never])
      expect(() => make({ refillPerSecond })).toThrow(/refillPerSecond/)
    for (const initial of [-1, 6, 0.5, NaN, '1' as never]) expect(() => make({ initial })).toThrow(/initial/)
  })

  prop(
    'is a textbook token bucket, step by step',
    [
      fc.integer({ min: 1, max: 20 }),
      fc.constantFrom(1, 10, 1_000, 250_000),
      fc.array(fc.tuple(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 8 })), { maxLength: 60 }),
    ],
    (capacity, refillPerSecond, script) => {
      const initial = Math.floor(capacity / 2)
      const clock = new ManualClock()
      let micros = 0
      const now = (): number => 777.7 + micros / 1e3
      const bucket = new TokenBucket({ capacity, refillPerSecond, initial, clock: Object.assign(clock, { now }) })
      const model = new TextbookBucket(capacity, [refillPerSecond, 1], initial)
      for (const [steps, cost] of script) {
        micros += Math.floor((steps * 2e5) / refillPerSecond)
        expect(bucket.tryTake(cost)).toBe(model.at(micros).tryTake(cost))
        expect(bucket.available).toBe(Number(model.tokens))
      }
    },
  )

  test('a hundred million per second is counted exactly', () => {
    let ms = 5_000
    const clock = Object.assign(new ManualClock(), { now: () => ms })
    const bucket = new TokenBucket({ capacity: 1_000, refillPerSecond: 1e8, initial: 0, clock })
    ms += 0.001
    expect(bucket.available).toBe(100)
    expect(bucket.tryTake(99)).toBe(true)
    expect(bucket.available).toBe(1)
    ms += 365 * 86_400_000
    expect(bucket.tryTake(1_000)).toBe(true)
    expect(bucket.tryTake(1)).toBe(false)
    ms += 0.001
    expect(bucket.available).toBe(100)
  })

  test('a cost that is no integer of at least 0 throws and changes nothing', async () => {
    const { bucket } = make()
    for (const cost of [NaN, -1, -1_000, 0.5, Infinity, '1', null, {}, 1n] as never[]) {
      expect(() => bucket.tryTake(cost)).toThrow(/tokens: expected an integer/)
      expect(() => bucket.decide(cost)).toThrow(/tokens: expected an integer/)
      await expect(bucket.take(cost)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    }
    await expect(bucket.take(1, { maxWaitMs: -1 })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(bucket.take(1, { maxWaiters: 0.5 })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    expect(bucket.available).toBe(5)
  })

  test('decide takes, and tells what is left and when to come back', async () => {
    const { bucket, clock } = make()
    const limit = { name: 'bucket', capacity: 5, refillPerSecond: 10 }
    const rest = { limit, storeFailed: false }
    expect(bucket.decide(3)).toEqual({ allowed: true, remaining: 2, retryAfterMs: 0, resetMs: 300, ...rest })
    expect(bucket.decide(4)).toEqual({ allowed: false, remaining: 2, retryAfterMs: 200, resetMs: 300, ...rest })
    expect(bucket.decide(6)).toEqual({ allowed: false, remaining: 2, retryAfterMs: Infinity, resetMs: 300, ...rest })
    expect(bucket.decide(0)).toEqual({ allowed: true, remaining: 2, retryAfterMs: 0, resetMs: 300, ...rest })
    await clock.advance(200)
    expect(bucket.decide(4).allowed).toBe(true)
    expect(bucket.decide(0)).toEqual({ allowed: false, remaining: 0, retryAfterMs: 100, resetMs: 500, ...rest })
  })

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

  prop(
    'every waiter is served in order as soon as a textbook bucket could, and aborted ones leave no trace',
    [
      fc.array(
        fc.record({
          cost: fc.integer({ min: 1, max: 5 }),
          after: fc.integer({ min: 0, max: 400 }),
          abortAfter: fc.option(fc.integer({ min: 0, max: 900 }), { nil: undefined }),
        }),
        { maxLength: 25 },
      ),
    ],
    async (calls) => {
      const { bucket, clock } = make({ initial: 2 })
      const model = new TextbookBucket(5, [10, 1], 2)
      const start = clock.now()
      const waiting: { cost: number; i: number }[] = []
      const expected: number[] = []
      const served: number[] = []
      /** Serves the model's queue up to the time now. */
      const serve = (micros: number): void => {
        model.at(micros)
        while (waiting[0] && model.tryTake(waiting[0].cost)) expected.push(waiting.shift()!.i)
      }
      const aborts = calls.map(() => new AbortController())
      let at = 0
      const events = calls.flatMap(({ cost, after, abortAfter }, i) => {
        at += after
        const call = { at, run: () => (waiting.push({ cost, i }), start1(cost, i)) }
        return abortAfter === undefined ? [call] : [call, { at: at + abortAfter, run: () => abort(i) }]
      })
      const start1 = (cost: number, i: number): void => {
        bucket.take(cost, { signal: aborts[i]!.signal }).then(
          () => served.push(i),
          () => {},
        )
      }
      const abort = (i: number): void => {
        aborts[i]!.abort()
        const place = waiting.findIndex((w) => w.i === i)
        if (place >= 0) waiting.splice(place, 1)
      }
      events.sort((a, b) => a.at - b.at)
      for (let ms = 0; ms <= (events.at(-1)?.at ?? 0) + 14_000; ms += 100) {
        serve(ms * 1e3) // timers fire on the way here, before anything new happens
        for (const event of events.filter((e) => e.at > ms - 100 && e.at <= ms)) {
          event.run()
          serve(ms * 1e3)
        }
        await settle()
        expect(served).toEqual(expected)
        if (events.every((e) => e.at <= ms) && waiting.length === 0) break
        await clock.advance(start + ms + 100 - clock.now())
      }
      expect(waiting).toEqual([])
      expect(clock.pendingTimers).toBe(0)
    },
    { numRuns: 60 },
  )

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
})
