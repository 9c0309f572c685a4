import { expect, test } from 'vitest'
import { CacheManager, MemoryCacheStore, type CacheManagerOptions } from '../../src/cache/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { behindLine, breakable } from './faulty-store.js'

const cluster = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock })
  const broken: { hung?: boolean; dead?: boolean; calls?: number } = {}
  const make = (l2: CacheManagerOptions['l2']) => new CacheManager<Record<string, any>>({ clock, l2, ...options })
  return { clock, store, broken, a: make(store), b: make(breakable(store, broken)) }
}

/** Milliseconds of the clock until `call` settles. */
const timed = async <T>(clock: ManualClock, call: Promise<T>): Promise<[T, number]> => {
  const began = clock.now()
  const over = { at: -1 }
  const end = (): void => {
    over.at = clock.now()
  }
  call.then(end, end)
  for (let i = 0; i < 500 && over.at < 0; i++) {
    await settle()
    if (over.at < 0) await clock.advance(1)
  }
  if (over.at < 0) expect.unreachable('still waiting after 500 ms')
  return [await call, over.at - began]
}

for (const fault of ['hung', 'dead'] as const) {
  test(`a second level that is ${fault} keeps no call waiting: the first for its budget at most, those after it not at all`, async () => {
    const { clock, broken, b } = cluster()
    await b.set('warm', 1)
    broken[fault] = true
    const budget = fault === 'hung' ? 50 : 0
    expect(
      await timed(
        clock,
        b.getOrSet('k', () => 'v'),
      ),
    ).toEqual(['v', budget])
    const calls = [
      () => b.getOrSet('k2', () => 'v'),
      () => b.get('k3'),
      () => b.has('k3'),
      () => b.getMany(['k3', 'k4']),
      () => b.getOrSetMany(['k5', 'k6'], async (keys) => new Map(keys.map((k) => [k, 1]))),
      () => b.set('k', 1),
      () => b.delete('k'),
      () => b.expire({ keys: ['k'], tags: ['t'] }),
      () => b.invalidateTags('t'),
      () => b.clear(),
      () => b.close(),
    ]
    for (const call of calls) expect((await timed(clock, call()))[1]).toBe(0)
  })

  for (const name of ['set', 'delete', 'invalidateTags', 'clear', 'get', 'has', 'getOrSetMany', 'expire'] as const)
    test(`the first ${name} that finds the second level ${fault} waits for its budget at most`, async () => {
      const { clock, broken, b } = cluster()
      await b.get('warm')
      await clock.advance(3_000) // and it is not known to be current either
      broken[fault] = true
      const call = {
        set: () => b.set('k', 1),
        delete: () => b.delete('k'),
        invalidateTags: () => b.invalidateTags('t'),
        clear: () => b.clear(),
        get: () => b.get('k'),
        has: () => b.has('k'),
        getOrSetMany: () => b.getOrSetMany(['k', 'l'], async () => new Map()),
        expire: () => b.expire({ keys: ['k'], tags: ['t'] }),
      }[name]
      expect((await timed(clock, call()))[1]).toBe(fault === 'hung' ? 50 : 0)
    })

  test(`after an outage (${fault}) the second level is in use again within a second, and has been told what was queued`, async () => {
    const { clock, broken, a, b } = cluster({ defaults: { tags: ['t'] } })
    const events: string[] = []
    b.on('l2Error', ({ operation }) => events.push(`error in ${operation}`))
    b.on('l2Up', ({ queued }) => events.push(`up, ${queued} queued`))
    b.on('replayed', ({ queued }) => events.push(`${queued} left`))
    await a.set('deleted', 'old')
    await a.set('set', 'old')
    await a.set('tagged', 'old', { tags: ['x'] })
    await b.get('warm')
    broken[fault] = true
    expect((await timed(clock, b.delete('deleted')))[0]).toBe('queued')
    expect([
      await b.delete('deleted'),
      await b.set('set', 'mid'),
      await b.set('set', 'new'),
      await b.invalidateTags('x'),
    ]).toEqual(Array(4).fill('queued'))
    expect(b.stats()).toMatchObject({ queued: 3, l2Up: false })
    expect(await b.get('set')).toBe('new')
    await clock.advance(10_000)
    expect(await b.get('deleted')).toBeUndefined()
    broken[fault] = false
    await clock.advance(1_100)
    expect(b.stats()).toMatchObject({ queued: 0, l2Up: true })
    for (const cache of [a, b])
      expect([await cache.get('deleted'), await cache.get('set'), await cache.get('tagged')]).toEqual([
        undefined,
        'new',
        undefined,
      ])
    expect(events).toEqual(['error in invalidate', 'up, 3 queued', '2 left', '1 left', '0 left'])
    expect(await b.delete('set')).toBe('applied')
    await b.close()
    expect(clock.pendingTimers).toBe(0)
  })
}

