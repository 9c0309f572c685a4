import { describe, expect, test } from 'vitest'
import { MemoryTokenBucketStore, perSecond, type Limit } from '../../src/rate-limit/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { tokenBucketStoreContract } from '../conformance/token-bucket-store.js'
import { fc, prop } from '../support/prop.js'

const open = async (options: { maxKeys?: number } = {}, now = 1_000) => {
  const clock = new ManualClock({ now })
  const store = new MemoryTokenBucketStore({ ...options, clock })
  return { store, other: store, advance: (ms: number) => clock.advance(ms), close: async () => {}, clock }
}

tokenBucketStoreContract('MemoryTokenBucketStore', () => open())
tokenBucketStoreContract('MemoryTokenBucketStore, after a year', () =>
  open({ maxKeys: 5_000 }, 365.25 * 86_400_000 + 0.3),
)

describe('MemoryTokenBucketStore', () => {
  const slow: Limit[] = [{ name: 'slow', capacity: 2, refillPerSecond: 1e-6 }]
  const second: Limit[] = [perSecond(10)]

  test('maxKeys is an integer of at least 1', () => {
    for (const maxKeys of [0, -1, 1.5, NaN, '5' as never])
      expect(() => new MemoryTokenBucketStore({ maxKeys })).toThrow(/maxKeys: expected an integer/)
  })

  test('holds no timer', async () => {
    const { store, clock } = await open()
    for (let i = 0; i < 1_000; i++) store.take(`k${i}`, 1, second)
    expect(clock.pendingTimers).toBe(0)
  })

  test('forgets full buckets as calls go on, so that memory follows the keys in use', async () => {
    const { store, clock } = await open()
    let most = 0
    for (let i = 0; i < 60; i++) {
      for (let j = 0; j < 500; j++) store.take(`k${i}-${j}`, 1, second)
      await clock.advance(50) // a bucket is full again after 100 ms: 1000 keys are in use at a time
      most = Math.max(most, store.size)
    }
    expect(most).toBeLessThan(3_000)
    await clock.advance(1_000)
    for (let j = 0; j < 3_000; j++) store.take('one', 0, second)
    expect(store.size).toBe(0)
    for (let i = 0; i < 60; i++) {
      for (let j = 0; j < 500; j++) store.adjust(`k${i}-${j}`, -1, second)
      await clock.advance(50)
    }
    expect(store.size).toBeLessThan(3_000)
  })

  test('sweeps the buckets of every limit, whichever is in use', async () => {
    const { store, clock } = await open()
    const limits = Array.from({ length: 5 }, (_, i) => [perSecond(10, { name: `limit ${i}` })])
    for (const limit of limits) for (let i = 0; i < 500; i++) store.take(`k${i}`, 10, limit)
    expect(store.size).toBe(2_500)
    await clock.advance(1_000)
    for (let j = 0; j < 3_000; j++) store.take('one', 0, limits[2]!)
    expect(store.size).toBe(0)
  })

  test('a refund that fills a bucket, and a reset, forget it at once', async () => {
    const { store } = await open()
    store.take('a', 2, slow)
    store.adjust('a', 2, slow)
    expect(store.size).toBe(0)
    store.take('a', 1, slow)
    store.adjust('a', 100, slow)
    expect(store.size).toBe(0)
    store.take('a', 1, slow)
    store.reset('a', slow)
    store.reset('a', slow)
    expect(store.size).toBe(0)
  })

  test('a flood of new keys stays under maxKeys and does not free a blocked one', async () => {
    const { store } = await open({ maxKeys: 100 })
    for (let i = 0; i < 25; i++) store.take(`blocked ${i}`, 2, slow)
    for (let i = 50; i < 100; i++) store.take(`blocked ${25 + (i % 25)}`, 1, slow) // by one token and then the last
    for (let i = 0; i < 5_000; i++) {
      expect(store.take(`flood ${i}`, 1, slow).allowed).toBe(true)
      expect(store.size).toBeLessThanOrEqual(100)
    }
    for (let i = 0; i < 50; i++) expect(store.take(`blocked ${i}`, 1, slow).allowed).toBe(false)
  })

  test('a flood under one limit does not free a key that another limit blocks', async () => {
    const { store } = await open({ maxKeys: 10 })
    const login: Limit[] = [{ name: 'login', capacity: 1, refillPerSecond: 1e-6 }]
    store.take('alice', 1, login)
    for (let i = 0; i < 1_000; i++) store.take(`flood ${i}`, 1, slow)
    expect(store.take('alice', 1, login).allowed).toBe(false)
  })

  test('when all keys are blocked, one goes for a new one', async () => {
    const { store } = await open({ maxKeys: 10 })
    for (let i = 0; i < 100; i++) {
      expect(store.take(`k${i}`, 2, slow).allowed).toBe(true)
      expect(store.size).toBeLessThanOrEqual(10)
    }
    expect(store.size).toBe(10)
    expect(store.take('k99', 1, slow).allowed).toBe(false)
  })

  test('a blocked key that has been given tokens is open again', async () => {
    const { store } = await open({ maxKeys: 1 })
    store.take('a', 2, slow)
    store.adjust('a', 1, slow)
    expect(store.take('a', 0, slow).buckets[0]!.remaining).toBe(1)
    expect(store.size).toBe(1)
    store.take('a', 1, slow)
    expect(store.take('a', 1, slow).allowed).toBe(false)
    expect(store.size).toBe(1)
  })

  prop(
    'never holds more than maxKeys, and size is what is held',
    [
      fc.integer({ min: 1, max: 6 }),
      fc.array(
        fc.record({
          op: fc.constantFrom('take', 'adjust', 'reset', 'wait'),
          key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'),
          n: fc.integer({ min: -6, max: 6 }),
          which: fc.subarray([0, 1, 2], { minLength: 1 }),
        }),
        { maxLength: 150 },
      ),
    ],
    async (maxKeys, steps) => {
      const { store, clock } = await open({ maxKeys })
      const lists = new Map<string, Limit[]>()
      const limits = (which: number[]): Limit[] => {
        const id = which.join()
        const list = lists.get(id) ?? which.map((i) => perSecond(2 + i, { name: `limit ${i}`, burst: 3 }))
        lists.set(id, list)
        return list
      }
      for (const { op, key, n, which } of steps) {
        if (op === 'take') store.take(key, Math.abs(n), limits(which))
        else if (op === 'adjust') store.adjust(key, n, limits(which))
        else if (op === 'reset') store.reset(key, limits(which))
        else await clock.advance(Math.abs(n) * 100)
        expect(store.size).toBeGreaterThanOrEqual(0)
        expect(store.size).toBeLessThanOrEqual(maxKeys)
      }
      for (const key of 'abcdefg') store.reset(key, limits([0, 1, 2]))
      expect(store.size).toBe(0)
    },
  )
})
