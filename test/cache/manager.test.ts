import { expect, test } from 'vitest'
import { CacheManager, MemoryCacheStore, isHoldfastError } from '../../src/cache/index.js'
import { cluster, loader, setup } from './managers.js'

for (const level of ['the first level', 'the second level']) {
  const make = () => (level === 'the first level' ? setup() : setup({ l1: false, l2: new MemoryCacheStore() }))

  test(`falsy, null and undefined values are hits in ${level}`, async () => {
    const { cache } = make()
    for (const [i, value] of [0, '', false, null, undefined, NaN, 0n, -0].entries()) {
      const load = loader(value)
      expect(await cache.getOrSet(`k${i}`, load)).toBe(value)
      expect(await cache.getOrSet(`k${i}`, load)).toBe(value)
      expect(load.calls).toBe(1)
      await cache.set('set', value)
      expect(await cache.get('set')).toBe(value)
      expect(await cache.has('set')).toBe(true)
      expect([...(await cache.getMany(['set', 'none']))]).toEqual([['set', value]])
    }
    expect(await cache.has('none')).toBe(false)
    expect(await cache.get('none')).toBeUndefined()
  })

  test(`values come back from ${level} with the types they went in with`, async () => {
    const { cache } = make()
    const value = {
      at: new Date(5),
      map: new Map([[1, new Set(['x'])]]),
      big: 1n,
      none: undefined,
      nan: NaN,
      b: Buffer.from('é'),
    }
    await cache.set('k', value)
    expect(await cache.get('k')).toStrictEqual(value)
  })

  test(`any string is a key, a tag and the name of a namespace, and no two are the same in ${level}`, async () => {
    const { cache } = make()
    const names = [
      '',
      ':',
      '~',
      '~:',
      '~1:a',
      '~1:a:b',
      '1:a',
      'a',
      'a:b',
      '__proto__',
      'constructor',
      '\u0000',
      '*',
      'x'.repeat(5000),
      'b',
      '1:a:',
    ]
    const spaces = [cache, ...names.map((n) => cache.namespace<Record<string, any>>(n))]
    const inner = spaces[1]?.namespace<Record<string, any>>('a')
    if (inner) spaces.push(inner)
    for (const [i, space] of spaces.entries())
      for (const name of names) await space.set(name, `${i}/${name}`, { tags: [name] })
    for (const [i, space] of spaces.entries())
      for (const name of names) expect(await space.get(name)).toBe(`${i}/${name}`)
    await spaces[3]?.invalidateTags('a')
    expect(await spaces[3]?.get('a')).toBeUndefined()
    expect(await spaces[3]?.get('a:b')).toBe('3/a:b')
    expect(await spaces[4]?.get('a')).toBe('4/a')
  })

  test(`clearing a namespace in ${level} takes its own entries and those of namespaces within, and nothing else`, async () => {
    const { cache } = make()
    const users = cache.namespace<Record<string, number>>('users')
    const inner = users.namespace<Record<string, number>>('inner')
    const twin = cache.namespace<Record<string, number>>('users')
    await cache.set('k', 1)
    await users.set('k', 2)
    await inner.set('k', 3)
    expect(await twin.get('k')).toBe(2)
    await inner.clear()
    expect([await users.get('k'), await inner.get('k')]).toEqual([2, undefined])
    await inner.set('k', 4)
    expect(await twin.clear()).toBe('applied')
    expect([await cache.get('k'), await users.get('k'), await inner.get('k')]).toEqual([1, undefined, undefined])
    await users.set('k', 5)
    await cache.clear()
    expect([await cache.get('k'), await users.get('k')]).toEqual([undefined, undefined])
  })

  test(`an entry set right after an invalidation of its tag is valid in ${level}, within the same millisecond too`, async () => {
    const { cache } = make()
    for (let i = 0; i < 200; i++) {
      await cache.invalidateTags('t')
      await cache.set(`k${i}`, i, { tags: ['t'] })
      expect(await cache.get(`k${i}`)).toBe(i)
    }
    expect(await cache.get('k0')).toBeUndefined()
    await cache.set('k0', 0, { tags: ['t'] })
    await cache.invalidateTags('other', 't')
    expect((await cache.getMany(['k0', 'k199'])).size).toBe(0)
  })
}

test('of two values set at once the last one stays, in each level', async () => {
  for (const cache of [setup().cache, cluster().a]) {
    await Promise.all([cache.set('k', 1), cache.set('k', 2)])
    expect(await cache.get('k')).toBe(2)
  }
})

test('a value that the codec refuses is not stored anywhere', async () => {
  const { a, b } = cluster()
  await a.set('k', 'before')
  const refused = (error: unknown) => isHoldfastError(error, 'INVALID_PAYLOAD')
  await expect(a.set('k', () => 1)).rejects.toSatisfy(refused)
  expect([await a.get('k'), await b.get('k')]).toEqual(['before', 'before'])
  await expect(a.getOrSet('new', () => Symbol('x'))).rejects.toSatisfy(refused)
  expect(await b.getOrSet('new', () => 1)).toBe(1)
})

