import { expect, test } from 'vitest'
import { CacheManager, MemoryCacheStore } from '../../src/cache/index.js'
import { ManualClock } from '../../src/testing/index.js'

const refused = expect.objectContaining({ code: 'INVALID_OPTION' })

test('a key that is no string is refused by every method, in namespaces too', async () => {
  const cache = new CacheManager<any>()
  for (const part of [cache, cache.namespace<any>('n')])
    for (const key of [42, undefined, null, {}] as unknown as string[]) {
      for (const call of [
        () => part.get(key),
        () => part.has(key),
        () => part.getMany([key]),
        () => part.getOrSet(key, () => 1),
        () => part.getOrSetMany([key], async () => new Map()),
        () => part.set(key, 1),
        () => part.delete(key),
        () => part.expire({ tags: [key] }),
        () => part.invalidateTags(key),
      ])
        await expect(call()).rejects.toEqual(refused)
      expect(() => part.peek(key)).toThrow(refused)
    }
})

for (const name of ['l2', 'backplane', 'codec', 'clock', 'random', 'defaults'])
  test(`${name} that is none is refused by its name`, () => {
    for (const nonsense of [...(name === 'defaults' ? [] : [{}]), 5, 'x']) {
      const options = { ...(name === 'backplane' && { l2: new MemoryCacheStore() }), [name]: nonsense }
      expect(() => new CacheManager(options as never)).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(`^${name}`) }),
      )
    }
    expect(() => new CacheManager(null as never)).toThrow(refused)
  })

test('one wrong key among many is refused before anything is loaded, and leaves no load behind', async () => {
  const cache = new CacheManager<any>()
  let loads = 0
  const load = async (keys: readonly string[]) => new Map(keys.map((key) => [key, ++loads]))
  await expect(cache.getOrSetMany(['a', 42 as never], load)).rejects.toEqual(refused)
  expect(await cache.getOrSet('a', () => 'own')).toBe('own')
  expect(loads).toBe(0)
})

for (const l2 of [undefined, new MemoryCacheStore()]) {
  test(`a value that can't be cloned is refused and changes nothing, ${l2 ? 'with' : 'without'} a second level`, async () => {
    const codec = { encode: () => '"old"', decode: (text: string) => JSON.parse(text) as unknown }
    const cache = new CacheManager<any>({ l1: { isolate: 'clone' }, l2, codec })
    const refusal = expect.objectContaining({ code: 'INVALID_PAYLOAD' })
    await cache.set('k', 'old')
    await expect(cache.set('k', () => 1)).rejects.toEqual(refusal)
    expect([await cache.get('k'), (await l2?.read(['k']))?.entries[0]?.payload]).toEqual(['old', l2 && '"old"'])
    await expect(cache.getOrSet('other', () => () => 1)).rejects.toEqual(refusal)
    expect([await cache.has('other'), (await l2?.read(['other']))?.entries[0]]).toEqual([false, undefined])
  })
}

test('what the caller does to a value while it is being stored touches neither level when values are cloned', async () => {
  const cache = new CacheManager<any>({ l1: { isolate: 'clone' }, l2: new MemoryCacheStore() })
  await cache.get('warm')
  const value = { n: 1 }
  const stored = cache.set('k', value)
  value.n = 2
  await stored
  expect(cache.peek('k')).toEqual({ n: 1 })
})

test('a remembered failure is forgotten with its tag, also after thousands of other tags', async () => {
  const cache = new CacheManager<any>({ clock: new ManualClock() })
  const options = { tags: ['t'], errorTtlMs: 60_000 }
  const load = (): Promise<never> => Promise.reject(new Error('down'))
  await expect(cache.getOrSet('k', load, options)).rejects.toThrow('down')
  await expect(cache.getOrSet('k', () => 'up', options)).rejects.toThrow('down')
  for (let i = 0; i < 1_100; i++) await cache.invalidateTags(`other-${i}`)
  await cache.invalidateTags('t')
  expect(await cache.getOrSet('k', () => 'up', options)).toBe('up')
})

const nonsense = [undefined, null, 0, 'x', {}, [], { entries: ['x'], seq: 1 }, { entries: [{ tags: 'x' }], seq: 1 }]
const answers: Record<string, readonly unknown[]> = {
  read: nonsense,
  lease: [...nonsense, { kind: 'hit' }, { kind: 'hit', entry: {} }, { kind: 'granted' }],
  write: nonsense.filter((answer) => answer !== 0),
  invalidate: nonsense.filter((answer) => answer !== 0),
  state: [...nonsense, { epoch: 'e', seq: NaN }],
}
for (const [method, all] of Object.entries(answers)) {
  test(`a second level that answers ${method} with nonsense has failed: an event, and no error of a call`, async () => {
    for (const answer of all) {
      const clock = new ManualClock()
      const l2 = Object.assign(new MemoryCacheStore({ clock }), { [method]: async () => answer })
      const cache = new CacheManager<any>({ clock, l2 })
      const failed: string[] = []
      cache.on('l2Error', ({ operation }) => failed.push(operation))
      expect(await cache.getOrSet('k', () => 1, { tags: ['t'] })).toBe(1)
      await cache.set('set', 2)
      await cache.delete('k')
      expect([await cache.get('k'), await cache.has('k')]).toEqual([undefined, false])
      expect(failed[0]).toBe(method)
      await cache.close()
    }
  })
}
