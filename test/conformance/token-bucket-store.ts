import { expect } from 'vitest'
import { perDay, perSecond, type Limit, type Taken, type TokenBucketStore } from '../../src/rate-limit/index.js'
import { lawsFor } from './laws.js'

/** A store under test. */
export interface TokenBucketStoreHarness {
  readonly store: TokenBucketStore
  /** Another object on the same buckets, as another process has it; the same object where they can't be shared. */
  readonly other: TokenBucketStore
  /** Lets `ms` pass: moves a fake clock, or really waits where the store has its own. */
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

/** Refills nothing while a test runs, whatever the delays. */
const slow: Limit = { name: 'slow', capacity: 10, refillPerSecond: 1e-6 }
const slower: Limit = { name: 'slower', capacity: 4, refillPerSecond: 1e-6 }
/** Is full again before anything can be slow. */
const fast: Limit = { name: 'fast', capacity: 5, refillPerSecond: 100 }

const strange = [
  '',
  ' ',
  '__proto__',
  'constructor',
  'toString',
  'a:b',
  'a*b?[c]',
  '{',
  '}',
  '{}',
  '}{',
  '{a}',
  'a}b{c',
]
strange.push('%007d', '%', '\0', '\ud800', '\udfff', '😀', 'ключ', 'a\r\nb', 'x'.repeat(60_000))

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function tokenBucketStoreContract(
  adapter: string,
  open: () => Promise<TokenBucketStoreHarness>,
  gaps: Record<string, string> = {},
): void {
  const law = lawsFor(adapter, open, gaps)

  law('a bucket that was never touched is full', async ({ store }) => {
    const { allowed, buckets } = await store.take('a', 0, [slow, slower])
    expect(allowed).toBe(true)
    expect(buckets).toEqual([
      { remaining: 10, retryAfterMs: 0, resetMs: 0 },
      { remaining: 4, retryAfterMs: 0, resetMs: 0 },
    ])
  })

  law('a call takes its cost, and tells what is left after it', async ({ store }) => {
    const { allowed, buckets } = await store.take('a', 3, [slow])
    expect(allowed).toBe(true)
    expect(buckets[0]!.remaining).toBe(7)
    expect(buckets[0]!.resetMs).toBeGreaterThan(2.9e9)
    expect(buckets[0]!.resetMs).toBeLessThanOrEqual(3e9)
  })

  law('a whole bucket passes at once, and then nothing', async ({ store }) => {
    expect((await store.take('a', 10, [slow])).allowed).toBe(true)
    const { allowed, buckets } = await store.take('a', 1, [slow])
    expect(allowed).toBe(false)
    expect(buckets[0]!.remaining).toBe(0)
    expect(buckets[0]!.retryAfterMs).toBeGreaterThan(0.99e9)
    expect(buckets[0]!.retryAfterMs).toBeLessThanOrEqual(1e9)
  })

  law('calls at the same time never take more than the bucket holds', async ({ store, other }) => {
    const all = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => (i % 2 ? store : other).take('a', 1, [slow])),
    )
    expect(all.filter((t) => t.allowed)).toHaveLength(10)
    expect(
      all
        .filter((t) => t.allowed)
        .map((t) => t.buckets[0]!.remaining)
        .toSorted((a, b) => a - b),
    ).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  law('a refused call changes nothing', async ({ store }) => {
    await store.take('a', 8, [slow])
    for (let i = 0; i < 20; i++) expect((await store.take('a', 3, [slow])).allowed).toBe(false)
    expect((await store.take('a', 2, [slow])).allowed).toBe(true)
  })

  law('a cost of 0 changes nothing and tells what a cost of 1 would', async ({ store }) => {
    for (let left = 10; left > 0; left--) {
      const peek = await store.take('a', 0, [slow])
      expect(peek.allowed).toBe(true)
      expect(peek.buckets[0]!.remaining).toBe(left)
      await store.take('a', 1, [slow])
    }
    const peek = await store.take('a', 0, [slow])
    expect(peek.allowed).toBe(false)
    expect(peek.buckets[0]!.retryAfterMs).toBeGreaterThan(0)
  })

  law('a cost above the capacity is refused for ever and changes nothing', async ({ store }) => {
    for (const cost of [11, 1e6, Number.MAX_SAFE_INTEGER]) {
      const { allowed, buckets } = await store.take('a', cost, [slow])
      expect(allowed).toBe(false)
      expect(buckets[0]).toEqual({ remaining: 10, retryAfterMs: Infinity, resetMs: 0 })
    }
  })

  law('takes under all limits or under none', async ({ store }) => {
    for (let i = 0; i < 4; i++) expect((await store.take('a', 1, [slow, slower])).allowed).toBe(true)
    for (let i = 0; i < 5; i++) {
      const { allowed, buckets } = await store.take('a', 1, [slow, slower])
      expect(allowed).toBe(false)
      expect(buckets.map((b) => b.remaining)).toEqual([6, 0])
      expect(buckets[0]!.retryAfterMs).toBe(0)
      expect(buckets[1]!.retryAfterMs).toBeGreaterThan(0)
    }
    expect((await store.take('a', 6, [slow])).allowed).toBe(true)
  })

  law('calls at the same time under several limits take from all or none', async ({ store, other }) => {
    const all = await Promise.all(
      Array.from({ length: 20 }, async (_, i) =>
        (i % 2 ? store : other).take('a', 1, i % 3 ? [slow, slower] : [slower, slow]),
      ),
    )
    expect(all.filter((t) => t.allowed)).toHaveLength(4)
    expect((await store.take('a', 0, [slow])).buckets[0]!.remaining).toBe(6)
  })

  law('each key has buckets of its own, whatever the string', async ({ store }) => {
    for (const key of strange) {
      expect((await store.take(key, 4, [slow, slower])).allowed, JSON.stringify(key.slice(0, 20))).toBe(true)
      expect((await store.take(key, 1, [slow, slower])).allowed).toBe(false)
    }
  })

  law('each limit has buckets of its own, whatever its name', async ({ store }) => {
    for (const key of ['a', 'a}b', '']) {
      for (const name of strange.filter((n) => n !== '')) {
        const limit = { ...slower, name }
        expect((await store.take(key, 4, [limit])).allowed, JSON.stringify(name.slice(0, 20))).toBe(true)
        expect((await store.take(key, 1, [limit])).allowed).toBe(false)
      }
    }
  })

  law('the same name at another rate is another bucket', async ({ store }) => {
    await store.take('a', 10, [slow])
    expect((await store.take('a', 10, [{ ...slow, refillPerSecond: 3 }])).allowed).toBe(true)
  })

  law('the same name with another capacity is the same bucket', async ({ store }) => {
    await store.take('a', 10, [slow])
    const { allowed, buckets } = await store.take('a', 5, [{ ...slow, capacity: 15 }])
    expect(allowed).toBe(true)
    expect(buckets[0]!.remaining).toBe(0)
    expect((await store.take('a', 0, [slow])).buckets[0]!.remaining).toBe(0)
  })

  law('tokens come back at the rate of the limit, up to the capacity', async ({ store, advance }) => {
    await store.take('a', 5, [fast])
    await advance(200)
    expect((await store.take('a', 0, [fast])).buckets[0]).toEqual({ remaining: 5, retryAfterMs: 0, resetMs: 0 })
    expect((await store.take('a', 6, [fast])).allowed).toBe(false)
    expect((await store.take('a', 5, [fast])).allowed).toBe(true)
  })

  law('after retryAfterMs a refused call passes', async ({ store, advance }) => {
    const odd: Limit = { name: 'odd', capacity: 3, refillPerSecond: 17.3 }
    await store.take('a', 3, [odd])
    for (const cost of [1, 2, 3]) {
      const refused = await store.take('a', cost, [odd])
      expect(refused.allowed).toBe(false)
      await advance(refused.buckets[0]!.retryAfterMs)
      expect((await store.take('a', cost, [odd])).allowed).toBe(true)
    }
  })

  law('windows of 30 days and of 50 ms limit alike', async ({ store, advance }) => {
    const month: Limit = { name: 'month', capacity: 5, refillPerSecond: 5 / (30 * 86_400) }
    const blink: Limit = { name: 'blink', capacity: 2, refillPerSecond: 2 / 0.05 }
    expect((await store.take('a', 5, [month])).allowed).toBe(true)
    await store.take('b', 2, [blink])
    await advance(60)
    expect((await store.take('a', 1, [month])).allowed).toBe(false)
    expect((await store.take('b', 2, [blink])).allowed).toBe(true)
  })

  law('a rate of a million per second is counted exactly', async ({ store }) => {
    const limit: Limit = { name: 'million', capacity: 10_000_000, refillPerSecond: 1e6 }
    expect((await store.take('a', 10_000_000, [limit])).allowed).toBe(true)
    expect((await store.take('a', 10_000_000, [limit])).allowed).toBe(false)
  })

  law('adjust gives back, never above full', async ({ store }) => {
    await store.take('a', 9, [slow])
    await store.adjust('a', 2, [slow])
    expect((await store.take('a', 0, [slow])).buckets[0]!.remaining).toBe(3)
    await store.adjust('a', 100, [slow])
    await store.adjust('untouched', 100, [slow])
    expect((await store.take('a', 0, [slow])).buckets[0]).toEqual({ remaining: 10, retryAfterMs: 0, resetMs: 0 })
    expect((await store.take('untouched', 11, [slow])).allowed).toBe(false)
  })

  law('adjust takes what is not there, and the bucket refuses until it is back', async ({ store, advance }) => {
    await store.adjust('a', -25, [fast])
    const { allowed, buckets } = await store.take('a', 1, [fast])
    expect(allowed).toBe(false)
    expect(buckets[0]!.remaining).toBe(0)
    expect(buckets[0]!.resetMs).toBeLessThanOrEqual(250)
    await advance(buckets[0]!.retryAfterMs)
    expect((await store.take('a', 1, [fast])).allowed).toBe(true)
  })

  law('adjust changes the buckets of all limits', async ({ store }) => {
    await store.adjust('a', -4, [slow, slower])
    expect((await store.take('a', 0, [slow, slower])).buckets.map((b) => b.remaining)).toEqual([6, 0])
    await store.adjust('a', 1, [slow, slower])
    expect((await store.take('a', 0, [slow, slower])).buckets.map((b) => b.remaining)).toEqual([7, 1])
  })

  law('a debt without end stays a number', async ({ store }) => {
    for (let i = 0; i < 3; i++) await store.adjust('a', -Number.MAX_SAFE_INTEGER, [perDay(1)])
    const { allowed, buckets } = await store.take('a', 1, [perDay(1)])
    expect(allowed).toBe(false)
    expect(Number.isSafeInteger(buckets[0]!.retryAfterMs)).toBe(true)
    expect(buckets[0]!.retryAfterMs).toBeGreaterThan(50 * 365 * 86_400_000)
    await store.reset('a', [perDay(1)])
    expect((await store.take('a', 1, [perDay(1)])).allowed).toBe(true)
  })

  law('reset fills the buckets of a key under the limits named, and no others', async ({ store }) => {
    await store.take('a', 4, [slow, slower])
    await store.take('b', 4, [slow, slower])
    await store.reset('a', [slower])
    await store.reset('never', [slow])
    expect((await store.take('a', 0, [slow, slower])).buckets.map((b) => b.remaining)).toEqual([6, 4])
    expect((await store.take('b', 0, [slow, slower])).buckets.map((b) => b.remaining)).toEqual([6, 0])
    await store.reset('a', [slow, slower])
    expect((await store.take('a', 0, [slow, slower])).buckets.map((b) => b.remaining)).toEqual([10, 4])
  })

  law('calls take effect in the order in which one caller makes them', async ({ store }) => {
    const taken: Promise<boolean>[] = []
    const take = async (cost: number): Promise<boolean> => (await store.take('a', cost, [slow])).allowed
    const rest: unknown[] = []
    taken.push(take(10), take(1))
    rest.push(store.adjust('a', 2, [slow]))
    taken.push(take(2), take(1))
    rest.push(store.reset('a', [slow]))
    taken.push(take(10))
    rest.push(store.adjust('a', -5, [slow]), store.adjust('a', 6, [slow]))
    taken.push(take(2), take(1))
    expect(await Promise.all(taken)).toEqual([true, false, true, false, true, false, true])
    await Promise.all(rest)
  })

  law('many keys at the same time do not disturb each other', async ({ store }) => {
    const keys = Array.from({ length: 700 }, (_, i) => `key-${i}`)
    const take = async (key: string, cost: number, limits: Limit[]): Promise<Taken> => store.take(key, cost, limits)
    const all = await Promise.all(
      keys.flatMap((key, i) => [take(key, 1 + (i % 4), [slower, slow]), take(key, 4, [slow, slower])]),
    )
    all.forEach(({ allowed, buckets }, i) => {
      const cost = 1 + ((i >> 1) % 4)
      expect(allowed).toBe(i % 2 === 0)
      expect(buckets.map((b) => b.remaining)).toEqual(i % 2 === 0 ? [4 - cost, 10 - cost] : [10 - cost, 4 - cost])
    })
  })

  law('what is passed in is not changed', async ({ store }) => {
    const limits = Object.freeze([Object.freeze({ ...slow }), Object.freeze(perSecond(5))])
    await store.take('a', 1, limits)
    await store.adjust('a', 1, limits)
    await store.reset('a', limits)
    expect(limits).toEqual([slow, perSecond(5)])
  })
}
