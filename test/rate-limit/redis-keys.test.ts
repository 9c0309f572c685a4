import { describe, expect, test } from 'vitest'
import { perSecond } from '../../src/rate-limit/index.js'
import { placeOf, slotOf, suffixOf } from '../../src/rate-limit/redis-keys.js'
import { fc, prop } from '../support/prop.js'

const text = fc.oneof(
  fc.string({
    unit: fc.constantFrom('a', '{', '}', '%', ':', '!', '1', '007d', '\ud800', '\udc00', '😀'),
    maxLength: 8,
  }),
  fc.string({ unit: 'binary' }),
)
const prefix = fc.constantFrom('holdfast:rate:', '', 'a{', '{tenant}', '}{')

describe('the names of keys in Redis', () => {
  prop(
    'differ for different keys or limits, also as UTF-8',
    [prefix, text, text, text, text, fc.constantFrom(1, 10, 0.5), fc.constantFrom(1, 10, 0.5)],
    (start, key, name, otherKey, otherName, rate, otherRate) => {
      fc.pre(key !== otherKey || name !== otherName || rate !== otherRate)
      const one = placeOf(start, key) + suffixOf({ ...perSecond(1), name, refillPerSecond: rate })
      const two = placeOf(start, otherKey) + suffixOf({ ...perSecond(1), name: otherName, refillPerSecond: otherRate })
      expect(Buffer.from(one).equals(Buffer.from(two))).toBe(false)
    },
  )

  prop('put all limits of a key, and the mark of a call, in one slot', [prefix, text, text], (start, key, name) => {
    const place = placeOf(start, key)
    const slot = slotOf(place)
    expect(slotOf(place + suffixOf({ ...perSecond(1), name }))).toBe(slot)
    expect(slotOf(`${place}!mark}`)).toBe(slot)
  })

  test('slots are those of Redis Cluster', () => {
    // Values from the Redis Cluster specification and `CLUSTER KEYSLOT`.
    expect(slotOf('123456789')).toBe(0x31c3 % 16_384)
    expect(slotOf('foo')).toBe(12_182)
    expect(slotOf('bar{foo}baz{x}')).toBe(12_182)
    expect(slotOf('foo{}{bar}')).toBe(8_363)
    expect(slotOf('')).toBe(0)
  })
})
