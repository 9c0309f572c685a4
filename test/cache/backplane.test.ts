import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import {
  CacheManager,
  MemoryCacheBackplane,
  MemoryCacheStore,
  type CacheBackplane,
  type OnInvalidation,
} from '../../src/cache/index.js'
import { ManualClock } from '../../src/testing/index.js'

/** Two managers on one store, each of which hears of the other's changes. */
function two(backplane: CacheBackplane = new MemoryCacheBackplane()) {
  const clock = new ManualClock()
  const l2 = new MemoryCacheStore({ clock })
  const open = () => new CacheManager<Record<string, number>>({ l2, backplane, clock })
  return { clock, a: open(), b: open() }
}

test('a backplane does not keep a closed manager in memory', async () => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const backplane = new MemoryCacheBackplane()
  const open = async (): Promise<WeakRef<object>> => {
    const value = {}
    const cache = new CacheManager<any>({ l2: new MemoryCacheStore(), backplane })
    cache.on('load', () => value) // held by the manager for as long as it is held
    await cache.getOrSet('k', () => 1)
    await cache.close()
    return new WeakRef(value)
  }
  const held = await open()
  for (let i = 0; i < 100 && held.deref(); i++) {
    await new Promise((resolve) => setTimeout(resolve, 10))
    collect()
  }
  expect(held.deref()).toBeUndefined()
})

test('a change is gone from the other’s first level at once; what was not changed stays', async () => {
  const { a, b } = two()
  for (const key of ['k', 'stays']) {
    await a.set(key, 1)
    await b.get(key)
  }
  await a.delete('k')
  expect([b.peek('k'), b.peek('stays')]).toEqual([undefined, 1])
})

test('while it is in use, the first level is confirmed beforehand: no hit waits, and none is lost', async () => {
  const { clock, a, b } = two()
  await a.set('k', 1)
  await b.get('k')
  for (let i = 0; i < 20; i++) {
    await clock.advance(700)
    expect(b.peek('k')).toBe(1)
  }
  expect(b.stats()).toMatchObject({ coherent: true, misses: 0, l2Hits: 1 })
})

test('idle managers ask nothing', async () => {
  const { clock, a } = two()
  await a.set('k', 1)
  expect(clock.pendingTimers).toBe(0)
})

test('a backplane that fails is an event, and is asked again until it listens', async () => {
  const memory = new MemoryCacheBackplane()
  let failures = 3
  const heard = new Set<OnInvalidation>()
  const failing: CacheBackplane = {
    publish: (...message) => memory.publish(...message),
    subscribe: async (onMessage) => {
      heard.add(onMessage)
      if (failures-- > 0) throw new Error('not connected')
      await memory.subscribe(onMessage)
    },
    [Symbol.asyncDispose]: async () => {},
  }
  const clock = new ManualClock()
  const l2 = new MemoryCacheStore({ clock })
  const a = new CacheManager<Record<string, number>>({ l2, backplane: memory, clock })
  const b = new CacheManager<Record<string, number>>({ l2, backplane: failing, clock })
  const errors: string[] = []
  b.on('l2Error', ({ operation }) => errors.push(operation))
  await clock.advance(10_000)
  expect(errors).toEqual(['subscribe', 'subscribe', 'subscribe'])
  expect(heard.size).toBe(1)
  await a.set('k', 1)
  await b.get('k')
  await a.delete('k')
  expect(b.peek('k')).toBeUndefined()
})

test('messages that are none are left alone', async () => {
  const listeners: OnInvalidation[] = []
  const { a } = two({
    publish: async () => {},
    subscribe: async (onMessage) => void listeners.push(onMessage),
    [Symbol.asyncDispose]: async () => {},
  })
  await a.set('k', 1)
  await a.get('k')
  const junk = [null, {}, { kind: 'keys' }, { kind: 'keys', keys: [1] }, { kind: 'tags', tags: 'k' }, { kind: 'other' }]
  for (const what of junk) for (const hear of listeners) hear(1, what as never, 'someone')
  for (const hear of listeners) hear(NaN, { kind: 'all' }, 'someone')
  expect(a.peek('k')).toBe(1)
})

test('after close nothing is heard, and a backplane without a second level is refused', async () => {
  const { a, b } = two()
  await a.set('k', 1)
  await b.close()
  await a.delete('k')
  expect(() => new CacheManager({ backplane: new MemoryCacheBackplane() })).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION' }),
  )
})
