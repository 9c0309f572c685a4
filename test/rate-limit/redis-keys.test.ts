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
  const nameOf = (start: string, key: string, name: string, refillPerSecond: number): Buffer =>
    Buffer.from(placeOf(start, key) + suffixOf({ name, refillPerSecond, capacity: 1 }))

  prop(
    'differ where the same text is divided otherwise into key and limit',
    [prefix, text, text, text, fc.constantFrom(1, 10, 0.5)],
    (start, a, b, c, rate) => {
      for (const border of ['}', '%007d', '{:', ':', '']) {
        const middle = `${border}${rate}:`
        const one = nameOf(start, a, `${b}${middle}${c}`, rate)
        const two = nameOf(start, `${a}${middle}${b}`, c, rate)
        expect(one.equals(two)).toBe(false)
      }
    },
  )

  prop(
    'differ where one character of a key or a name does, also as UTF-8',
    [
      prefix,
      text,
      text,
      fc.uniqueArray(fc.constantFrom('\ud800', '\ud801', '\udfff', '\ufffd', '}', '%', '%007d', ''), {
        minLength: 2,
        maxLength: 2,
      }),
    ],
    (start, a, b, [one, two]) => {
      expect(nameOf(start, a + one + b, a, 1).equals(nameOf(start, a + two + b, a, 1))).toBe(false)
      expect(nameOf(start, a, a + one + b, 1).equals(nameOf(start, a, a + two + b, 1))).toBe(false)
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
