import { expect, test } from 'vitest'
import { constant, exponential, type ExponentialOptions } from '../../src/resilience/index.js'
import { fc, prop } from '../support/prop.js'

const context = (random: number, previousMs?: number) => ({ random: () => random, previousMs })

test('constant waits the same each time', () => {
  expect([1, 2, 50].map((n) => constant(40)(n, undefined, context(0.3)))).toEqual([40, 40, 40])
})

test('exponential without jitter grows by its factor up to the longest', () => {
  const backoff = exponential({ initialMs: 10, maxMs: 70, factor: 3, jitter: 'none' })
  expect([1, 2, 3, 4, 5_000].map((n) => backoff(n, undefined, context(0.5)))).toEqual([10, 30, 70, 70, 70])
})

test('waits of nothing stay nothing, after any number of tries', () => {
  expect(exponential({ initialMs: 0 })(5_000, undefined, context(0.5))).toBe(0)
})

test('by default it starts at up to 100 ms, doubles, and ends at up to 30 s', () => {
  const backoff = exponential()
  expect([1, 2, 3, 20].map((n) => backoff(n, undefined, context(0.5)))).toEqual([50, 100, 200, 15_000])
  expect(exponential({ initialMs: 50_000, jitter: 'none' })(2, undefined, context(0))).toBe(50_000)
})

test.each([
  { jitter: 'full', least: 0, most: 40 },
  { jitter: 'equal', least: 20, most: 40 },
] as const)('$jitter jitter spreads over [$least, $most)', ({ jitter, least, most }) => {
  const backoff = exponential({ initialMs: 10, factor: 2, jitter })
  expect(backoff(3, undefined, context(0))).toBe(least)
  expect(backoff(3, undefined, context(1))).toBe(most)
})

test('decorrelated jitter spreads from the first wait to three times the last', () => {
  const backoff = exponential({ initialMs: 10, maxMs: 100, jitter: 'decorrelated' })
  expect(backoff(1, undefined, context(0))).toBe(10)
  expect(backoff(1, undefined, context(1))).toBe(30)
  expect(backoff(2, undefined, context(0, 20))).toBe(10)
  expect(backoff(2, undefined, context(1, 20))).toBe(60)
  expect(backoff(3, undefined, context(1, 90))).toBe(100)
  expect(backoff(3, undefined, context(0.5, 0))).toBe(10) // the try before was not waited for
})

const sizes = fc.record({
  initialMs: fc.oneof(fc.integer({ min: 0, max: 1_000 }), fc.constant(Number.MAX_SAFE_INTEGER)),
  factor: fc.oneof(fc.double({ min: 1, max: 10, noNaN: true }), fc.constant(Number.MAX_SAFE_INTEGER)),
  above: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 100_000 })),
})

prop(
  'every wait is a number within its limits, for any sizes, chance and number of tries',
  [
    sizes,
    fc.constantFrom('none' as const, 'full' as const, 'equal' as const, 'decorrelated' as const),
    fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { minLength: 1, maxLength: 50 }),
    fc.integer({ min: 1, max: 2_000 }),
  ],
  ({ initialMs, factor, above }, jitter, chances, from) => {
    const maxMs = Math.min(initialMs + above, Number.MAX_SAFE_INTEGER)
    const backoff = exponential({ initialMs, maxMs, factor, jitter })
    let previousMs: number | undefined
    for (const [i, chance] of chances.entries()) {
      const wait = backoff(from + i, undefined, { previousMs, random: () => chance })
      const least = jitter === 'full' ? 0 : jitter === 'equal' ? initialMs / 2 : initialMs
      expect(wait).toBeGreaterThanOrEqual(least)
      expect(wait).toBeLessThanOrEqual(maxMs)
      previousMs = wait
    }
  },
)

test.each<ExponentialOptions>([
  { initialMs: -1 },
  { initialMs: Infinity },
  { initialMs: 10, maxMs: 5 },
  { factor: 0.9 },
  { jitter: 'some' as never },
])('a mistake is found at once: %j', (options) => {
  expect(() => exponential(options)).toThrow('expected')
  expect(() => constant(NaN)).toThrow('ms: expected')
})
