import { expect, test } from 'vitest'
import { CacheManager, isHoldfastError } from '../../src/cache/index.js'
import { keyOfArguments } from '../../src/cache/keys.js'
import { fc, prop } from '../support/prop.js'

const plain = fc.anything({ withBigInt: true, withDate: true, withMap: true, withSet: true, withNullPrototype: false })

prop('arguments have the same key exactly when they are equal', [fc.array(plain), fc.array(plain)], (a, b) => {
  const equal = (() => {
    try {
      expect(a).toStrictEqual(b)
      return true
    } catch {
      return false
    }
  })()
  expect(keyOfArguments(a) === keyOfArguments(b)).toBe(equal)
  expect(keyOfArguments(structuredClone(a))).toBe(keyOfArguments(a))
})

test('values that other encodings take for the same have keys of their own', () => {
  const sets: unknown[][] = [
    [1, '1', 1n, true, 'true', [1], ['1'], { 0: 1 }, new Set([1]), new Map([[1, 1]]), new Date(1)],
    [undefined, null, NaN, 'undefined', 'null', 'NaN', '', [], {}, [undefined], [null], 0, -0, false],
    [{ a: 1 }, '{"a":1}', { a: '1' }, { a: undefined }, { b: 1 }, [['a', 1]], new Map([['a', 1]]), new Map([['a', 2]])],
    [['a', 'b'], ['ab'], ['a', ['b']], 'a,b', ['a,b'], [['a'], 'b']],
    [
      new Uint8Array([1]),
      new Int8Array([1]),
      Buffer.from([1]),
      new Uint8Array([1]).buffer,
      /a/g,
      /a/i,
      '/a/g',
      new URL('http://a/'),
    ],
  ]
  for (const values of sets) expect(new Set(values.map((v) => keyOfArguments([v]))).size).toBe(values.length)
  expect(keyOfArguments([1, 2])).not.toBe(keyOfArguments([[1, 2]]))
  expect(keyOfArguments([])).not.toBe(keyOfArguments([undefined]))
  expect(keyOfArguments([{ a: 1, b: { c: 2, d: 3 } }])).toBe(keyOfArguments([{ b: { d: 3, c: 2 }, a: 1 }]))
})

test('short texts that collide under a 32-bit hash, and fifty thousand ids, have keys of their own', () => {
  expect(keyOfArguments(['Ez'])).not.toBe(keyOfArguments(['FY']))
  const keys = new Set<string>()
  for (let i = 0; i < 50_000; i++) keys.add(keyOfArguments([i * 7919]))
  expect(keys.size).toBe(50_000)
})

test('the key of long arguments is short, and still their own', () => {
  const a = keyOfArguments(['x'.repeat(10_000)])
  expect([a.length < 60, a === keyOfArguments([`${'x'.repeat(9_999)}y`])]).toEqual([true, false])
})

test('what has no key of its own is refused, unless the caller makes one', async () => {
  const cyclic: unknown[] = []
  cyclic.push(cyclic)
  class Point {
    x = 1
  }
  class Tags extends Array {}
  class Users extends Map {}
  class Admins extends Users {}
  class Day extends Date {}
  class Bytes extends Uint8Array {}
  const extended = [new Tags(), new Users(), new Admins(), new Day(), new Bytes(1)]
  for (const value of [() => 1, Symbol('s'), cyclic, new Point(), { [Symbol('s')]: 1 }, ...extended])
    expect(() => keyOfArguments([value])).toThrow(expect.objectContaining({ code: 'INVALID_PAYLOAD' }))
  const cache = new CacheManager()
  const byId = cache.wrap('byId', async (user: { id: number; f: () => void }) => user.id, { key: ({ id }) => `${id}` })
  expect(await byId({ id: 7, f: () => {} })).toBe(7)
  const plainWrap = cache.wrap('plain', async (f: () => void) => f)
  await expect(plainWrap(() => {})).rejects.toSatisfy((e) => isHoldfastError(e, 'INVALID_PAYLOAD'))
})

test('long arguments that differ in half a surrogate pair have keys of their own', () => {
  const long = 'x'.repeat(300)
  expect(keyOfArguments([`\ud800${long}`])).not.toBe(keyOfArguments([`\ud801${long}`]))
})

test('a wrapped function runs once for equal arguments, with its own this, and again after invalidate', async () => {
  const cache = new CacheManager()
  let calls = 0
  const service = {
    factor: 2,
    double: cache.wrap('double', async function (this: unknown, n: number, _o?: object) {
      calls++
      return n * (this as { factor: number }).factor
    }),
  }
  expect([await service.double(2, { a: 1, b: 2 }), await service.double(2, { b: 2, a: 1 }), calls]).toEqual([4, 4, 1])
  expect([await service.double(3), calls]).toEqual([6, 2])
  expect(await service.double.invalidate(2, { a: 1, b: 2 })).toBe('applied')
  expect([await service.double(2, { a: 1, b: 2 }), await service.double(3), calls]).toEqual([4, 6, 3])
  const other = cache.wrap('other', async (n: number) => -n)
  const space = cache.namespace<Record<string, unknown>>('double')
  await space.set(keyOfArguments([2]), 'space')
  expect([await other(3), await space.get(keyOfArguments([2])), await service.double(3)]).toEqual([-3, 'space', 6])
})
