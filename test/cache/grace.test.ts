import { expect, test } from 'vitest'
import {
  CacheManager,
  MemoryCacheStore,
  isHoldfastError,
  type EntryOptions,
  type LoadContext,
} from '../../src/cache/index.js'
import { ManualClock, seededRandom, settle } from '../../src/testing/index.js'

const setup = (defaults: EntryOptions, l2 = false) => {
  const clock = new ManualClock()
  const random = seededRandom(1)
  const store = l2 ? { l1: false as const, l2: new MemoryCacheStore({ clock }) } : {}
  const cache = new CacheManager<Record<string, any>>({ clock, random, defaults, ...store })
  return { clock, cache }
}
const origin = (clock: ManualClock) => {
  const it = { calls: 0, down: false, ms: 0, value: 'v1' as unknown }
  const load = async (): Promise<unknown> => {
    it.calls++
    if (it.ms > 0) await clock.sleep(it.ms)
    if (it.down) throw new Error('down')
    return it.value
  }
  return Object.assign(it, { load })
}

for (const l2 of [false, true]) {
  const where = l2 ? 'the second level' : 'the first level'

  test(`an entry is fresh for its ttl, however short its grace, in ${where}`, async () => {
    const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 10 }, l2)
    await cache.set('k', 1)
    await cache.getOrSet('loaded', () => 2)
    await clock.advance(999)
    expect([await cache.get('k'), await cache.get('loaded')]).toEqual([1, 2])
    await clock.advance(1)
    expect([await cache.get('k'), await cache.get('loaded')]).toEqual([undefined, undefined])
  })

  test(`while loads fail the old value is served within its grace and no longer, in ${where}`, async () => {
    const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 5_000 }, l2)
    const from = origin(clock)
    const stale: string[] = []
    cache.on('stale', ({ key, error }) => stale.push(`${key}: ${(error as Error).message}`))
    await cache.getOrSet('k', from.load)
    from.down = true
    await clock.advance(2_000)
    expect(await cache.getOrSet('k', from.load)).toBe('v1')
    expect([stale, cache.stats().staleServed]).toEqual([['k: down'], 1])
    await clock.advance(4_000)
    await expect(cache.getOrSet('k', from.load)).rejects.toThrow('down')
  })

  test(`without grace there is no old value to serve in ${where}, and an entry still fresh is none for fresh`, async () => {
    const { clock, cache } = setup({ ttlMs: 1_000 }, l2)
    await cache.set('k', 1)
    const load = (): never => {
      throw new Error('down')
    }
    await expect(cache.getOrSet('k', load, { fresh: true })).rejects.toThrow('down')
    await clock.advance(1_000)
    await expect(cache.getOrSet('k', load)).rejects.toThrow('down')
  })

  test(`a deleted value is not served for grace, an expired one is, in ${where}`, async () => {
    const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 5_000, tags: ['t'] }, l2)
    const from = origin(clock)
    const attempt = () => cache.getOrSet('k', from.load).catch((e: Error) => e.message)
    for (const [change, served] of [
      [() => cache.expire({ keys: ['k'] }), 'v1'],
      [() => cache.expire({ tags: ['t'] }), 'v1'],
      [() => cache.delete('k'), 'down'],
      [() => cache.invalidateTags('t'), 'down'],
      [() => cache.clear(), 'down'],
    ] as const) {
      from.down = false
      await cache.getOrSet('k', from.load, { fresh: true })
      from.down = true
      await change()
      expect(await cache.get('k')).toBeUndefined()
      expect([String(change), await attempt()]).toEqual([String(change), served])
    }
  })

  test(`a soft timeout serves the old value and lets the load go on, in ${where}`, async () => {
    const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 60_000, softTimeoutMs: 50 }, l2)
    const from = origin(clock)
    await cache.getOrSet('k', from.load)
    await clock.advance(2_000)
    Object.assign(from, { ms: 500, value: 'v2' })
    const early = cache.getOrSet('k', from.load)
    await clock.advance(50)
    expect(await early).toBe('v1')
    await clock.advance(500)
    expect([await cache.get('k'), from.calls]).toEqual(['v2', 2])
  })

  test(`notModified keeps the old value for another ttl, with its etag, in ${where}`, async () => {
    const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 60_000 }, l2)
    const seen: unknown[] = []
    const load = (context: LoadContext<unknown>): unknown => {
      seen.push(context.stale)
      context.set({ etag: 'e1', ttlMs: 1_000 })
      return context.stale ? context.notModified() : { n: 1 }
    }
    await cache.getOrSet('k', load)
    await clock.advance(1_500)
    expect(await cache.getOrSet('k', load)).toEqual({ n: 1 })
    await clock.advance(900)
    expect(await cache.get('k')).toEqual({ n: 1 })
    await clock.advance(100)
    await cache.getOrSet('k', load)
    expect(seen).toEqual([
      undefined,
      { value: { n: 1 }, ageMs: 1_500, etag: 'e1' },
      { value: { n: 1 }, ageMs: 1_000, etag: 'e1' },
    ])
    await expect(cache.getOrSet('new', (context) => context.notModified())).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
  })
}

