import { describe, expect, test } from 'vitest'
import { adjusted, admits, meterOf, stateOf, ticksAt, type Meter } from '../../src/rate-limit/gcra.js'
import { fc, prop } from '../support/prop.js'
import { TextbookBucket } from './textbook.js'

/** A bucket driven by the arithmetic alone. */
class Gcra {
  fullAt = 0
  constructor(readonly meter: Meter) {}
  backlog(micros: number): number {
    return Math.max(0, this.fullAt - ticksAt(micros, this.meter))
  }
  tryTake(micros: number, cost: number): boolean {
    const backlog = this.backlog(micros)
    const allowed = admits(backlog, cost, this.meter)
    if (allowed) this.fullAt = ticksAt(micros, this.meter) + backlog + cost * this.meter.ticksPerToken
    return allowed
  }
  adjust(micros: number, tokens: number): void {
    this.fullAt = ticksAt(micros, this.meter) + adjusted(this.backlog(micros), tokens, this.meter)
  }
}

/** Rates of which a token takes a whole number of µs, as fractions. */
const even = fc.oneof(
  fc.constantFrom(1, 2, 4, 5, 8, 10, 16, 20, 25, 50, 100, 1_000, 8_000, 100_000, 500_000, 1_000_000).map((n) => [n, 1]),
  fc.constantFrom([100, 60], [10, 60], [1, 86_400], [5, 3_600], [1_000, 86_400], [1, 2_592_000]),
) as fc.Arbitrary<[number, number]>

/** Any rate, from one per month to a million per second. */
const any = fc.oneof(
  even,
  fc.tuple(fc.integer({ min: 1, max: 1_000_000 }), fc.constantFrom(1, 60, 3_600, 86_400)),
  fc.tuple(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 1, max: 2_592_000 })),
)

/** Steps as long as some tokens take at the rate, so that both sides of every border are met. */
const steps = fc.array(
  fc.record({
    tokens: fc.oneof(fc.constantFrom(0, 0, 0.5, 1, 1, 2, 1e6), fc.double({ min: 0, max: 20, noNaN: true })),
    offBy: fc.constantFrom(-1, 0, 0, 1),
    cost: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: 12 }) }, fc.constantFrom(1_000, 2 ** 50)),
    kind: fc.constantFrom('take', 'take', 'take', 'take', 'refund', 'penalize'),
  }),
  { minLength: 1, maxLength: 80 },
)
const start = fc.constantFrom(0, 1_000_000, 1.8e15, 4.1e15) // also in the year 2100

const microsOf = (tokens: number, [over, under]: readonly [number, number], offBy: number): number =>
  Math.max(0, Math.round((tokens * under * 1e6) / over) + offBy)

