import assert from 'node:assert/strict'
import { expect, test } from 'vitest'
import { jsonCodec } from '../../src/kernel/codec.js'
import { fc, prop } from '../support/prop.js'

const roundTrip = (value: unknown): unknown => jsonCodec.decode(jsonCodec.encode(value))

const storable = fc.anything({
  withBigInt: true,
  withMap: true,
  withSet: true,
  withTypedArray: true,
  key: fc.oneof(fc.string(), fc.constantFrom('$holdfast', '__proto__', 'constructor', 'toJSON')),
  values: [
    fc.string({ unit: 'binary' }),
    fc.integer(),
    fc.double(),
    fc.boolean(),
    fc.constantFrom(null, undefined, /a"b/gi, new URL('http://localhost/a?b')),
    fc.date({ noInvalidDate: true }),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    fc.uint8Array().map((bytes) => bytes.slice().buffer),
  ],
})

prop(
  'what is encoded is decoded as it was, types and all',
  [storable],
  // Not toStrictEqual, which takes a key named 'constructor' for the class.
  (value) => assert.deepStrictEqual(roundTrip(value), value),
  { numRuns: 300 },
)

prop('plain JSON stays plain JSON, byte for byte', [fc.jsonValue()], (value) => {
  const text = JSON.stringify(value)
  fc.pre(!text.includes('$holdfast'))
  expect(jsonCodec.encode(JSON.parse(text))).toBe(text)
})

test('an invalid date stays an invalid date', () => {
  expect((roundTrip({ at: new Date(NaN) }) as { at: Date }).at.getTime()).toBeNaN()
})

test('a hole in an array comes back as undefined', () => {
  // oxlint-disable-next-line no-sparse-arrays
  expect(roundTrip([1, , 3])).toEqual([1, undefined, 3])
})

test('a key __proto__ is a key like any other', () => {
  const value = JSON.parse('{"__proto__":{"polluted":true},"at":1}') as Record<string, unknown>
  value['at'] = new Date(0)
  const back = roundTrip(value) as Record<string, unknown>
  expect(Object.keys(back)).toEqual(['__proto__', 'at'])
  expect(({} as Record<string, unknown>)['polluted']).toBeUndefined()
  expect(Object.getPrototypeOf(back)).toBe(Object.prototype)
})

class Money {
  cents = 1
}

test.each([
  ['a function', { order: { total: () => 1 } }, 'order.total'],
  ['a symbol', [Symbol('x')], '0'],
  ['an instance of a class', { items: [{ price: new Money() }] }, 'items.0.price'],
  ['an error', { cause: new Error('x') }, 'cause'],
  ['a promise', { later: Promise.resolve() }, 'later'],
])('%s is refused, with its place', (_, value, place) => {
  expect(() => jsonCodec.encode(value)).toThrow(
    expect.objectContaining({ code: 'INVALID_PAYLOAD', message: expect.stringContaining(`at ${place} `) }),
  )
})

test('a cycle is refused, a value that stands twice is not', () => {
  const shared = { a: 1 }
  expect(roundTrip([shared, shared])).toEqual([shared, shared])
  const cycle: Record<string, unknown> = {}
  cycle['self'] = { cycle }
  expect(() => jsonCodec.encode(cycle)).toThrow('contains itself at self.cycle')
})

test.each([1, 2, 5, 8])('a cycle of %d objects is refused however deep it begins', (length) => {
  const links = Array.from({ length }, (): { next?: unknown } => ({}))
  for (const [i, link] of links.entries()) link.next = links[(i + 1) % length]
  let top: unknown = links[0]
  for (let above = 0; above < 12; above++) {
    expect(() => jsonCodec.encode(top)).toThrow('contains itself at ')
    top = above % 2 === 0 ? [top] : new Map([[1, top]])
  }
})

test.each([
  '',
  '{',
  'undefined',
  '{"$holdfast":["Quaternion",1]}',
  '{"$holdfast":["bigint","x"]}',
  '{"$holdfast":["RegExp","("]}',
])('text it did not make is corrupt data: %s', (text) => {
  expect(() => jsonCodec.decode(text)).toThrow(expect.objectContaining({ code: 'CORRUPT_DATA' }))
})

test.each([
  ['Date', new (class Day extends Date {})(0)],
  ['Array', new (class Lines extends Array<number> {})()],
  ['Map', new (class Index extends Map {})()],
  ['Uint8Array', new (class Key extends Uint8Array {})(1)],
])('what extends %s is refused: it would come back without its class', (_, value) => {
  expect(() => jsonCodec.encode({ value })).toThrow(expect.objectContaining({ code: 'INVALID_PAYLOAD' }))
})

test('a toJSON that is hidden is refused too', () => {
  const value = Object.defineProperty({ a: 1 }, 'toJSON', { value: () => 'something else' })
  expect(() => jsonCodec.encode([value])).toThrow('an object with toJSON at 0')
})

const nested = (depth: number): unknown => {
  let value: unknown = 1
  for (let i = 0; i < depth; i++) value = { value }
  return value
}

test.each([
  ['nesting deeper than the stack', nested(100_000)],
  [
    'a getter that throws',
    {
      get x() {
        throw new Error('mine')
      },
    },
  ],
  ['a buffer that was transferred', transferred()],
])('what breaks while it is read is an invalid payload, with its cause: %s', (_, value) => {
  expect(() => jsonCodec.encode(value)).toThrow(
    expect.objectContaining({ code: 'INVALID_PAYLOAD', cause: expect.any(Error) }),
  )
})

function transferred(): ArrayBuffer {
  const buffer = new ArrayBuffer(8)
  structuredClone(buffer, { transfer: [buffer] })
  return buffer
}

test.each([
  '["Map",{"length":1000000000}]',
  '["Map",["a"]]',
  '["Set","abc"]',
  '["Object",[1,2]]',
  '["Buffer",{"length":1000000000}]',
  '["Buffer",[1,2]]',
  '["ArrayBuffer",5]',
  '["Uint8Array",5]',
  '["number","5"]',
  '["bigint",true]',
  '["Date","x"]',
  '["RegExp","a"]',
  '["constructor","AAAA"]',
  '["toString","AAAA"]',
  '["__proto__","AAAA"]',
  '["undefined"],"more":1',
])('a tag with other content is corrupt data, and costs nothing: %s', (tag) => {
  expect(() => jsonCodec.decode(`{"$holdfast":${tag}}`)).toThrow(expect.objectContaining({ code: 'CORRUPT_DATA' }))
})

test('a toJSON that someone has put on an array is left out like any other of its properties', () => {
  const array = Object.assign([1, 2], { toJSON: () => 'something else' })
  expect(roundTrip({ array })).toEqual({ array: [1, 2] })
})
