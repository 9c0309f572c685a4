import assert from 'node:assert/strict'
import { expect } from 'vitest'
import { jsonCodec } from '../../src/kernel/codec.js'
import { fc, prop } from '../support/prop.js'

const roundTrip = (value: unknown): unknown => jsonCodec.decode(jsonCodec.encode(value))

prop(
  'what is encoded is decoded as it was, types and all',
  [
    fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withNullPrototype: false,
      withSparseArray: false,
      withBoxedValues: false,
      key: fc.oneof(fc.string(), fc.constantFrom('$holdfast', '__proto__', 'constructor', 'toJSON')),
    }),
  ],
  (value) => {
    assert.deepStrictEqual(roundTrip(value), value) // vitest's toStrictEqual takes a key 'constructor' for the class
  },
)

prop('plain JSON stays plain JSON, byte for byte', [fc.jsonValue()], (value) => {
  const plain = JSON.parse(JSON.stringify(value)) as unknown
  fc.pre(!JSON.stringify(plain).includes('$holdfast'))
  expect(jsonCodec.encode(plain)).toBe(JSON.stringify(plain))
})
