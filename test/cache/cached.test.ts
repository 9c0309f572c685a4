import { expect, test } from 'vitest'
import { CacheManager, cached } from '../../src/cache/index.js'

test('a method is cached by its arguments, for all instances, with the instance that was called', async () => {
  const cache = new CacheManager()
  const calls: string[] = []
  const decorate = cached<[sku: string, amount: number]>({ cache, name: 'Prices.of', ttlMs: 1_000 })
  const of = decorate(async function (this: { readonly shop: string }, sku, amount) {
    calls.push(`${this.shop} ${sku} ${amount}`)
    return `${sku} at ${this.shop}`
  })
  // As the compiler writes `@cached(…) async of(…)`, which the test runner can't read: examples/cached-method.ts has it.
  class Prices {
    constructor(readonly shop: string) {}
    readonly of = of
  }
  const [berlin, lisbon] = [new Prices('Berlin'), new Prices('Lisbon')]
  expect(await Promise.all([berlin.of('tea', 1), lisbon.of('tea', 1)])).toEqual(['tea at Berlin', 'tea at Berlin'])
  expect(await lisbon.of('tea', 2)).toBe('tea at Lisbon')
  expect(calls).toEqual(['Berlin tea 1', 'Lisbon tea 2'])
})

test('a cached method can be told to forget', async () => {
  const cache = new CacheManager()
  let calls = 0
  const count = cached<[{ id: number }]>({ cache, name: 'count', key: ({ id }) => String(id) })(async () => ++calls)
  expect([await count({ id: 1 }), await count({ id: 1 }), await count({ id: 2 })]).toEqual([1, 1, 2])
  expect(await count.invalidate({ id: 1 })).toBe('applied')
  expect(await count({ id: 1 })).toBe(3)
})

test('what is no cache is refused when the class is defined', () => {
  expect(() => cached({ cache: {} as CacheManager, name: 'x' })).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION' }),
  )
  expect(() => cached({ cache: new CacheManager(), name: '' })(async () => 1)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION' }),
  )
})