test('after a hard timeout later callers join the load that is under way, and its value is stored', async () => {
  const { clock, cache } = setup({ hardTimeoutMs: 100 })
  const from = origin(clock)
  from.ms = 250
  for (let i = 0; i < 2; i++) {
    const call = cache.getOrSet('k', from.load).catch((e: unknown) => e)
    await clock.advance(100)
    expect(isHoldfastError(await call, 'TIMEOUT')).toBe(true)
  }
  const last = cache.getOrSet('k', from.load)
  await clock.advance(50)
  expect([await last, from.calls, await cache.get('k')]).toEqual(['v1', 1, 'v1'])
  expect(clock.pendingTimers).toBe(0)
})

test('a hard timeout serves the old value if there is one', async () => {
  const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 60_000, hardTimeoutMs: 100 })
  const from = origin(clock)
  await cache.getOrSet('k', from.load)
  await clock.advance(1_000)
  from.ms = 10_000
  const call = cache.getOrSet('k', from.load)
  await clock.advance(100)
  expect(await call).toBe('v1')
})

test('an error is remembered for errorTtlMs: one call of the loader, however long ago the value expired', async () => {
  const { clock, cache } = setup({ ttlMs: 1_000, graceMs: 1e9, errorTtlMs: 500 })
  const from = origin(clock)
  await cache.getOrSet('k', from.load)
  await clock.advance(100_000)
  from.down = true
  for (let i = 0; i < 5; i++) expect(await cache.getOrSet('k', from.load)).toBe('v1')
  expect(from.calls).toBe(2)
  for (let i = 0; i < 5; i++) await expect(cache.getOrSet('none', from.load)).rejects.toThrow('down')
  expect(from.calls).toBe(3)
  await clock.advance(500)
  from.down = false
  expect(await cache.getOrSet('none', from.load)).toBe('v1')
})

test('an invalidation makes a remembered error be tried again', async () => {
  const { clock, cache } = setup({ errorTtlMs: 1e6, tags: ['t'] })
  const from = origin(clock)
  for (const change of [() => cache.delete('k'), () => cache.invalidateTags('t'), () => cache.clear()]) {
    from.down = true
    await expect(cache.getOrSet('k', from.load)).rejects.toThrow('down')
    from.down = false
    await expect(cache.getOrSet('k', from.load)).rejects.toThrow('down')
    await change()
    expect(await cache.getOrSet('k', from.load)).toBe('v1')
    await cache.delete('k')
  }
})

for (const l2 of [false, true])
  test(`the old value behind a remembered error goes with its own tags, ${l2 ? 'with' : 'without'} a second level`, async () => {
    const { clock, cache } = setup({ ttlMs: 10, graceMs: 10_000, errorTtlMs: 10_000 }, l2)
    const down = (): never => {
      throw new Error('down')
    }
    await cache.getOrSet('k', ({ set }) => {
      set({ tags: ['known to the loader only'] })
      return 'old'
    })
    await clock.advance(10)
    expect(await cache.getOrSet('k', down)).toBe('old')
    await cache.invalidateTags('known to the loader only')
    await expect(cache.getOrSet('k', down)).rejects.toThrow('down')
  })

