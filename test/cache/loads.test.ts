import { expect, test } from 'vitest'
import { settle } from '../../src/testing/index.js'
import { cluster, gate, loader, setup } from './managers.js'

test('a thousand callers share one load', async () => {
  const { cache } = setup()
  const load = loader('v')
  const all = await Promise.all(Array.from({ length: 1000 }, () => cache.getOrSet('k', load)))
  expect([load.calls, new Set(all).size]).toEqual([1, 1])
})

test('a hundred callers of a load that fails get its error from one call', async () => {
  for (const { a: cache } of [{ a: setup().cache }, cluster()]) {
    let calls = 0
    const error = new Error('origin')
    const load = async (): Promise<never> => {
      calls++
      await settle()
      throw error
    }
    const all = await Promise.allSettled(Array.from({ length: 100 }, () => cache.getOrSet('k', load)))
    expect(all.every((r) => r.status === 'rejected' && r.reason === error)).toBe(true)
    expect(calls).toBe(1)
    expect(await cache.getOrSet('k', async () => 'next')).toBe('next')
  }
})

test('managers on one second level share one load, the others wait for it', async () => {
  const { clock, manager } = cluster()
  const load = loader('v')
  const slow = async (): Promise<string> => {
    await clock.sleep(200)
    return load()
  }
  const all = Promise.all(Array.from({ length: 20 }, () => manager().getOrSet('k', slow)))
  await clock.advance(1_000)
  expect(new Set(await all)).toEqual(new Set(['v']))
  expect(load.calls).toBe(1)
})

test('when a load fails, another manager that waits for it loads at its next look', async () => {
  const { clock, a, b } = cluster()
  const failing = a.getOrSet('k', async () => {
    await clock.sleep(20)
    throw new Error('origin')
  })
  failing.catch(() => {})
  await settle()
  const waiting = b.getOrSet('k', async () => 'b')
  await clock.advance(100)
  await expect(failing).rejects.toThrow('origin')
  expect(await waiting).toBe('b')
})

test('a load that outlasts its lease is returned and not stored, and does not keep others waiting', async () => {
  const { clock, a, b } = cluster({ leaseMs: 1_000 })
  const late = a.getOrSet('k', async () => {
    await clock.sleep(3_000)
    return 'old'
  })
  await clock.advance(1_500)
  const again = a.getOrSet('k', async () => 'new')
  await clock.advance(0)
  expect(await again).toBe('new')
  await clock.advance(3_000)
  expect(await late).toBe('old')
  expect([await a.get('k'), await b.get('k')]).toEqual(['new', 'new'])
})

test('getOrSetMany loads what is missing in one call, keeps the order and leaves out what the load leaves out', async () => {
  for (const { a: cache } of [{ a: setup().cache }, cluster()]) {
    await cache.set('b', 'B')
    const asked: (readonly string[])[] = []
    const load = async (keys: readonly string[]) => {
      asked.push(keys)
      return new Map(keys.filter((k) => k !== 'c').map((k) => [k, k.toUpperCase()]))
    }
    expect([...(await cache.getOrSetMany(['a', 'b', 'c', 'd', 'a'], load))]).toEqual([
      ['a', 'A'],
      ['b', 'B'],
      ['d', 'D'],
    ])
    expect(asked).toEqual([['a', 'c', 'd']])
    expect((await cache.getMany(['a', 'c', 'd'])).size).toBe(2)
    expect(await cache.getOrSetMany([], load)).toEqual(new Map())
    await expect(cache.getOrSetMany(['x', 'y'], () => Promise.reject(new Error('many')))).rejects.toThrow('many')
  }
})

test('a load of many and a load of one share the key that both want', async () => {
  const { cache } = setup()
  const one = gate<string>()
  const single = cache.getOrSet('a', () => one.promise)
  const many = cache.getOrSetMany(['a', 'b'], async (keys) => new Map(keys.map((k) => [k, `many ${k}`])))
  const joined = cache.getOrSet('b', async () => 'not needed')
  const leftOut = cache.getOrSetMany(['z'], async () => new Map())
  const own = cache.getOrSet('z', async () => 'own')
  one.open('one')
  expect([...(await many)]).toEqual([
    ['a', 'one'],
    ['b', 'many b'],
  ])
  expect([await single, await joined, (await leftOut).size, await own]).toEqual(['one', 'many b', 0, 'own'])
})

test('fresh loads though a value is stored, and joins a load that is under way', async () => {
  for (const { a: cache } of [{ a: setup().cache }, cluster()]) {
    await cache.set('k', 'old')
    const load = loader('new', 'newer')
    const both = await Promise.all([
      cache.getOrSet('k', load, { fresh: true }),
      cache.getOrSet('k', load, { fresh: true }),
    ])
    expect([both, await cache.get('k'), load.calls]).toEqual([['new', 'new'], 'new', 1])
  }
})

test('uncached values are returned and not stored', async () => {
  const { a, store } = cluster()
  expect(await a.getOrSet('k', (context) => context.uncached('v'))).toBe('v')
  expect([await a.get('k'), (await store.read(['k'])).entries]).toEqual([undefined, [undefined]])
  expect(await a.getOrSet('k', () => 'w')).toBe('w')
})

test('a caller who aborts leaves the load to the others; when the last one aborts, so does the load', async () => {
  const { cache } = setup()
  const result = gate<string>()
  let inner: AbortSignal | undefined
  const load = ({ signal }: { signal: AbortSignal }) => {
    inner = signal
    return result.promise
  }
  const [one, two] = [new AbortController(), new AbortController()]
  const first = cache.getOrSet('k', load, { signal: one.signal })
  const second = cache.getOrSet('k', load, { signal: two.signal })
  one.abort(new Error('one'))
  await expect(first).rejects.toThrow('one')
  expect(inner?.aborted).toBe(false)
  two.abort(new Error('two'))
  await expect(second).rejects.toThrow('two')
  expect(inner?.reason).toEqual(new Error('two'))
  expect(await cache.getOrSet('k', async () => 'next')).toBe('next')
})

test('a call that its caller ends leaves no timer behind, though the load goes on', async () => {
  const { cache, clock } = setup({ defaults: { hardTimeoutMs: 60_000, softTimeoutMs: 60_000, graceMs: 60_000 } })
  const controller = new AbortController()
  const call = cache.getOrSet('k', () => new Promise(() => {}), { signal: controller.signal })
  await settle()
  controller.abort(new Error('gone'))
  await expect(call).rejects.toThrow('gone')
  expect(clock.pendingTimers).toBe(0)
})

for (const end of ['abort', 'close'] as const)
  test(`a loader is not called after ${end}, and its lease is free, when the second level answers only then`, async () => {
    const { a, store } = cluster()
    const { lease } = store
    const answer = gate<void>()
    store.lease = async (...args) => {
      const leased = await lease.apply(store, args)
      await answer.promise
      return leased
    }
    const load = loader('v')
    const controller = new AbortController()
    const call = a.getOrSet('k', load, { signal: controller.signal })
    const settled = expect(call).rejects.toThrow()
    await settle()
    if (end === 'abort') controller.abort()
    else await a.close()
    answer.open()
    await settled
    await settle()
    expect(load.calls).toBe(0)
    if (end === 'abort') expect(await lease.call(store, 'k', 1)).toMatchObject({ kind: 'granted' })
  })
