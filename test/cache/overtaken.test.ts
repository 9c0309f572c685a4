import { expect, test } from 'vitest'
import { CacheManager, MemoryCacheBackplane, MemoryCacheStore } from '../../src/cache/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { type Cached, cluster, gate, setup } from './managers.js'

test('a value set, deleted or invalidated by tag while it is loaded is not replaced by the older one that the load brings', async () => {
  for (const { a: cache } of [{ a: setup().cache }, cluster()]) {
    for (const change of ['set', 'delete', 'tag', 'late tag', 'clear', 'expire'] as const) {
      const gates = gate<string>()
      const early = cache.getOrSet(
        'k',
        (context) => {
          if (change === 'late tag') context.set({ tags: ['t'] })
          return gates.promise
        },
        { tags: change === 'tag' ? ['t'] : [] },
      )
      for (let i = 0; i < 5; i++) await settle()
      if (change === 'set') await cache.set('k', 'new')
      else if (change === 'delete') await cache.delete('k')
      else if (change === 'clear') await cache.clear()
      else if (change === 'expire') await cache.expire({ keys: ['k'] })
      else await cache.invalidateTags('t')
      const late = cache.getOrSet('k', async () => 'new')
      gates.open('old')
      expect([change, await early, await late]).toEqual([change, 'old', 'new'])
      expect([change, await cache.get('k')]).toEqual([change, 'new'])
      await cache.clear()
    }
  }
})

test('a reload that another manager has overtaken takes the old value with it', async () => {
  const { a, b } = cluster({ maxStalenessMs: 60_000 })
  await b.set('k', 'old')
  expect([await a.get('k'), a.peek('k')]).toEqual(['old', 'old'])
  const gates = gate<string>()
  const reload = a.getOrSet('k', () => gates.promise, { fresh: true })
  for (let i = 0; i < 5; i++) await settle()
  await b.set('k', 'new')
  gates.open('old')
  expect(await reload).toBe('old')
  expect(await a.get('k')).toBe('new') // the store has told it that there is something newer
})

test('a load that was overtaken once is not stored after it is overtaken again', async () => {
  const { cache } = setup()
  const first = gate<string>()
  const early = cache.getOrSet('k', () => first.promise)
  await cache.delete('k')
  const second = gate<string>()
  const later = cache.getOrSet('k', () => second.promise)
  await cache.delete('k')
  first.open('1')
  second.open('2')
  expect([await early, await later]).toEqual(['1', '2'])
  expect(await cache.get('k')).toBeUndefined()
  expect(cache.stats().fenced).toBe(2)
})

test('another manager sees a change within maxStalenessMs, and asks the store once for all who read', async () => {
  const { clock, a, b, store } = cluster({ maxStalenessMs: 500 })
  let asked = 0
  const { state } = store
  store.state = (tags) => {
    asked++
    return state.call(store, tags)
  }
  await a.set('k', 1)
  expect(await b.get('k')).toBe(1)
  await a.set('k', 2)
  expect(b.peek('k')).toBe(1)
  await clock.advance(500)
  expect(b.peek('k')).toBeUndefined()
  asked = 0
  expect(await Promise.all(Array.from({ length: 50 }, () => b.get('k')))).toEqual(Array(50).fill(2))
  expect(asked).toBe(1)
})

test('entries survive the question to the store when only this manager has changed it', async () => {
  const { clock, a } = cluster({ maxStalenessMs: 500 })
  const dropped: unknown[] = []
  a.on('dropped', (event) => dropped.push(event))
  await a.get('warm')
  await a.set('k', 1)
  await a.set('other', 1)
  await a.delete('other')
  await clock.advance(5_000)
  expect(await a.get('k')).toBe(1)
  expect([a.stats().l2Hits, dropped]).toEqual([0, []])
})

test('a store that starts anew empties the first level', async () => {
  const clock = new ManualClock()
  const stores = [new MemoryCacheStore({ clock }), new MemoryCacheStore({ clock })]
  let current = stores[0] as MemoryCacheStore
  const l2 = new Proxy(current, {
    get: (_, name) => (Reflect.get(current, name) as (...a: unknown[]) => unknown).bind(current),
  })
  const cache = new CacheManager<Record<string, number>>({ clock, l2 })
  const reasons: string[] = []
  cache.on('dropped', ({ reason }) => reasons.push(reason))
  await cache.get('warm')
  await cache.set('k', 1)
  current = stores[1] as MemoryCacheStore
  await clock.advance(2_000)
  expect([await cache.get('k'), reasons]).toEqual([undefined, ['epoch']])
})

test('who has read a newer value from the second level does not get the older one of a load begun before', async () => {
  const { a, b } = cluster({ l1: false })
  const slow = gate<string>()
  const early = a.getOrSet('k', () => slow.promise)
  for (let i = 0; i < 5; i++) await settle()
  await b.set('k', 'new')
  expect(await a.get('k')).toBe('new')
  const later = a.getOrSet('k', () => 'not needed')
  slow.open('old')
  expect([await early, await later, await a.get('k')]).toEqual(['old', 'new', 'new'])
})

