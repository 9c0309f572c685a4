import { expect, test } from 'vitest'
import { CacheManager } from '../../src/cache/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

const open = () => new CacheManager<Record<string, any>>()

test('a loader that asks for its own key at once, without waiting, gets what it loads itself', async () => {
  const cache = open()
  const { signal } = new AbortController()
  const inner: Promise<unknown>[] = []
  const load = async (): Promise<string> => {
    for (const options of [{}, { signal }, { hardTimeoutMs: 1_000 }])
      inner.push(cache.getOrSet('k', () => 'other', options))
    return 'loaded'
  }
  expect(await cache.getOrSet('k', load)).toBe('loaded')
  expect(await Promise.all(inner)).toEqual(['loaded', 'loaded', 'loaded'])
  expect(cache.stats().loads).toBe(1)
})

const changes: Record<string, (cache: CacheManager<Record<string, any>>) => unknown> = {
  'clears the cache': (cache) => cache.clear(),
  'deletes its key': (cache) => cache.delete('k'),
  'expires its key': (cache) => cache.expire({ keys: ['k'] }),
  'invalidates its tag': (cache) => cache.invalidateTags('t'),
}
for (const [what, change] of Object.entries(changes)) {
  test(`a loader that ${what} at once runs once; its value is returned and not stored`, async () => {
    const cache = open()
    let runs = 0
    const load = (): number => {
      if (++runs > 5) throw new Error('it runs again and again')
      void change(cache)
      return runs
    }
    expect(await cache.getOrSet('k', load, { tags: ['t'] })).toBe(1)
    expect([await cache.has('k'), cache.stats().fenced]).toEqual([false, 1])
  })
}

test('a loader that sets its own key at once: its caller gets what it loaded, later ones what was set', async () => {
  const cache = open()
  const load = (): string => {
    void cache.set('k', 'set')
    return 'loaded'
  }
  expect(await cache.getOrSet('k', load)).toBe('loaded')
  expect(await cache.get('k')).toBe('set')
})

test('a listener may change the cache it listens to', async () => {
  const cache = open()
  cache.on('load', ({ key }) => cache.delete(key))
  expect(await cache.getOrSet('k', () => 1)).toBe(1)
  await settle()
  expect(await cache.has('k')).toBe(false)
})

test('a loader may take what it is given apart', async () => {
  const clock = new ManualClock()
  const cache = new CacheManager<any>({ clock, defaults: { ttlMs: 10, graceMs: 1_000 } })
  await cache.getOrSet('k', async ({ set }) => {
    set({ ttlMs: 5, tags: ['t'] })
    return 'v'
  })
  await clock.advance(5)
  expect(cache.peek('k')).toBeUndefined()
  expect(await cache.getOrSet('k', async ({ notModified }) => notModified())).toBe('v')
  await cache.invalidateTags('t')
  expect(await cache.getOrSet('k', ({ uncached }) => uncached('other'))).toBe('other')
  expect(await cache.has('k')).toBe(false)
})
