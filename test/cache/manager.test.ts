import { expect, test } from 'vitest'
import {
  CacheManager,
  MemoryCacheBackplane,
  MemoryCacheStore,
  isHoldfastError,
  type CacheManagerOptions,
} from '../../src/cache/index.js'
import { ManualClock, settle } from '../../src/testing/index.js'

const gate = <T>() => {
  let open!: (value: T) => void
  let fail!: (error: unknown) => void
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve
    fail = reject
  })
  return { promise, open, fail }
}

type Cached = CacheManager<Record<string, any>>

/** One manager on its own, or several on one store. */
const setup = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  return { clock, cache: new CacheManager<Record<string, any>>({ clock, ...options }) }
}
const cluster = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock })
  const manager = () => new CacheManager<Record<string, any>>({ clock, l2: store, ...options })
  return { clock, store, a: manager(), b: manager(), manager }
}
const loader = <T>(...values: T[]) => {
  const load = Object.assign(async () => values[Math.min(load.calls++, values.length - 1)] as T, { calls: 0 })
  return load
}

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

test('of two values set at once the last one stays, in each level', async () => {
  for (const cache of [setup().cache, cluster().a]) {
    await Promise.all([cache.set('k', 1), cache.set('k', 2)])
    expect(await cache.get('k')).toBe(2)
  }
})

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