test('a value that had to wait does not replace what another manager has set or deleted meanwhile', async () => {
  const { clock, broken, a, b } = cluster()
  await a.set('k', 'v1')
  await a.set('l', 'v1')
  await b.get('warm')
  broken.dead = true
  expect([await b.set('k', 'v2'), await b.set('l', 'v2'), await b.set('m', 'v2')]).toEqual(Array(3).fill('queued'))
  await a.set('k', 'v3')
  await a.delete('l')
  await a.set('m', 'v3')
  broken.dead = false
  await clock.advance(3_000)
  expect(b.stats().queued).toBe(0)
  for (const cache of [a, b])
    for (const key of ['k', 'l', 'm']) expect([undefined, 'v3']).toContain(await cache.get(key))
})

test('a value that had to wait gets its own tags, though the same value stood there before', async () => {
  const { clock, broken, a, b } = cluster()
  await b.set('k', 'v')
  broken.dead = true
  expect(await b.set('k', 'v', { tags: ['t'] })).toBe('queued')
  broken.dead = false
  await clock.advance(3_000)
  expect([b.stats().queued, await a.get('k')]).toEqual([0, 'v'])
  await b.invalidateTags('t')
  await clock.advance(3_000)
  expect([await a.get('k'), await b.get('k')]).toEqual([undefined, undefined])
})

for (const change of ['delete', 'expire', 'set', 'invalidateTags'] as const)
  test(`a call ends though ${change} comes again sooner than the second level answers`, async () => {
    const clock = new ManualClock()
    const l2 = behindLine(new MemoryCacheStore({ clock }), clock, () => ({ thereMs: 1, backMs: 1 }))
    const cache = new CacheManager<any>({ clock, l2, defaults: { tags: ['t'] } })
    const changes = {
      delete: () => cache.delete('k'),
      expire: () => cache.expire({ keys: ['k'] }),
      set: () => cache.set('k', 'set'),
      invalidateTags: () => cache.invalidateTags('t'),
    }
    const call = timed(
      clock,
      cache.getOrSet('k', () => 'loaded'),
    )
    for (let i = 0; i < 200; i++) {
      void changes[change]()
      await clock.advance(1)
    }
    const [value, ms] = await call
    expect(value).toMatch(/loaded|set/)
    expect(ms).toBeLessThan(100)
  })

test('what waits is sent though the store answers slower than maxStalenessMs', async () => {
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock })
  const broken: { dead?: boolean } = {}
  const slow = behindLine(store, clock, () => ({ thereMs: 1, backMs: 1 }))
  const cache = new CacheManager<any>({ clock, l2: breakable(slow, broken), maxStalenessMs: 1 })
  broken.dead = true
  expect([await cache.set('k', 1), await cache.delete('l')]).toEqual(['queued', 'queued'])
  broken.dead = false
  await clock.advance(1_000)
  expect(cache.stats().queued).toBe(0)
})

test('what waits to be deleted is not read back from the second level while it waits', async () => {
  const { clock, broken, a, b, store } = cluster()
  await a.set('k', 'old', { tags: ['t'] })
  await a.set('l', 'old', { tags: ['t'] })
  await b.get('warm')
  const { invalidate } = store
  store.invalidate = () => Promise.reject(new Error('READONLY'))
  expect([await b.delete('k'), await b.invalidateTags('t')]).toEqual(['queued', 'queued'])
  await clock.advance(99)
  broken.calls = 0
  const readable = b.stats().l2Up
  expect([readable, await b.get('k'), await b.getOrSet('l', () => 'new')]).toEqual([false, undefined, 'new'])
  await clock.advance(60) // in use for reading again, but the changes still fail
  expect([await b.get('k'), await b.getOrSet('k', () => 'new')]).toEqual([undefined, 'new'])
  store.invalidate = invalidate
  await clock.advance(3_000)
  expect([b.stats().queued, await a.get('k'), (await store.read(['k'])).entries[0]?.payload]).not.toContain('old')
})

