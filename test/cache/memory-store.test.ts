import { expect, test } from 'vitest'
import { MemoryCacheStore, type StoredEntry } from '../../src/cache/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { cacheStoreContract } from '../conformance/cache-store.js'

const harness = (options: { maxEntries?: number } = {}) => {
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock, ...options })
  return {
    store,
    advance: (ms: number) => clock.advance(ms),
    epochMs: () => clock.epochMs(),
    close: () => store[Symbol.asyncDispose](),
  }
}

cacheStoreContract('MemoryCacheStore', async () => harness())
cacheStoreContract('MemoryCacheStore of 64 entries', async () => harness({ maxEntries: 64 }))

const entry = (payload: string, stamp: number, tags: string[] = []): StoredEntry => ({
  payload,
  stamp,
  freshUntil: 8e12,
  storedAt: 0,
  tags,
})

test('the least recently used entries go when there are too many', async () => {
  const { store } = harness({ maxEntries: 2 })
  await store.write([{ key: 'a', entry: entry('1', 0), ms: 1e6 }], '')
  await store.write([{ key: 'b', entry: entry('2', 0), ms: 1e6 }], '')
  await store.read(['a'])
  await store.write([{ key: 'c', entry: entry('3', 0), ms: 1e6 }], '')
  expect((await store.read(['a', 'b', 'c'])).entries.map((e) => e?.payload)).toEqual(['1', undefined, '3'])
})

test('an entry whose tag was forgotten for lack of room counts as invalidated', async () => {
  const { store } = harness({ maxEntries: 2 })
  await store.write([{ key: 'a', entry: entry('1', 0, ['x']), ms: 1e6 }], '')
  for (const tag of ['x', 'y', 'z']) await store.invalidate({ kind: 'tags', tags: [tag] }, '')
  expect((await store.state(['x'])).tags).toEqual([0])
  expect((await store.read(['a'])).entries).toEqual([undefined])
  await store.write([{ key: 'a', entry: entry('2', 0, ['x']), ms: 1e6 }], '')
  expect((await store.read(['a'])).entries[0]?.payload).toBe('2')
})

test('a lease that was dropped for lack of room is refused at its fill', async () => {
  const { store } = harness({ maxEntries: 1 })
  const first = await store.lease('a', 1000)
  await store.lease('b', 1000)
  if (first.kind !== 'granted') throw new Error(first.kind)
  expect(await store.fill('a', first.token, entry('1', first.seq), 1000)).toBe(false)
})

test('a size out of range is refused at construction', () => {
  expect(() => new MemoryCacheStore({ maxEntries: 0 })).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
})
