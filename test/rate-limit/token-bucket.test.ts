import { describe, expect, test } from 'vitest'
import { TokenBucket } from '../../src/rate-limit/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { TextbookBucket } from './textbook.js'

const make = (options: { capacity?: number; refillPerSecond?: number; initial?: number } = {}) => {
  const clock = new ManualClock({ now: 12_345.678 })
  return { clock, bucket: new TokenBucket({ capacity: 5, refillPerSecond: 10, ...options, clock }) }
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
})
