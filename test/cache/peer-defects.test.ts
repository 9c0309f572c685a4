import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import {
  CacheManager,
  MemoryCacheBackplane,
  MemoryCacheStore,
  type CacheManagerOptions,
  type CacheStore,
} from '../../src/cache/index.js'
import { ManualClock, seededRandom, settle } from '../../src/testing/index.js'
import { breakable } from './faulty-store.js'

// One test for each known defect of cacheable, cache-manager, async-cache-dedupe, bentocache, layered-loader and the client-side
// caching of node-redis: docs/cache-peers.md shows both side by side. What needs a Redis is in peer-defects.integration.test.ts.

/** One manager on its own, and two that share a second level and hear of each other. */
const alone = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  return { clock, cache: new CacheManager({ clock, ...options }) }
}
const pair = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock })
  const backplane = new MemoryCacheBackplane()
  const make = (l2: CacheStore = store): CacheManager => new CacheManager({ clock, l2, backplane, ...options })
  return { clock, store, make, a: make(), b: make() }
}

/** A store that notes what is asked of it. */
function noting(store: CacheStore): { readonly store: CacheStore; readonly asked: string[] } {
  const asked: string[] = []
  const noted = new Proxy(store, {
    get: (target, name) => {
      const method = Reflect.get(target, name) as (...args: unknown[]) => unknown
      return (...args: unknown[]) => {
        asked.push(String(name))
        return method.apply(target, args)
      }
    },
  })
  return { store: noted, asked }
}

test('two hundred thousand calls of a wrapped function have results of their own, texts that collide in 32 bits too', async () => {
  const { cache } = alone()
  const echo = cache.wrap('echo', async (text: string) => text)
  expect([await echo('Ez'), await echo('FY')]).toEqual(['Ez', 'FY'])
  let wrong = 0
  const random = seededRandom(3) // eleven pairs of these texts collide in the hash that cacheable takes
  for (let i = 0; i < 200_000; i++) {
    const id = random().toString(36).slice(2, 12)
    if ((await echo(id)) !== id) wrong++
  }
  expect(wrong).toBe(0)
})