for (const l2 of [false, true])
  test(`neither a remembered error nor a long load stretches the grace, ${l2 ? 'with' : 'without'} a second level`, async () => {
    const { clock, cache } = setup({ ttlMs: 10, graceMs: 100, errorTtlMs: 10_000 }, l2)
    const down = (): never => {
      throw new Error('down')
    }
    await cache.set('k', 'old')
    await cache.set('l', 'old')
    await clock.advance(105)
    const slow = cache.getOrSet('l', () => clock.sleep(50).then(down))
    const failed = expect(slow).rejects.toThrow('down')
    expect(await cache.getOrSet('k', down)).toBe('old')
    await clock.advance(50)
    await failed
    await expect(cache.getOrSet('k', down)).rejects.toThrow('down')
  })

test('refreshAhead loads in the background past its part of the ttl, once, while callers get the value', async () => {
  const { clock, cache } = setup({ ttlMs: 1_000, refreshAhead: 0.8 })
  const from = origin(clock)
  await cache.getOrSet('k', from.load)
  from.value = 'v2'
  await clock.advance(799)
  expect([await cache.getOrSet('k', from.load), from.calls]).toEqual(['v1', 1])
  await clock.advance(1)
  from.ms = 50
  expect([await cache.getOrSet('k', from.load), await cache.getOrSet('k', from.load), from.calls]).toEqual([
    'v1',
    'v1',
    2,
  ])
  await clock.advance(50)
  expect([await cache.getOrSet('k', from.load), from.calls]).toEqual(['v2', 2])
})

test('refreshAhead that fails leaves the value until its ttl', async () => {
  const { clock, cache } = setup({ ttlMs: 1_000, refreshAhead: 0.5 })
  const from = origin(clock)
  await cache.getOrSet('k', from.load)
  from.down = true
  await clock.advance(600)
  for (let i = 0; i < 3; i++) expect(await cache.getOrSet('k', from.load)).toBe('v1')
  await settle()
  expect([await cache.get('k'), from.calls]).toEqual(['v1', 2])
})

test('xfetch refreshes early the sooner, the longer a load takes, and never when loads take no time', async () => {
  const early = async (ms: number): Promise<number> => {
    let total = 0
    for (let i = 0; i < 20; i++) {
      const { clock, cache } = setup({ ttlMs: 10_000, refreshAhead: 'xfetch' })
      for (let j = 0; j < i; j++) await cache.getOrSet(`waste${j}`, () => 1, { jitterRatio: 1 }) // another chance each time
      const from = origin(clock)
      from.ms = ms
      const first = cache.getOrSet('k', from.load)
      await clock.advance(ms)
      await first
      let at = 0
      while (at < 10_000) {
        await cache.getOrSet('k', from.load)
        if (from.calls > 1) break
        await clock.advance(100)
        at += 100
      }
      total += 10_000 - at
    }
    return total / 20
  }
  const [none, short, long] = [await early(0), await early(100), await early(1_000)]
  expect(none).toBeLessThanOrEqual(0)
  expect(short).toBeGreaterThan(0)
  expect(long).toBeGreaterThan(3 * short)
})

test('jitter shortens each ttl by up to its part', async () => {
  const { clock, cache } = setup({ ttlMs: 1_000, jitterRatio: 0.5 })
  const keys = Array.from({ length: 100 }, (_, i) => `k${i}`)
  for (const key of keys) await cache.set(key, 1)
  await clock.advance(499)
  expect((await cache.getMany(keys)).size).toBe(100)
  await clock.advance(251)
  expect((await cache.getMany(keys)).size).toBeGreaterThan(25)
  expect((await cache.getMany(keys)).size).toBeLessThan(75)
  await clock.advance(250)
  expect((await cache.getMany(keys)).size).toBe(0)
})

test('l1TtlMs bounds the first level only', async () => {
  const clock = new ManualClock()
  const cache = new CacheManager<Record<string, number>>({ clock, l2: new MemoryCacheStore({ clock }) })
  await cache.get('warm')
  await cache.set('k', 1, { ttlMs: 1_000, l1TtlMs: 100 })
  expect(cache.peek('k')).toBe(1)
  await clock.advance(100)
  expect([cache.peek('k'), await cache.get('k')]).toEqual([undefined, 1])
})