test('ten thousand changes that wait become one invalidation of everything', async () => {
  const { clock, broken, a, b } = cluster()
  await a.set('k', 'old')
  broken.dead = true
  for (let i = 0; i < 10_001; i++) await b.delete(`d${i}`)
  expect(b.stats().queued).toBe(1)
  broken.dead = false
  await clock.advance(2_000)
  await b.get('warm')
  expect([b.stats().queued, await b.get('k')]).toEqual([0, undefined])
})

test('cut off, the first level counts as a miss past maxStalenessMs, or is served where that is asked for', async () => {
  for (const partition of ['load', 'serve'] as const) {
    const { clock, broken, b } = cluster({ partition, maxStalenessMs: 500 })
    await b.get('warm')
    await b.set('k', 'old')
    broken.dead = true
    await clock.advance(499)
    expect(await b.get('k')).toBe('old')
    await clock.advance(1)
    expect(b.peek('k')).toBeUndefined()
    expect(await b.get('k')).toBe(partition === 'serve' ? 'old' : undefined)
    expect(await b.getOrSet('k', () => 'new')).toBe(partition === 'serve' ? 'old' : 'new')
  }
})

test('cut off, an unverified value stands in for a failing load only within its grace', async () => {
  const fail = (): never => {
    throw new Error('down')
  }
  for (const graceMs of [0, 60_000]) {
    const { clock, broken, b } = cluster({ defaults: { graceMs } })
    await b.get('warm')
    await b.set('k', 'old')
    broken.dead = true
    await clock.advance(5_000)
    expect(await b.getOrSet('k', fail).catch((e: Error) => e.message)).toBe(graceMs > 0 ? 'old' : 'down')
  }
})

test('reads of one tick travel together, each key once', async () => {
  const { store, a } = cluster()
  await a.get('warm')
  const asked: (readonly string[])[] = []
  const { read } = store
  store.read = (keys) => {
    asked.push(keys)
    return read.call(store, keys)
  }
  await Promise.all([a.get('a'), a.get('b'), a.getMany(['b', 'c']), a.has('a')])
  expect(asked).toEqual([['a', 'b', 'c']])
})

test('an entry of the second level that can not be read counts as none', async () => {
  const { store, a } = cluster()
  const errors: string[] = []
  a.on('l2Error', ({ operation }) => errors.push(operation))
  const entry = { payload: '{"broken', stamp: 0, freshUntil: 8e15, storedAt: 0, tags: [] }
  await store.write([{ key: 'k', entry, ms: 1e6 }], '')
  expect([await a.get('k'), await a.getOrSet('k', () => 'loaded'), errors.includes('decode')]).toEqual([
    undefined,
    'loaded',
    true,
  ])
})

test('while what waits is being sent, it is not read back, and changes made then are queued behind it', async () => {
  const { clock, broken, a, b, store } = cluster()
  await a.set('k', 'old')
  await a.set('l', 'old', { tags: ['t'] })
  await b.get('warm')
  broken.dead = true
  expect([await b.delete('k'), await b.invalidateTags('t')]).toEqual(['queued', 'queued'])
  broken.dead = false
  const { invalidate } = store
  store.invalidate = () => new Promise(() => {}) // answers questions, but takes no changes
  await clock.advance(100)
  expect(b.stats()).toMatchObject({ l2Up: true, queued: 2 })
  expect([await b.get('k'), await b.get('l'), await b.has('l')]).toEqual([undefined, undefined, false])
  expect([await b.getOrSet('k', () => 'new'), await b.getOrSet('l', () => 'new')]).toEqual(['new', 'new'])
  expect(await timed(clock, b.delete('m'))).toEqual(['queued', 50])
  store.invalidate = invalidate
  await clock.advance(1_000)
  expect([b.stats().queued, await b.delete('m')]).toEqual([0, 'applied'])
})

test('an answer that comes after its time tells that the second level is back, without waiting for the next try', async () => {
  const clock = new ManualClock()
  let backMs = 0
  const l2 = behindLine(new MemoryCacheStore({ clock }), clock, () => ({ thereMs: 0, backMs }))
  const b = new CacheManager<Record<string, number>>({ clock, l2 })
  await timed(clock, b.get('warm'))
  let ups = 0
  b.on('l2Up', () => ups++)
  backMs = 300 // as from a client that keeps what it is given until it has connected again
  await timed(clock, b.get('k'))
  expect(b.stats().l2Up).toBe(false)
  await clock.advance(100 + 300) // the first try comes after 100 ms
  expect([b.stats().l2Up, ups]).toEqual([true, 1])
  backMs = 0
  await clock.advance(5_000) // and no other try comes after it
  expect(ups).toBe(1)
  await b.close()
})
