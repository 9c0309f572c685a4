import { expect } from 'vitest'
import { all, e, many, range, types, type Law } from './bench.js'

/** How streams and the log are read. */
export function readLaws(law: Law): void {
  law(
    'bounds of a reading are inclusive, in both directions, and limit counts from where it starts',
    async ({ store }) => {
      await store.append('s', many(6))
      const versions = async (options: object): Promise<number[]> =>
        (await all(store.read('s', options))).map((x) => x.version)
      expect(await versions({ fromVersion: 2, toVersion: 4 })).toEqual([2, 3, 4])
      expect(await versions({ fromVersion: 2, toVersion: 4, direction: 'backward' })).toEqual([4, 3, 2])
      expect(await versions({ limit: 2 })).toEqual([1, 2])
      expect(await versions({ limit: 2, direction: 'backward' })).toEqual([6, 5])
      expect(await versions({ fromVersion: 5, toVersion: 99 })).toEqual([5, 6])
      expect(await versions({ fromVersion: 5, toVersion: 4 })).toEqual([])
      expect(await versions({ toVersion: 0 })).toEqual([])
      expect(await versions({ limit: 0 })).toEqual([])
      expect(await versions({ fromVersion: Number.MAX_SAFE_INTEGER })).toEqual([])
    },
  )

  law('a long stream is read whole, in both directions', async ({ store }) => {
    await store.append('s', many(4_500))
    expect((await all(store.read('s'))).map((x) => x.version)).toEqual(range(1, 4_500))
    expect((await all(store.read('s', { direction: 'backward' }))).map((x) => x.version)).toEqual(
      range(1, 4_500).toReversed(),
    )
    expect(await all(store.read('s', { limit: 2_000 }))).toHaveLength(2_000)
    expect((await all(store.read('s', { limit: 2_001, direction: 'backward' }))).at(-1)?.version).toBe(2_500)
  })

  law('an unknown stream has no events and no information', async ({ store }) => {
    expect(await all(store.read('nobody'))).toEqual([])
    expect(await store.info('nobody')).toBeUndefined()
  })

  law(
    'time travel is exact at its boundaries, and recordedAt never decreases in a stream',
    async ({ store, advance }) => {
      for (let i = 0; i < 4; i++) {
        await store.append('s', [e(`t${i}`)])
        await advance(3)
      }
      const events = await all(store.read('s'))
      const times = events.map((x) => x.recordedAt.getTime())
      expect(new Set(times).size).toBe(4)
      expect(times).toEqual(times.toSorted((a, b) => a - b))
      for (const [i, time] of times.entries()) {
        expect(types(await all(store.read('s', { asOf: new Date(time) })))).toEqual(types(events.slice(0, i + 1)))
        expect(types(await all(store.read('s', { asOf: new Date(time - 1) })))).toEqual(types(events.slice(0, i)))
      }
      const backward = await all(
        store.read('s', { asOf: new Date(times[2] as number), direction: 'backward', limit: 2 }),
      )
      expect(types(backward)).toEqual(['t2', 't1'])
      for (const edge of [-8.64e15, 0]) expect(await all(store.read('s', { asOf: new Date(edge) }))).toEqual([])
      expect(await all(store.read('s', { asOf: new Date(8.64e15) }))).toHaveLength(4)
    },
  )

  law('pages lead through the whole log without a gap or a repeat', async ({ store }) => {
    for (let i = 0; i < 5; i++) await store.append(`s${i % 2}`, [e('a', 2 * i), e('b', 2 * i + 1)])
    const seen: unknown[] = []
    let after = 0
    for (;;) {
      const page = await store.readPage({ after, limit: 3 })
      expect(page.events.length).toBeLessThanOrEqual(3)
      expect(page.next).toBeGreaterThanOrEqual(after)
      expect(page.head).toBeGreaterThanOrEqual(page.next)
      if (page.next === after) break
      seen.push(...page.events.map((x) => x.data))
      after = page.next
    }
    expect(seen).toEqual(range(0, 9))
    expect((await all(store.readAll())).map((x) => x.data)).toEqual(range(0, 9))
    expect((await all(store.readAll({ limit: 4 }))).map((x) => x.data)).toEqual(range(0, 3))
    expect(await all(store.readAll({ limit: 0 }))).toEqual([])
  })

  law('more events than a page are read to the head', async ({ store }) => {
    await store.append('s', many(2_300))
    await store.append('t', [e('last')])
    expect((await all(store.readAll())).map((x) => x.type)).toEqual([...types(many(2_300) as never), 'last'])
  })

  law('a query picks by any type and all tags, items by or', async ({ store }) => {
    await store.append('s', [
      e('a', 1, { tags: ['x', 'y'] }),
      e('b', 2, { tags: ['x'] }),
      e('a', 3),
      e('c', 4, { tags: ['y'] }),
      e('c', 5, { tags: ['x', 'y', 'z'] }),
    ])
    const find = async (...items: { types?: string[]; tags?: string[] }[]): Promise<unknown[]> =>
      (await all(store.readAll({ query: { items } }))).map((x) => x.data)
    expect(await find({ types: ['a'] })).toEqual([1, 3])
    expect(await find({ types: ['a', 'b'] })).toEqual([1, 2, 3])
    expect(await find({ tags: ['x'] })).toEqual([1, 2, 5])
    expect(await find({ tags: ['y', 'x'] })).toEqual([1, 5])
    expect(await find({ types: ['c'], tags: ['x', 'y'] })).toEqual([5])
    expect(await find({ types: ['b'] }, { tags: ['y'] })).toEqual([1, 2, 4, 5])
    expect(await find({ tags: ['y'] }, { tags: ['x'] })).toEqual([1, 2, 4, 5])
    expect(await find({})).toEqual([1, 2, 3, 4, 5])
    expect(await find({ types: ['nothing'] })).toEqual([])
    expect(await find()).toEqual([])
  })

  law(
    'a page whose query matches nothing moves on to the head, a full one only to its last event',
    async ({ store }) => {
      await store.append('s', [e('a'), e('b'), e('a'), e('b')])
      const none = await store.readPage({ query: { items: [{ types: ['z'] }] } })
      expect(none.events).toEqual([])
      expect(none.next).toBe(none.head)
      const { events, next } = await store.readPage({ query: { items: [{ types: ['a'] }] }, limit: 1 })
      expect(events).toHaveLength(1)
      expect(next).toBe(events[0]?.position)
      const rest = await store.readPage({
        after: next,
        query: { items: [{ types: ['a'] }, { types: ['a'] }] },
        limit: 2,
      })
      expect(rest.events).toHaveLength(1)
      expect(rest.next).toBe(rest.head)
    },
  )

  law('appends wake those who asked, until they leave', async ({ store }) => {
    let woken = 0
    const leave = store.wake(() => woken++)
    await store.append('s', [e('a')])
    expect(woken).toBe(1)
    leave()
    await store.append('s', [e('a')])
    expect(woken).toBe(1)
  })
}