test('of two reads that answer each other out of order, the older one does not stay in the first level', async () => {
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    const { a, b, store } = cluster()
    await a.get('warm')
    await b.set('k', 'v1')
    const answers = [gate<void>(), gate<void>()]
    const { read } = store
    let asked = 0
    store.read = async (keys) => {
      const held = answers[asked++]
      const answer = await read.call(store, keys)
      await held?.promise
      return answer
    }
    const first = a.get('k')
    await settle()
    await b.set('k', 'v2')
    const second = a.get('k')
    await settle()
    for (const i of order) {
      answers[i]?.open()
      await settle()
    }
    expect([await first, await second, await a.get('k')]).toEqual(['v1', 'v2', 'v2'])
  }
})

test('a load that goes on while messages of others were missed still fills the second level, and not the first', async () => {
  const { clock, a, b } = cluster({ maxStalenessMs: 100 })
  await a.set('k', 'old')
  const slow = gate<string>()
  const loading = a.getOrSet('k', () => slow.promise, { fresh: true })
  for (let i = 0; i < 5; i++) await settle()
  await b.set('other', 1)
  await clock.advance(100)
  expect(await a.get('other')).toBe(1)
  slow.open('new')
  expect([await loading, a.peek('k'), await b.get('k'), await a.get('k')]).toEqual(['new', undefined, 'new', 'new'])
})

test('a load that another manager has overtaken is stored nowhere', async () => {
  for (const change of ['set', 'delete', 'tag', 'clear'] as const) {
    const { a, b } = cluster({ defaults: { tags: ['t'] } })
    await a.set('k', 'standing')
    const slow = gate<string>()
    const loading = a.getOrSet('k', () => slow.promise, { fresh: true })
    for (let i = 0; i < 5; i++) await settle()
    if (change === 'set') await b.set('k', 'new')
    else if (change === 'delete') await b.delete('k')
    else if (change === 'clear') await b.clear()
    else await b.invalidateTags('t')
    slow.open('old')
    expect([await loading, a.peek('k'), a.stats().fenced]).toEqual(['old', undefined, 1])
    expect(await a.get('k')).toBe(change === 'set' ? 'new' : undefined)
  }
})

test('a tag that is invalidated during a load takes the lease of that load too: the next load does not wait for its end', async () => {
  for (const change of ['invalidateTags', 'expire'] as const) {
    const clock = new ManualClock()
    const [l2, backplane] = [new MemoryCacheStore({ clock }), new MemoryCacheBackplane()]
    const [a, b] = [0, 1].map(() => new CacheManager<Record<string, any>>({ clock, l2, backplane })) as [Cached, Cached]
    const slow = gate<string>()
    const early = a.getOrSet('k', () => slow.promise, { tags: ['t'] })
    const other = a.getOrSet('other', () => slow.promise, { tags: ['u'] })
    await clock.advance(0)
    await (change === 'expire' ? a.expire({ tags: ['t'] }) : a.invalidateTags('t'))
    expect(await a.getOrSet('k', () => 'new', { tags: ['t'] })).toBe('new')
    const again = a.getOrSet('k', () => slow.promise, { tags: ['t'], fresh: true })
    await clock.advance(0)
    await (change === 'expire' ? b.expire({ tags: ['t'] }) : b.invalidateTags('t'))
    expect(await b.getOrSet('k', () => 'newer', { tags: ['t'] })).toBe('newer')
    slow.open('old')
    expect([await early, await again, await other]).toEqual(['old', 'old', 'old'])
    expect([await a.get('k'), await b.get('k'), await b.get('other')]).toEqual(['newer', 'newer', 'old'])
  }
})

test('what is read between a change and its effect in the second level does not outlive the change', async () => {
  const { a, store } = cluster()
  for (const change of ['delete', 'set', 'tag', 'clear'] as const) {
    await a.set('k', 'old', { tags: ['t'] })
    await a.delete('none')
    const way = gate<void>()
    const { write, invalidate } = store
    store.write = (...args) => way.promise.then(() => write.apply(store, args))
    store.invalidate = (...args) => way.promise.then(() => invalidate.apply(store, args))
    const changing = {
      delete: () => a.delete('k'),
      set: () => a.set('k', 'new'),
      tag: () => a.invalidateTags('t'),
      clear: () => a.clear(),
    }[change]()
    expect([await a.get('k'), a.peek('k')]).toEqual(['old', 'old'])
    way.open()
    expect(await changing).toBe('applied')
    expect([change, a.peek('k')]).toEqual([change, change === 'set' ? 'new' : undefined])
    Object.assign(store, { write, invalidate })
  }
})