test('functions do not share results: each has a name, and one without is refused', async () => {
  const { cache } = alone()
  const [one, two] = [cache.wrap('one', async () => 1), cache.wrap('two', async () => 2)]
  expect([await one(), await two()]).toEqual([1, 2])
  expect(() => cache.wrap('', async () => 3)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
})

test('arguments that differ in type or content have results of their own, equal ones share theirs in any order of properties', async () => {
  const { cache } = alone()
  let calls = 0
  const count = cache.wrap('count', async (_argument: unknown) => ++calls)
  const different = [
    ...[1, '1', 1n, 2, 2n, true, 'true', undefined, null, NaN, 'NaN', '', 0, -0],
    ...[{ a: 1 }, '{"a":1}', { a: '1' }, {}, [], [1], new Map(), new Set()],
    ...[new Map([[1, 1]]), new Map([[1, 2]]), new Set([1]), new Set([2]), new Date(1), new Date(2)],
  ]
  for (const argument of different) await count(argument)
  expect(calls).toBe(different.length)
  for (const argument of different) await count(structuredClone(argument))
  expect(calls).toBe(different.length)
  expect(await count({ a: 1, b: { c: 2, d: 3 } })).toBe(await count({ b: { d: 3, c: 2 }, a: 1 }))
})

test.each([1, 400, 1_500])('a ttl of %d ms ends after that many milliseconds, in both levels', async (ttlMs) => {
  const clock = new ManualClock()
  for (const options of [{}, { l1: false as const, l2: new MemoryCacheStore({ clock }) }]) {
    const cache = new CacheManager<Record<string, number>>({ clock, ...options })
    await cache.set('k', 1, { ttlMs })
    await clock.advance(ttlMs - 1)
    expect(await cache.get('k')).toBe(1)
    await clock.advance(1)
    expect(await cache.get('k')).toBeUndefined()
  }
})

test('an entry whose grace is shorter than its ttl lives for its ttl, and for its grace after that', async () => {
  for (const l2 of [false, true]) {
    const clock = new ManualClock()
    const second = l2 ? { l1: false as const, l2: new MemoryCacheStore({ clock }) } : {}
    const cache = new CacheManager<Record<string, number>>({ clock, ...second })
    const options = { ttlMs: 1_000, graceMs: 100 }
    const fail = (): never => {
      throw new Error('down')
    }
    await cache.set('k', 1, options)
    await clock.advance(999)
    expect(await cache.get('k')).toBe(1)
    await clock.advance(100)
    expect(await cache.getOrSet('k', fail, options)).toBe(1)
    await clock.advance(1)
    await expect(cache.getOrSet('k', fail, options)).rejects.toThrow('down')
  }
})

test('a failing load of an entry that expired long ago is tried once in errorTtlMs: the others get the old value', async () => {
  const { clock, cache } = alone({ defaults: { ttlMs: 50, graceMs: 60_000, errorTtlMs: 500 } })
  await cache.set('k', 'old')
  await clock.advance(700) // expired for longer than the failure is remembered
  let calls = 0
  const fail = (): never => {
    calls++
    throw new Error('down')
  }
  for (let round = 1; round <= 3; round++) {
    for (let i = 0; i < 5; i++) expect(await cache.getOrSet('k', fail)).toBe('old')
    expect(calls).toBe(round)
    await clock.advance(500)
  }
})

test('entries set or loaded in the millisecond of an invalidation of their tag are all there, those from before are not', async () => {
  for (const cache of [alone().cache, pair().a, pair({ l1: false }).a]) {
    for (let i = 0; i < 200; i++) {
      await cache.set(`old ${i}`, i, { tags: ['t'] })
      await cache.invalidateTags('t')
      await cache.getOrSet(`loaded ${i}`, () => i, { tags: ['t'] })
      await cache.set(`new ${i}`, i, { tags: ['t'] })
      expect([await cache.get(`old ${i}`), await cache.get(`new ${i}`), await cache.get(`loaded ${i}`)]).toEqual([
        undefined,
        i,
        i,
      ])
    }
  }
})

test('after a hard timeout no second load begins: five callers, one after the other, wait for the same one', async () => {
  const shared = pair()
  for (const { clock, cache } of [alone(), { clock: shared.clock, cache: shared.a }]) {
    let calls = 0
    const slow = async (): Promise<string> => {
      calls++
      await clock.sleep(1_000)
      return 'v'
    }
    for (let i = 0; i < 5; i++) {
      const call = cache.getOrSet('k', slow, { hardTimeoutMs: 50 })
      const refused = expect(call).rejects.toMatchObject({ code: 'TIMEOUT' })
      await clock.advance(50)
      await refused
    }
    await clock.advance(1_000)
    expect([calls, await cache.get('k')]).toEqual([1, 'v'])
  }
})

test('a load that fails is one call for a hundred callers, and all hear of it when it ends', async () => {
  const shared = pair()
  for (const { clock, cache } of [alone(), { clock: shared.clock, cache: shared.a }]) {
    let calls = 0
    const error = new Error('down')
    const fail = async (): Promise<never> => {
      calls++
      await clock.sleep(20)
      throw error
    }
    const all = Promise.allSettled(Array.from({ length: 100 }, () => cache.getOrSet('k', fail)))
    await clock.advance(20)
    expect(new Set((await all).map((one) => one.status === 'rejected' && one.reason))).toEqual(new Set([error]))
    expect(calls).toBe(1)
  }
})

const changes = {
  delete: (cache: CacheManager) => cache.delete('k'),
  set: (cache: CacheManager) => cache.set('k', 'NEW', { tags: ['t'] }),
  tag: (cache: CacheManager) => cache.invalidateTags('t'),
}

for (const [name, change] of Object.entries(changes)) {
  /** A load that reads OLD, under way in `loading` while `changing` changes its key. */
  const during = async (loading: CacheManager, changing: CacheManager): Promise<readonly unknown[]> => {
    let end!: (value: string) => void
    const early = loading.getOrSet('k', () => new Promise<string>((resolve) => (end = resolve)), { tags: ['t'] })
    for (let i = 0; i < 10; i++) await settle()
    await change(changing)
    const late = await changing.getOrSet('k', async () => 'NEW', { tags: ['t'] }) // before the old load ends
    end('OLD')
    return [await early, late]
  }

  test(`${name} during a load: who asks after it does not get what the load brings, nor does anybody later`, async () => {
    for (const cache of [alone().cache, pair().a, pair({ l1: false }).a]) {
      expect(await during(cache, cache)).toEqual(['OLD', 'NEW'])
      expect(await cache.get('k')).toBe('NEW')
    }
  })

  test(`${name} by another manager during a load: both go on with what came after it`, async () => {
    // Without messages the store takes the lease away, and does so with a key only: with a tag, it refuses what was loaded.
    for (const { a, b } of name === 'tag' ? [pair()] : [pair(), pair({ backplane: undefined })]) {
      await Promise.all([a.get('warm'), b.get('warm')])
      expect(await during(a, b)).toEqual(['OLD', 'NEW'])
      expect([await a.get('k'), await b.get('k')]).toEqual(['NEW', 'NEW'])
    }
  })
}

test('a thousand callers in four managers make one load', async () => {
  const { clock, make } = pair()
  let calls = 0
  const slow = async (): Promise<string> => {
    await clock.sleep(100)
    return `v${++calls}`
  }
  const managers = Array.from({ length: 4 }, () => make())
  const all = managers.flatMap((cache) => Array.from({ length: 250 }, () => cache.getOrSet('k', slow)))
  await clock.advance(1_000)
  expect(new Set(await Promise.all(all))).toEqual(new Set(['v1']))
})

test('expiring a key or a tag is one call that reads nothing and writes nothing back, whatever others set meanwhile', async () => {
  const { store, make, b } = pair({ defaults: { graceMs: 60_000, tags: ['t'] } })
  const noted = noting(store)
  const a = make(noted.store)
  await Promise.all([a.get('warm'), b.set('k', 'v1')])
  for (const what of [{ keys: ['k'] }, { tags: ['t'] }]) {
    noted.asked.length = 0
    const both = Promise.all([a.expire(what), b.set('k', 'v2')])
    await settle()
    expect(noted.asked).toEqual(['invalidate'])
    expect(await both).toEqual(['applied', 'applied'])
    expect((await store.read(['k'])).entries[0]?.payload).toBe('"v2"')
  }
})

test('ten invalidations of a tag at once, by several managers, count ten times, and take what was there before', async () => {
  const { store, make } = pair()
  const managers = Array.from({ length: 5 }, () => make())
  const [one, other] = managers as [CacheManager, CacheManager]
  await one.set('old', 1, { tags: ['t', 'u'] })
  const before = (await store.state([])).seq
  await Promise.all([...managers, ...managers].map((cache) => cache.invalidateTags('t')))
  const { seq, tags } = await store.state(['t'])
  expect([seq - before, tags]).toEqual([10, [seq]])
  expect([await one.get('old'), await other.get('old')]).toEqual([undefined, undefined])
  await other.set('new', 2, { tags: ['t', 'u'] })
  expect([await one.get('new'), await other.get('new')]).toEqual([2, 2])
})

test.each([10, 5_000])('invalidating the tags of %d entries is one call of the second level', async (count) => {
  const { store, make } = pair()
  const noted = noting(store)
  const cache = make(noted.store)
  for (let i = 0; i < count; i++) await cache.set(`k${i}`, i, { tags: ['t', `u${i % 2}`] })
  noted.asked.length = 0
  expect(await cache.invalidateTags('u0', 'u1', 't')).toBe('applied')
  expect(noted.asked).toEqual(['invalidate'])
  expect((await cache.getMany(Array.from({ length: count }, (_, i) => `k${i}`))).size).toBe(0)
})

for (const fault of ['hung', 'dead'] as const) {
  test(`a second level that is ${fault}: hits, misses, set and delete end within 50 ms, and no change is called applied`, async () => {
    const { clock, store, make } = pair()
    const broken: { hung?: boolean; dead?: boolean } = {}
    const cache = make(breakable(store, broken))
    await cache.get('warm')
    await cache.set('hit', 'v')
    broken[fault] = true
    const calls = [
      () => cache.get('hit'),
      () => cache.getOrSet('miss', async () => 'loaded'),
      () => cache.set('k', 1),
      () => cache.delete('hit'),
      () => cache.invalidateTags('t'),
      () => cache.get('hit'),
    ].map((call) => call())
    await clock.advance(50)
    const pending = Promise.race([Promise.all(calls), settle().then(() => 'pending')])
    expect(await pending).toEqual(['v', 'loaded', 'queued', 'queued', 'queued', undefined])
    broken[fault] = false
    await clock.advance(1_000)
    expect(cache.stats()).toMatchObject({ l2Up: true, queued: 0 })
    expect((await store.read(['hit', 'k'])).entries.map((entry) => entry?.payload)).toEqual([undefined, '1'])
  })
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void
const heapBytes = (): number => {
  collectGarbage()
  return process.memoryUsage().heapUsed
}

test('keys that are past leave nothing behind: not those read, loaded, set, deleted, tagged or failed', async () => {
  const clock = new ManualClock()
  const keyBytes = 10_000
  const key = (i: number): string => String(i).padStart(keyBytes, '.')
  for (const l2 of [undefined, new MemoryCacheStore({ clock, maxEntries: 100 })]) {
    const cache = new CacheManager({ clock, l1: { maxEntries: 100 }, l2 })
    const before = heapBytes()
    for (let i = 1; i <= 3_000; i++) {
      await cache.get(key(i))
      await cache.getOrSet(key(i), () => i, { tags: [key(i)] })
      await cache.getOrSet(key(-i), () => Promise.reject(new Error('down'))).catch(() => {})
      if (i % 3 === 0) await cache.delete(key(i))
      else if (i % 3 === 1) await cache.invalidateTags(key(i))
      else await cache.set(key(i), i)
    }
    const kept = (heapBytes() - before) / keyBytes
    expect(cache.stats().l1Entries).toBeLessThanOrEqual(100)
    expect(kept).toBeLessThan(2_000) // of six thousand keys: a hundred in each level, and the tags of a thousand at most
    await cache.close()
  }
})