describe('the arithmetic', () => {
  prop(
    'is a textbook token bucket, step by step, where a token takes whole µs',
    [fc.integer({ min: 1, max: 30 }), even, start, steps],
    (capacity, rate, begin, script) => {
      const meter = meterOf({ capacity, refillPerSecond: rate[0] / rate[1] })
      expect(meter.ticksPerMicro).toBe(1)
      const model = new TextbookBucket(capacity, rate).at(begin)
      const real = new Gcra(meter)
      let now = begin
      for (const { tokens, offBy, cost, kind } of script) {
        now += Math.min(microsOf(tokens, rate, offBy), 1e12)
        model.at(now)
        if (kind === 'take') {
          const asked = cost || 1
          const allowed = real.tryTake(now, cost)
          expect(allowed).toBe(cost === 0 ? model.tokens >= 1n : model.tryTake(cost))
          const state = stateOf(real.backlog(now), cost, meter)
          expect(state.resetMs).toBe(Math.ceil(model.microsUntil(capacity) / 1e3))
          if (!allowed)
            expect(state.retryAfterMs).toBe(asked > capacity ? Infinity : Math.ceil(model.microsUntil(asked) / 1e3))
        } else if (cost <= 12) {
          const signed = kind === 'refund' ? cost : -cost
          model.take(-signed)
          real.adjust(now, signed)
        }
        const { remaining } = stateOf(real.backlog(now), 1, meter)
        expect(BigInt(remaining)).toBe(model.tokens > 0n ? model.tokens : 0n)
      }
    },
  )

  prop(
    'is a textbook token bucket to within two µs at any rate, however many steps it takes',
    [fc.integer({ min: 1, max: 30 }), any, start, steps],
    (capacity, rate, begin, script) => {
      const meter = meterOf({ capacity, refillPerSecond: rate[0] / rate[1] })
      const model = new TextbookBucket(capacity, rate).at(begin)
      const real = new Gcra(meter)
      const near = (2 * rate[0]) / rate[1] / 1e6 + 1e-9
      let now = begin
      for (let round = 0; round < 5; round++) {
        for (const { tokens, offBy, cost, kind } of script) {
          now += Math.min(microsOf(tokens, rate, offBy), 1e12)
          model.at(now)
          if (kind === 'take' && cost <= 30) {
            const allowed = real.tryTake(now, cost)
            if (allowed) expect(model.level).toBeGreaterThanOrEqual((cost || 1) - near)
            else expect(model.level).toBeLessThan((cost || 1) + near)
            if (allowed) model.take(cost)
          }
        }
      }
    },
  )

  prop(
    'admits at most capacity + refill × w in any window of length w',
    [fc.integer({ min: 1, max: 20 }), any, steps],
    (capacity, rate, script) => {
      const meter = meterOf({ capacity, refillPerSecond: rate[0] / rate[1] })
      const real = new Gcra(meter)
      const admitted: [at: number, cost: number][] = []
      let now = 1e6
      for (const { tokens, offBy, cost } of script) {
        now += Math.min(microsOf(tokens, rate, offBy), 1e12)
        for (let i = 0; i < 3; i++) if (real.tryTake(now, cost)) admitted.push([now, cost])
      }
      for (let from = 0; from < admitted.length; from++) {
        let sum = 0
        for (let to = from; to < admitted.length; to++) {
          sum += admitted[to]![1]
          const micros = admitted[to]![0] - admitted[from]![0] + 1.5
          expect(sum).toBeLessThanOrEqual(capacity + (micros * rate[0]) / rate[1] / 1e6 + 1e-9)
        }
      }
    },
  )

  prop(
    'lets a refused call pass after retryAfterMs, and not a token time earlier',
    [fc.integer({ min: 1, max: 20 }), any, start, fc.integer({ min: 1, max: 20 }), fc.nat(1e6)],
    (capacity, rate, begin, cost, offset) => {
      const meter = meterOf({ capacity, refillPerSecond: rate[0] / rate[1] })
      const now = begin + offset
      const real = new Gcra(meter)
      real.adjust(now, -capacity)
      fc.pre(cost <= capacity)
      const { retryAfterMs } = stateOf(real.backlog(now), cost, meter)
      const { fullAt } = real
      expect(real.tryTake(now + retryAfterMs * 1e3 - Math.ceil(meter.ticksPerToken * 1.5) - 1_003, cost)).toBe(false)
      expect(real.fullAt).toBe(fullAt)
      expect(real.tryTake(now + retryAfterMs * 1e3, cost)).toBe(true)
    },
  )

  prop('stays within safe integers until the year 2096', [fc.integer({ min: 1, max: 1e6 }), any], (capacity, rate) => {
    fc.pre((capacity * rate[1]) / rate[0] < 1.6e9)
    const meter = meterOf({ capacity, refillPerSecond: rate[0] / rate[1] })
    const now = ticksAt(Date.UTC(2096, 0, 1) * 1e3, meter)
    expect(Number.isSafeInteger(meter.size)).toBe(true)
    expect(Number.isSafeInteger(now + meter.size)).toBe(true)
    expect(Number.isSafeInteger(now + adjusted(meter.size, -Number.MAX_SAFE_INTEGER, meter))).toBe(true)
  })

  prop('never reads a later time as an earlier tick', [any, fc.nat(2 ** 31), fc.nat(5)], (rate, base, more) => {
    const meter = meterOf({ capacity: 1, refillPerSecond: rate[0] / rate[1] })
    expect(ticksAt(1.8e15 + base + more, meter)).toBeGreaterThanOrEqual(ticksAt(1.8e15 + base, meter))
  })

  test('700_000 per second is 700_000 per second', () => {
    const real = new Gcra(meterOf({ capacity: 7, refillPerSecond: 700_000 }))
    let admitted = 0
    for (let micros = 0; micros < 1e6; micros++) while (real.tryTake(micros, 1)) admitted++
    expect(admitted).toBeGreaterThanOrEqual(700_000)
    expect(admitted).toBeLessThanOrEqual(700_007)
  })

  test('a rate or a window that can not be counted exactly is refused', () => {
    for (const refillPerSecond of [0, -1, NaN, Infinity, 1_000_001, '5' as never])
      expect(() => meterOf({ capacity: 1, refillPerSecond })).toThrow(/refillPerSecond: expected a number in/)
    expect(() => meterOf({ capacity: 1e9, refillPerSecond: 0.1 })).toThrow(/refillPerSecond: expected more than 0\.4/)
  })
})