test('isolate says how callers are kept from changing the stored value', async () => {
  const share = setup({ l1: { isolate: 'share' } }).cache
  const freeze = setup({ l1: { isolate: 'freeze' } }).cache
  const clone = setup({ l1: { isolate: 'clone' } }).cache
  for (const cache of [share, freeze, clone]) await cache.getOrSet('k', () => ({ list: [{ n: 1 }], at: new Date(0) }))
  expect(await share.get('k')).toBe(share.peek('k'))
  expect(Object.isFrozen((await freeze.get('k')).list[0])).toBe(true)
  const copy = await clone.get('k')
  copy.list[0].n = 2
  expect((await clone.getOrSet('k', () => 0)).list[0].n).toBe(1)
})

test('values are frozen at any depth, also below what is frozen already', async () => {
  const cache = setup({ l1: { isolate: 'freeze' } }).cache
  const value = Object.freeze({ list: [{ n: 1 }] as unknown[] })
  value.list.push(value)
  await cache.set('k', value)
  expect([Object.isFrozen(value.list), Object.isFrozen(value.list[0])]).toEqual([true, true])
})

test('values may be nested as deep as can be', async () => {
  let deep: unknown = 0
  for (let i = 0; i < 50_000; i++) deep = { deep }
  for (const l1 of [{ isolate: 'freeze' }, { maxBytes: 10_000_000 }] as const) {
    const { cache } = setup({ l1 })
    await cache.set('k', deep)
    expect(cache.peek('k')).toBe(deep)
  }
})

test('the first level keeps no more than its entries and bytes', async () => {
  const few = setup({ l1: { maxEntries: 10 } }).cache
  for (let i = 0; i < 50; i++) await few.set(`k${i}`, i)
  expect(few.stats().l1Entries).toBe(10)
  const small = setup({ l1: { maxBytes: 10_000 } }).cache
  for (let i = 0; i < 50; i++) await small.set(`k${i}`, 'x'.repeat(500))
  expect(small.stats().l1Entries).toBeLessThanOrEqual(10)
  await small.set('huge', 'x'.repeat(20_000))
  expect(small.peek('huge')).toBeUndefined()
})

test('after close every call is refused, and no timer is left', async () => {
  const { a, clock } = cluster()
  await a.set('k', 1)
  const space = a.namespace<Record<string, number>>('n')
  await space.close()
  expect(await a.get('k')).toBe(1)
  let inner: AbortSignal | undefined
  const loading = a.getOrSet('slow', ({ signal }) => {
    inner = signal
    return 5
  })
  await loading
  await a.close()
  expect(inner?.aborted).toBe(false)
  const calls = [
    a.get('k'),
    a.set('k', 1),
    a.delete('k'),
    a.getOrSet('k', () => 1),
    a.has('k'),
    a.clear(),
    space.get('k'),
  ]
  for (const call of calls) await expect(call).rejects.toSatisfy((e) => isHoldfastError(e, 'CLOSED'))
  expect([a.peek('k'), clock.pendingTimers]).toEqual([undefined, 0])
})

test('options out of their range are refused where they are given', async () => {
  const refused = (make: () => unknown) => expect(make).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  refused(() => new CacheManager({ l1: false }))
  refused(() => new CacheManager({ l1: { maxEntries: 0 } }))
  for (const maxEntries of [2 ** 24 + 1, Infinity]) {
    refused(() => new CacheManager({ l1: { maxEntries } }))
    refused(() => new MemoryCacheStore({ maxEntries }))
  }
  refused(() => new CacheManager({ leaseMs: Infinity }))
  refused(() => new CacheManager({ maxStalenessMs: 0 }))
  refused(() => new CacheManager({ partition: 'maybe' as 'load' }))
  refused(() => new CacheManager({ defaults: { ttlMs: -1 } }))
  refused(() => new CacheManager().namespace('n', { refreshAhead: 2 }))
  refused(() => new CacheManager().wrap('', async () => 1))
  await expect(new CacheManager().getOrSet('k', () => 1, { jitterRatio: 2 })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
  })
})

test('thousands of tags that no entry carries any more are forgotten without a stale read', async () => {
  const { cache } = setup({ l1: { maxEntries: 50 } })
  for (let i = 0; i < 2_500; i++) {
    await cache.set(`k${i % 100}`, i, { tags: [`t${i}`, 'all'] })
    if (i % 500 === 0) await cache.invalidateTags(`t${i}`)
    expect(cache.peek(`k${i % 100}`)).toBe(i % 500 === 0 ? undefined : i)
  }
  await cache.invalidateTags('all')
  expect(cache.peek('k99')).toBeUndefined()
})
