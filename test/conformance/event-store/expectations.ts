import { expect } from 'vitest'
import type { Event, Recorded } from '../../../src/event-sourcing/index.js'
import { all, e, many, range, types, type Law } from './bench.js'

/** What must hold for an append to be made: versions, all of several streams, keys. */
export function expectationLaws(law: Law): void {
  law('each expectation holds on a stream that does not exist', async ({ store }) => {
    const ok = async (expectedVersion: any): Promise<boolean> =>
      store.append(`s${String(expectedVersion)}`, [e('a')], { expectedVersion }).then(
        () => true,
        (error) => {
          expect(error).toMatchObject({ code: 'VERSION_CONFLICT', expected: expectedVersion, actual: 0, missed: [] })
          return false
        },
      )
    expect(await ok('any')).toBe(true)
    expect(await ok('no-stream')).toBe(true)
    expect(await ok(0)).toBe(true)
    expect(await ok('exists')).toBe(false)
    expect(await ok(1)).toBe(false)
    expect(await ok(Number.MAX_SAFE_INTEGER)).toBe(false)
  })

  law('each expectation holds on a stream that exists', async ({ store }) => {
    await store.append('s', many(2))
    const conflict = { code: 'VERSION_CONFLICT', stream: 's', actual: 2 }
    await expect(store.append('s', [e('x')], { expectedVersion: 'no-stream' })).rejects.toMatchObject(conflict)
    await expect(store.append('s', [e('x')], { expectedVersion: 0 })).rejects.toMatchObject(conflict)
    await expect(store.append('s', [e('x')], { expectedVersion: 1 })).rejects.toMatchObject(conflict)
    await expect(store.append('s', [e('x')], { expectedVersion: 3 })).rejects.toMatchObject(conflict)
    expect(await store.info('s')).toEqual({ version: 2, first: 1, state: 'live' })
    expect((await store.append('s', [e('a')], { expectedVersion: 2 })).version).toBe(3)
    expect((await store.append('s', [e('b')], { expectedVersion: 'exists' })).version).toBe(4)
    expect((await store.append('s', [e('c')], { expectedVersion: 'any' })).version).toBe(5)
  })

  law('a version ahead of the stream is refused, so versions have no gaps', async ({ store }) => {
    await expect(store.append('s', [e('a')], { expectedVersion: 5 })).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
    })
    await store.append('s', [e('a')], { expectedVersion: 0 })
    await expect(store.append('s', [e('b')], { expectedVersion: 5 })).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
    })
    expect((await all(store.read('s'))).map((x) => x.version)).toEqual([1])
  })

  law('a conflict carries the events missed, and says what was expected', async ({ store }) => {
    await store.append('s', many(4))
    const missed = async (expectedVersion: number | 'no-stream'): Promise<unknown> =>
      store.append('s', [e('x')], { expectedVersion }).catch((error) => {
        expect(error).toMatchObject({ expected: expectedVersion, actual: 4 })
        return error.missed
      })
    const events = await all(store.read('s'))
    expect(await missed(2)).toEqual(events.slice(2))
    expect(await missed('no-stream')).toEqual(events)
    expect(await missed(9)).toEqual([])
  })

  law('a conflict about a long stream carries the first thousand events missed', async ({ store }) => {
    await store.append('s', many(1_100))
    const error = await store.append('s', [e('x')], { expectedVersion: 50 }).catch((thrown) => thrown)
    expect(error.missed.map((x: Recorded) => x.version)).toEqual(range(51, 1_050))
  })

  law('of appends at one version at the same time exactly one wins', async ({ store }) => {
    for (const expectedVersion of [0, 'no-stream'] as const) {
      const stream = `s${expectedVersion}`
      const tries = await Promise.allSettled(
        range(1, 20).map((i) => store.append(stream, [e(`w${i}`)], { expectedVersion })),
      )
      expect(tries.filter((t) => t.status === 'fulfilled')).toHaveLength(1)
      for (const t of tries) {
        if (t.status === 'rejected') expect(t.reason).toMatchObject({ code: 'VERSION_CONFLICT', actual: 1 })
      }
      expect(await all(store.read(stream))).toHaveLength(1)
    }
    const again = await Promise.allSettled(range(1, 20).map(() => store.append('s0', [e('a')], { expectedVersion: 1 })))
    expect(again.filter((t) => t.status === 'fulfilled')).toHaveLength(1)
  })

  law('appends to any version at the same time all succeed, one after the other', async ({ store }) => {
    await Promise.all(range(1, 40).map((i) => store.append('s', [e('a', i), e('b', i)])))
    const events = await all(store.read('s'))
    expect(events.map((x) => x.version)).toEqual(range(1, 80))
    for (let i = 0; i < 80; i += 2) expect(events[i]?.data).toBe(events[i + 1]?.data) // an append is not torn apart
    const positions = events.map((x) => x.position)
    expect(positions).toEqual(positions.toSorted((a, b) => a - b))
  })

  law('appendAll writes to all streams in the order given', async ({ store }) => {
    await store.append('z', [e('old')])
    const results = await store.appendAll([
      { stream: 'z', events: [e('z1'), e('z2')], expectedVersion: 1 },
      { stream: 'a', events: [e('a1')], expectedVersion: 'no-stream' },
    ])
    expect(results.map((r) => [r.stream, r.version, r.duplicate])).toEqual([
      ['z', 3, false],
      ['a', 1, false],
    ])
    expect(types(await all(store.readAll()))).toEqual(['old', 'z1', 'z2', 'a1'])
    expect(results.flatMap((r) => r.events)).toEqual((await all(store.readAll())).slice(1))
  })

  law('appendAll writes nothing anywhere when one stream is not as expected', async ({ store }) => {
    await store.append('b', [e('old')])
    const append = store.appendAll([
      { stream: 'c', events: [e('c')] },
      { stream: 'b', events: [e('b')], expectedVersion: 0 },
      { stream: 'a', events: [e('a')] },
    ])
    await expect(append).rejects.toMatchObject({ code: 'VERSION_CONFLICT', stream: 'b', actual: 1 })
    expect(types(await all(store.readAll()))).toEqual(['old'])
    expect(await store.info('a')).toBeUndefined()
    expect(await store.info('c')).toBeUndefined()
  })

  law('appendAll takes each stream once', async ({ store }) => {
    const twice = store.appendAll([
      { stream: 's', events: [e('a')] },
      { stream: 's', events: [e('b')] },
    ])
    await expect(twice).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    expect(await store.info('s')).toBeUndefined()
  })

  law('appendAll in opposite orders at the same time neither blocks nor tears', async ({ store }) => {
    const both = (i: number): { stream: string; events: Event[] }[] => {
      const appends = [
        { stream: 'a', events: [e('x', i)] },
        { stream: 'b', events: [e('x', i)] },
      ]
      return i % 2 === 0 ? appends : appends.toReversed()
    }
    await Promise.all(range(1, 20).map((i) => store.appendAll(both(i))))
    const [a, b] = [await all(store.read('a')), await all(store.read('b'))]
    expect(a.map((x) => x.data)).toEqual(b.map((x) => x.data))
    expect(a).toHaveLength(20)
  })

  law('a repeat with the same key records nothing and gives the first result', async ({ store }) => {
    const first = await store.append('s', [e('a'), e('b')], { idempotencyKey: 'k', expectedVersion: 0 })
    await store.append('s', [e('c')])
    const again = await store.append('s', [e('other')], { idempotencyKey: 'k', expectedVersion: 0 })
    expect(again).toEqual({ ...first, duplicate: true })
    expect(await store.recall('k')).toEqual([again])
    expect(await store.recall('unknown')).toBeUndefined()
    expect(types(await all(store.read('s')))).toEqual(['a', 'b', 'c'])
  })

  law('a repeat of appendAll gives every stream’s first result', async ({ store }) => {
    const appends = [
      { stream: 'b', events: [e('b')] },
      { stream: 'a', events: [e('a'), e('a2')] },
    ]
    const first = await store.appendAll(appends, { idempotencyKey: 'k\u0000' })
    const again = await store.appendAll(appends, { idempotencyKey: 'k\u0000' })
    expect(again).toEqual(first.map((r) => ({ ...r, duplicate: true })))
    await expect(store.append('b', [e('x')], { idempotencyKey: 'k\u0000' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
    expect(await all(store.readAll())).toHaveLength(3)
  })

  law('of calls with one key at the same time one records', async ({ store }) => {
    const tries = await Promise.all(
      range(1, 10).map((i) => store.append('s', [e('a', i)], { idempotencyKey: 'k', expectedVersion: 0 })),
    )
    expect(tries.filter((t) => !t.duplicate)).toHaveLength(1)
    expect(new Set(tries.map((t) => t.position)).size).toBe(1)
    expect(await all(store.read('s'))).toHaveLength(1)
  })

  law('a key whose append was refused is free again', async ({ store }) => {
    const options = { idempotencyKey: 'k', expectedVersion: 'exists' } as const
    await expect(store.append('s', [e('a')], options)).rejects.toMatchObject({ code: 'VERSION_CONFLICT' })
    const two = [
      { stream: 's', events: [e('a')], expectedVersion: 4 },
      { stream: 't', events: [e('a')] },
    ]
    await expect(store.appendAll(two, { idempotencyKey: 'k' })).rejects.toMatchObject({ code: 'VERSION_CONFLICT' })
    expect(await store.recall('k')).toBeUndefined()
    await store.append('s', [e('a')])
    expect((await store.append('s', [e('b')], options)).duplicate).toBe(false)
  })
}
