import { expect } from 'vitest'
import { perSecond, RateLimiter } from '../../src/rate-limit/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

const CAPACITY = 10
const anyKey = fc.oneof(
  fc.constantFrom(
    '',
    '__proto__',
    'constructor',
    '{}',
    '{',
    '}',
    'a:b',
    '*',
    '\0',
    '\ud800',
    'é',
    'e\u0301',
    'a'.repeat(65_536),
  ),
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)) }), // halves of pairs too
)
const huge = (cost: unknown): boolean => Number.isSafeInteger(cost) && (cost as number) > 1e6 // as good as infinite
const anyCost = fc.oneof(
  { weight: 2, arbitrary: fc.integer({ min: 0, max: CAPACITY + 2 }) },
  fc.double().filter((cost) => !huge(cost)),
  fc.anything().filter((cost) => !huge(cost)),
)
const steps = fc.array(
  fc.record({ op: fc.constantFrom('consume', 'refund', 'penalize', 'reserve', 'for'), key: anyKey, cost: anyCost }),
  { maxLength: 60 },
)

prop(
  'whatever comes as key and cost: each string is a key of its own, and a cost that is none throws and changes nothing',
  [steps],
  async (script) => {
    const limiter = new RateLimiter({ limits: perSecond(CAPACITY), clock: new ManualClock() })
    const left = new Map<string, number>()
    for (const { op, key, cost: given } of script) {
      const cost = given === undefined ? 1 : (given as number)
      const before = left.get(key) ?? CAPACITY
      const call = async (): Promise<unknown> =>
        op === 'for' ? limiter.for(key, cost).attempt(() => 1) : limiter[op](key, cost)
      if (!Number.isSafeInteger(cost) || cost < 0) {
        await expect(call()).rejects.toMatchObject({ code: 'INVALID_OPTION' })
      } else {
        await call()
        if (op === 'refund') left.set(key, Math.min(CAPACITY, before + cost))
        else if (op === 'penalize') left.set(key, before - cost)
        else if (cost <= before) left.set(key, before - cost)
      }
      expect((await limiter.peek(key)).remaining).toBe(Math.max(0, left.get(key) ?? CAPACITY))
    }
    for (const [key, tokens] of left) expect((await limiter.peek(key)).remaining).toBe(Math.max(0, tokens))
  },
)
