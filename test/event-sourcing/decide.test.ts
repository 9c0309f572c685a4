import { expect, test } from 'vitest'
import { decide, MemoryEventStore, type Event } from '../../src/event-sourcing/index.js'
import { settle } from '../../src/testing/index.js'
import { counting } from './counting-store.js'
import { decisionsHold, defined, subscribe, type Seat } from './seats.js'

const open = () => counting(new MemoryEventStore<Seat>())

decisionsHold('memory', async () => new MemoryEventStore<Seat>())

test('what is appended has a stream of its own, and is not in the way of what the query does not pick', async () => {
  const { store } = open()
  await store.append('course-a', [defined('a', 2)])
  const one = await subscribe(store, 'a', 's', { metadata: { correlationId: 'x' }, retries: 0 })
  expect(one).toMatchObject({ version: 1, position: 2, duplicate: false })
  expect(one.events[0]).toMatchObject({ streamId: one.stream, metadata: { correlationId: 'x' } })
  const other = await decide(
    store,
    { items: [{ tags: ['course:b'] }] },
    { initial: 0, evolve: (n) => n + 1 },
    async (n) => {
      await subscribe(store, 'a', 't')
      return defined('b', n)
    },
    { retries: 0 },
  )
  expect([other.position, other.stream === one.stream]).toEqual([4, false])
})

test('after a conflict the missed events are folded, not read; when they are more than an error carries, they are read', async () => {
  for (const [more, pages] of [
    [5, 1],
    [999, 1],
    [1_500, 3],
  ] as const) {
    const { store } = open()
    let read = 0
    const counted = new Proxy(store, {
      get(target, name) {
        if (name === 'readPage') read++
        return (Reflect.get(target, name, target) as () => void).bind(target)
      },
    })
    const seen: number[] = []
    const query = { items: [{ tags: ['course:a'] }] }
    await decide(counted, query, { initial: 0, evolve: (n: number) => n + 1 }, async (n) => {
      seen.push(n)
      if (seen.length === 1)
        await store.append(
          'x',
          Array.from({ length: more }, () => defined('a', 1)),
        )
      return [defined('a', n)]
    })
    expect(seen).toEqual([0, more])
    expect(read).toBe(pages)
  }
})

test('more events than a page are all folded', async () => {
  const { store } = open()
  await store.append(
    'x',
    Array.from({ length: 2_000 }, () => defined('a', 1)),
  )
  const query = { items: [{ tags: ['course:a'] }] }
  const count = { initial: 0, evolve: (n: number) => n + 1 }
  await decide(store, query, count, (n) => defined(`${n}`, n))
  await decide(store, query, count, (n) => {
    expect(n).toBe(2_000)
  })
})

test('who decides on nothing writes nothing; what fn throws comes out as it is', async () => {
  const { store, uses } = open()
  const count = { initial: 0, evolve: (n: number) => n + 1 }
  const query = { items: [{ tags: ['t'] }] }
  const nothing = { stream: '', version: 0, position: 0, duplicate: false, events: [] }
  expect(await decide(store, query, count, () => [])).toEqual(nothing)
  const boom = new Error('boom')
  await expect(decide(store, query, count, () => Promise.reject(boom))).rejects.toBe(boom)
  expect(uses.appends).toBe(0)
  await expect(decide(store, query, count, () => [], { retries: -1 })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await expect(decide(store, undefined as never, count, () => [])).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await expect(decide(store, query, count, () => [], { signal: AbortSignal.abort(boom) })).rejects.toBe(boom)
})

test('it is decided again no more often than the retries allow', async () => {
  const { store } = open()
  let decided = 0
  const always = decide(
    store,
    { items: [{ types: ['Defined'] }] },
    { initial: 0, evolve: (n: number) => n + 1 },
    async () => {
      decided++
      await store.append('x', [defined('a', 1)])
      return defined('b', 1)
    },
    { retries: 2 },
  )
  await expect(always).rejects.toMatchObject({ code: 'VERSION_CONFLICT', stream: undefined })
  expect(decided).toBe(3)
})

test('a repeat with the same key decides nothing and gives the first outcome, at the same time too', async () => {
  const { store } = open()
  await store.append('course-a', [defined('a', 1)])
  const all = await Promise.all([1, 2, 3].map(() => subscribe(store, 'a', 's', { idempotencyKey: 'k' })))
  expect(all.filter((a) => !a.duplicate)).toHaveLength(1)
  expect(new Set(all.map((a) => a.position))).toEqual(new Set([2]))
  expect(await subscribe(store, 'a', 's', { idempotencyKey: 'k' })).toMatchObject({ duplicate: true, position: 2 })
  await store.appendAll([{ events: [defined('z', 1)] }, { events: [defined('z', 1)] }], { idempotencyKey: 'two' })
  await expect(subscribe(store, 'a', 's', { idempotencyKey: 'two' })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
})

test('who aborts leaves at once, and nothing is written', async () => {
  const store = new MemoryEventStore()
  const stop = new AbortController()
  const query = { items: [{ tags: ['a'] }] }
  let decided = (): void => {}
  const fn = (): Promise<Event> => new Promise((resolve) => (decided = () => resolve({ type: 'A', data: 1 })))
  const call = decide(store, query, { initial: 0, evolve: (n: number) => n }, fn, { signal: stop.signal })
  await settle()
  const reason = new Error('enough')
  stop.abort(reason)
  await expect(call).rejects.toBe(reason)
  decided()
  await settle()
  expect((await store.readPage()).head).toBe(0)
})
