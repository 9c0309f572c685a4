import { expect, onTestFinished, test } from 'vitest'
import {
  VersionConflictError,
  type AppendCondition,
  type Event,
  type EventStore,
  type Query,
  type Recorded,
} from '../../src/event-sourcing/index.js'
import { seededRandom } from '../../src/testing/index.js'

/** `advance` lets `ms` pass on the store's clock: moves a fake one, or really waits. `close` closes the store too. */
export interface EventStoreHarness {
  readonly store: EventStore
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

const e = (type: string, data: unknown = {}, more: Partial<Event> = {}): Event => ({ type, data, ...more })
const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
const types = (events: readonly Recorded[]): string[] => events.map((event) => event.type)
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const many = (n: number): Event[] => range(1, n).map((i) => e(`t${i}`))

/** @param gaps law → why this adapter can't keep it; such a test must fail. */
export function eventStoreContract(
  adapter: string,
  open: () => Promise<EventStoreHarness>,
  gaps: Record<string, string> = {},
): void {
  const law = (name: string, check: (h: EventStoreHarness) => Promise<void>): void =>
    (name in gaps ? test.fails : test)(`${adapter}: ${name}`, async () => {
      const harness = await open()
      onTestFinished(() => harness.close())
      await check(harness)
    })

  // ---- append and read

  law('events come back in the order they were appended, versions 1, 2, 3, …', async ({ store }) => {
    await store.append('s', [e('a'), e('b')])
    await store.append('s', [e('c')])
    const events = await all(store.read('s'))
    expect(types(events)).toEqual(['a', 'b', 'c'])
    expect(events.map((x) => x.version)).toEqual([1, 2, 3])
    expect(events.every((x) => x.streamId === 's')).toBe(true)
  })

  law('append gives the version and position of the last event, and the events as they are read later', async (h) => {
    const appended = await h.store.append('s', [e('a', { n: 1 }, { tags: ['x'] }), e('b')])
    const events = await all(h.store.read('s'))
    expect(appended).toEqual({ stream: 's', version: 2, position: events[1]?.position, duplicate: false, events })
  })

  law('what is no event, metadata, query or name of a stream is refused by name', async ({ store }) => {
    const no = null as never
    const refused: [string, () => Promise<unknown>][] = [
      ['event: ', () => store.append('s', [no])],
      ['event metadata: ', () => store.append('s', [e('a', 1, { metadata: [1] as never })])],
      ['metadata: ', () => store.append('s', [e('a')], { metadata: 'text' as never })],
      ['appends: ', () => store.appendAll([no])],
      ['query.items: ', () => store.readPage({ query: { items: [no] } })],
      ['query.items: ', () => store.readPage({ query: { items: ['a' as never] } })],
      ['stream: ', () => store.info('')],
      ['stream: ', () => all(store.read(5 as never))],
    ]
    for (const [name, ask] of refused) {
      const error = await ask().then(
        () => undefined,
        (thrown: Error) => thrown,
      )
      expect(error, name).toMatchObject({ code: 'INVALID_OPTION' })
      expect(error?.message.startsWith(name), error?.message).toBe(true)
    }
    expect(await all(store.readAll())).toEqual([])
  })

  law('an array of a class of its own is refused, as any instance of a class', async ({ store }) => {
    class List extends Array {}
    const refused = { code: 'INVALID_PAYLOAD' }
    await expect(store.append('s', [e('a', List.from([1]))])).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('a', { in: [List.from([1])] })])).rejects.toMatchObject(refused)
    expect(await store.info('s')).toBeUndefined()
  })

  law('an event without id, tags and metadata has a fresh id, no tags and empty metadata', async ({ store }) => {
    await store.append('s', [e('a'), e('b')])
    const [a, b] = await all(store.read('s'))
    expect(a?.id).toMatch(/^[0-9a-f-]{36}$/)
    expect(a?.id).not.toBe(b?.id)
    expect(a?.metadata).toEqual({})
    expect(a && 'tags' in a).toBe(false)
  })

  law('id, tags and metadata given are kept; those of the event win over those of the append', async ({ store }) => {
    await store.append(
      's',
      [e('a', 1, { id: 'mine', tags: ['t2', 't1', 't2'], metadata: { who: 'a', x: 1 } }), e('b')],
      {
        metadata: { who: 'all', correlationId: 'c' },
      },
    )
    const [a, b] = await all(store.read('s'))
    expect(a).toMatchObject({ id: 'mine', tags: ['t2', 't1', 't2'], metadata: { who: 'a', x: 1, correlationId: 'c' } })
    expect(b?.metadata).toEqual({ who: 'all', correlationId: 'c' })
  })

  law('what is read equals what was appended, types and all', async ({ store }) => {
    const values = [
      { date: new Date(0), map: new Map([[{ k: 1 }, new Set([1n])]]), big: 12345678901234567890n },
      { text: 'a\u0000b \ud800 "quoted" \\ \u2028 é 🚀', none: undefined, list: [undefined, NaN, -0, Infinity] },
      { b: 1, a: 2, 1: 3, long: 0.1234567890123456, tiny: 5e-324, nested: { $holdfast: ['Date', 0] } },
      { bytes: Buffer.from([0, 255]), view: new Uint8Array([1, 2]), url: new URL('http://x/?a=b'), re: /a/g },
      [1, [2, []], {}],
      null,
      undefined,
      'text',
      0,
    ]
    const metadata = { at: new Date(5), big: 1n, zero: '\u0000' }
    await store.append(
      's',
      values.map((data) => ({ type: 'v', data, metadata })),
    )
    const events = await all(store.read('s'))
    expect(events.map((event) => event.data)).toStrictEqual(values)
    expect(events.every((event) => (event.metadata['at'] as Date).getTime() === 5)).toBe(true)
    expect(events[0]?.metadata).toStrictEqual(metadata)
    expect(JSON.stringify(events[2]?.data)).toBe(JSON.stringify(values[2]))
  })

  law('an array, a string or nothing is a payload like any other', async ({ store }) => {
    for (const data of [[1, 2], 'x', null, 7, true, []]) await store.append('s', [e('v', data)])
    expect((await all(store.read('s'))).map((x) => x.data)).toEqual([[1, 2], 'x', null, 7, true, []])
  })

  law(
    'names are any strings: long, with quotes, NUL, half characters, of objects’ own properties',
    async ({ store }) => {
      const names = [
        '__proto__',
        'constructor',
        'a-b',
        'a\u0000',
        'a\\u0000',
        '\ud800',
        '\ufeffa',
        '\ud801',
        "'; drop",
        '%',
        '*',
        'é',
        '"',
      ]
      const random = seededRandom(1)
      const long = Array.from({ length: 1_000 }, () => random().toString(36).slice(2, 7)).join('') // no index can press it
      names.push(long, `${long}y`, 'é'.repeat(600), ' ', '\\x', '\n')
      for (const [i, name] of names.entries()) await store.append(name, [e(name, i, { id: name, tags: [name] })])
      for (const [i, name] of names.entries()) {
        expect(await all(store.read(name))).toMatchObject([
          { streamId: name, type: name, id: name, data: i, tags: [name] },
        ])
        const byTag = await store.readPage({ query: { items: [{ tags: [name] }] } })
        const byType = await store.readPage({ query: { items: [{ types: [name] }] } })
        expect([byTag.events, byType.events].map((found) => found.map((x) => x.data))).toEqual([[i], [i]])
      }
      expect((await store.readPage()).events.map((x) => x.streamId)).toEqual(names)
    },
  )

  law('a payload that can’t be kept as it is refuses the whole append, and only that', async ({ store }) => {
    class Point {
      readonly x = 1
    }
    const cyclic: { self?: unknown } = {}
    cyclic.self = cyclic
    for (const data of [new Point(), () => 1, { deep: [Symbol('x')] }, cyclic, { toJSON: () => 1 }]) {
      await expect(store.append('s', [e('a'), e('b', data)])).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
    }
    await expect(store.append('s', [e('a', 1, { metadata: { p: new Point() } })])).rejects.toMatchObject({
      code: 'INVALID_PAYLOAD',
    })
    expect(await store.info('s')).toBeUndefined()
    const others = await Promise.allSettled(
      range(1, 9).map((i) => store.append(`p${i}`, [e('a', i === 5 ? new Point() : i)])),
    )
    expect(others.map((o) => o.status)).toEqual(range(1, 9).map((i) => (i === 5 ? 'rejected' : 'fulfilled')))
  })

  law('neither the writer nor a reader can change what is recorded', async ({ store }) => {
    const data = { items: [1], when: new Date(0) }
    const plain = { items: [1] }
    const tags = ['t']
    await store.append('s', [e('a', data, { tags }), e('b', plain)])
    data.items.push(2)
    plain.items.push(2)
    data.when.setTime(9)
    tags.push('u')
    const spoil = (fn: () => void): void => {
      try {
        fn()
      } catch {
        // frozen: as good
      }
    }
    for (const event of (await all(store.read('s'))) as any[]) {
      spoil(() => event.data.items.push(3))
      spoil(() => event.data.when.setTime(3))
      spoil(() => event.recordedAt.setTime(3))
      spoil(() => (event.metadata.x = 1))
      spoil(() => event.tags.push('v'))
    }
    const [a, b] = await all(store.read('s'))
    expect(a).toMatchObject({ data: { items: [1], when: new Date(0) }, tags: ['t'], metadata: {} })
    expect(b?.data).toEqual({ items: [1] })
    expect(a?.recordedAt.getTime()).toBeGreaterThan(3)
  })

  law('an append of nothing, to no name, or with a mistake is refused', async ({ store }) => {
    const refused = { code: 'INVALID_OPTION' }
    await expect(store.append('s', [])).rejects.toMatchObject(refused)
    await expect(store.append('', [e('a')])).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('')])).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('a')], { expectedVersion: -1 })).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('a')], { expectedVersion: 1.5 })).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('a')], { expectedVersion: 'none' as never })).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('a')], { idempotencyKey: '' })).rejects.toMatchObject(refused)
    await expect(store.append('s', [e('a')], { tx: 7 })).rejects.toMatchObject(refused)
    await expect(store.appendAll([])).rejects.toMatchObject(refused)
    await expect(all(store.read('s', { limit: -1 }))).rejects.toMatchObject(refused)
    await expect(all(store.read('s', { asOf: new Date(NaN) }))).rejects.toMatchObject(refused)
    await expect(all(store.read('s', { direction: 'up' as never }))).rejects.toMatchObject(refused)
    await expect(store.readPage({ limit: 0 })).rejects.toMatchObject(refused)
    await expect(store.readPage({ query: { items: [{ types: [] }] } })).rejects.toMatchObject(refused)
    expect((await store.readPage()).head).toBe(0)
  })

  // ---- expectations

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

  // ---- several streams

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

  // ---- idempotency

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

  // ---- reading a stream

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

  // ---- reading the log

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

  // ---- conditions

  law('a condition lets an append pass only if nothing it picks came after', async ({ store }) => {
    const first = await store.append('a', [e('Opened', 1, { tags: ['account:1', 'owner:7'] })])
    await store.append('b', [e('Opened', 2, { tags: ['account:2'] })])
    const broken: [string, AppendCondition][] = [
      ['by tag', { query: { items: [{ tags: ['account:1'] }] } }],
      ['by all tags', { query: { items: [{ tags: ['owner:7', 'account:1'] }] } }],
      ['by type', { query: { items: [{ types: ['Opened'] }] }, after: first.position }],
      ['by both', { query: { items: [{ types: ['Closed', 'Opened'], tags: ['account:2'] }] }, after: first.position }],
      ['by one of several', { query: { items: [{ tags: ['none'] }, { tags: ['account:2'] }] } }],
    ]
    for (const [name, unless] of broken) {
      const error = await store.append('c', [e('x')], { unless }).catch((thrown: unknown) => thrown)
      expect(error, name).toBeInstanceOf(VersionConflictError)
      const { items } = unless.query
      expect(error, name).toMatchObject({ stream: undefined, expected: unless.after ?? 0, query: { items } })
      const { events } = await store.readPage(unless)
      expect((error as VersionConflictError).missed, name).toEqual(events)
      expect((error as VersionConflictError).actual, name).toBe(events.at(-1)?.position)
    }
    expect(await store.info('c')).toBeUndefined()
    const holding: AppendCondition[] = [
      { query: { items: [{ tags: ['account:1'] }] }, after: first.position },
      { query: { items: [{ tags: ['account:1', 'account:2'] }] } },
      { query: { items: [{ types: ['Closed'] }, { types: ['Opened'], tags: ['account:3'] }] } },
      { query: { items: [] } },
    ]
    for (const unless of holding) await store.append('c', [e('x')], { unless })
    expect(types(await all(store.read('c')))).toEqual(['x', 'x', 'x', 'x'])
  })

  law(
    'a condition goes with an expected version, a key and other streams: all hold or nothing is written',
    async (h) => {
      const { store } = h
      const taken = { query: { items: [{ tags: ['name:ada'] }] } }
      const claim = (stream: string, key?: string) =>
        store.appendAll(
          [
            { stream, events: [e('Claimed', 1, { tags: ['name:ada'] })], expectedVersion: 'no-stream', unless: taken },
            { stream: 'log', events: [e('Noted')] },
          ],
          { idempotencyKey: key },
        )
      await claim('u-1', 'k')
      await expect(claim('u-2')).rejects.toMatchObject({ code: 'VERSION_CONFLICT', stream: undefined })
      expect((await claim('u-1', 'k')).map((result) => result.duplicate)).toEqual([true, true])
      expect(await store.info('u-2')).toBeUndefined()
      expect(types(await all(store.readAll()))).toEqual(['Claimed', 'Noted'])
      await expect(claim('u-3', 'other')).rejects.toMatchObject({ code: 'VERSION_CONFLICT' })
      expect(await store.recall('other')).toBeUndefined() // the key is free again
    },
  )

  law('of appends under one condition at the same time exactly one is made, however it is put', async ({ store }) => {
    const queries: Query[] = [
      { items: [{ tags: ['seat:1', 'show:9'] }] },
      { items: [{ types: ['Booked'], tags: ['seat:2'] }, { tags: ['seat:none'] }] },
      { items: [{ types: ['Unique'] }] },
    ]
    const events = [
      e('Booked', 0, { tags: ['seat:1', 'show:9'] }),
      e('Booked', 0, { tags: ['show:9', 'seat:2'] }),
      e('Unique'),
    ]
    for (const [i, query] of queries.entries()) {
      const event = events[i] as Event
      const answers = await Promise.allSettled(
        range(1, 8).map(() => store.appendAll([{ events: [event], unless: { query } }])),
      )
      expect(answers.filter((answer) => answer.status === 'fulfilled')).toHaveLength(1)
      for (const answer of answers)
        if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'VERSION_CONFLICT' })
      expect((await store.readPage({ query })).events).toHaveLength(1)
    }
  })

  law('an append that names no stream gets one of its own, the same for a repeat', async ({ store }) => {
    const [one] = await store.appendAll([{ events: [e('a')] }], { idempotencyKey: 'k' })
    const [again] = await store.appendAll([{ events: [e('a')] }], { idempotencyKey: 'k' })
    const [two] = await store.appendAll([{ events: [e('a')] }])
    expect(one?.stream).toMatch(/^[0-9a-f-]{36}$/)
    expect(again).toEqual({ ...one, duplicate: true })
    expect(two?.stream).not.toBe(one?.stream)
  })

  law('a condition that is none is refused by name', async ({ store }) => {
    const append = (unless: unknown) => store.append('s', [e('a')], { unless: unless as never })
    await expect(append({})).rejects.toThrow(/^query: /)
    await expect(append({ query: { items: [] }, after: -1 })).rejects.toThrow(/^unless.after: /)
    await expect(append(5)).rejects.toThrow(/^unless: /)
    expect(await store.info('s')).toBeUndefined()
  })

  law('a position beyond the end of the log is not waited for', async ({ store }) => {
    const { position } = await store.append('s', [e('a')])
    await expect(store.readPage({ after: position + 1_000 })).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    expect(await store.readPage({ after: position })).toMatchObject({ events: [], next: position })
    const unless = { query: { items: [{ types: ['b'] }] }, after: position + 1_000 }
    await expect(store.append('s', [e('a')], { unless })).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    const decided = store.append('s', [e('a')], { unless: { ...unless, after: position } })
    expect(await decided).toMatchObject({ version: 2 })
  })

  law('appends wake those who asked, until they leave', async ({ store }) => {
    let woken = 0
    const leave = store.wake(() => woken++)
    await store.append('s', [e('a')])
    expect(woken).toBe(1)
    leave()
    await store.append('s', [e('a')])
    expect(woken).toBe(1)
  })

  // ---- the end of streams

  law(
    'truncate removes what is below a version, from the stream and from the log, and the version stays',
    async (h) => {
      const { store } = h
      await store.append('s', [e('a', 1, { tags: ['t'] }), e('b', 2, { tags: ['t'] }), e('c', 3, { tags: ['t'] })])
      await store.append('o', [e('o')])
      await store.truncate('s', 3)
      expect(types(await all(store.read('s')))).toEqual(['c'])
      expect(types(await all(store.readAll()))).toEqual(['c', 'o'])
      expect(types(await all(store.readAll({ query: { items: [{ tags: ['t'] }] } })))).toEqual(['c'])
      expect(await store.info('s')).toEqual({ version: 3, first: 3, state: 'live' })
      await store.truncate('s', 1)
      expect(await store.info('s')).toEqual({ version: 3, first: 3, state: 'live' })
      await store.truncate('s', 99)
      expect(await store.info('s')).toEqual({ version: 3, first: 4, state: 'live' })
      await expect(store.append('s', [e('x')], { expectedVersion: 'no-stream' })).rejects.toMatchObject({
        actual: 3,
        missed: [],
      })
      expect((await store.append('s', [e('d')], { expectedVersion: 3 })).version).toBe(4)
      expect(types(await all(store.read('s')))).toEqual(['d'])
    },
  )

  law('a repeat gives the first result also when its events were truncated', async ({ store }) => {
    const first = await store.append('s', [e('a'), e('b')], { idempotencyKey: 'k' })
    await store.truncate('s', 2)
    const again = await store.append('s', [e('x')], { idempotencyKey: 'k' })
    expect(again).toEqual({ ...first, duplicate: true, events: first.events.slice(1) })
  })

  law('an archived stream is read and takes no more events', async ({ store }) => {
    await store.append('s', [e('a')])
    await store.archive('s')
    await store.archive('s')
    expect(await store.info('s')).toEqual({ version: 1, first: 1, state: 'archived' })
    expect(types(await all(store.read('s')))).toEqual(['a'])
    const closed = { code: 'STREAM_CLOSED', stream: 's' }
    for (const expectedVersion of ['any', 'exists', 1] as const)
      await expect(store.append('s', [e('b')], { expectedVersion })).rejects.toMatchObject(closed)
    await expect(store.append('s', [e('b')], { expectedVersion: 7 })).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
    })
    const other = store.appendAll([
      { stream: 'a', events: [e('a')] },
      { stream: 's', events: [e('b')] },
    ])
    await expect(other).rejects.toMatchObject(closed)
    expect(types(await all(store.readAll()))).toEqual(['a'])
    await store.truncate('s', 2)
    expect(await store.info('s')).toEqual({ version: 1, first: 2, state: 'archived' })
  })

  law('a tombstoned stream has lost its events and its name', async ({ store }) => {
    await store.append('s', [e('a', 1, { tags: ['t'] })])
    await store.append('o', [e('o')])
    await store.tombstone('s')
    await store.tombstone('s')
    const gone = { code: 'TOMBSTONED', stream: 's' }
    await expect(all(store.read('s'))).rejects.toMatchObject(gone)
    for (const expectedVersion of ['any', 'no-stream', 'exists', 0, 1] as const)
      await expect(store.append('s', [e('b')], { expectedVersion })).rejects.toMatchObject(gone)
    await expect(store.truncate('s', 1)).rejects.toMatchObject(gone)
    await expect(store.archive('s')).rejects.toMatchObject(gone)
    expect(types(await all(store.readAll()))).toEqual(['o'])
    expect(await all(store.readAll({ query: { items: [{ tags: ['t'] }] } }))).toEqual([])
    expect(await store.info('s')).toEqual({ version: 1, first: 2, state: 'tombstoned' })
  })

  law('a name can be tombstoned before its first event', async ({ store }) => {
    await store.tombstone('s')
    await expect(store.append('s', [e('a')])).rejects.toMatchObject({ code: 'TOMBSTONED' })
    expect(await store.info('s')).toEqual({ version: 0, first: 1, state: 'tombstoned' })
  })

  law('an unknown stream can’t be truncated or archived', async ({ store }) => {
    await expect(store.truncate('s', 1)).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(store.archive('s')).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  // ---- signals and closing

  law('an aborted signal stops an append before it is made, and a reading where it stands', async ({ store }) => {
    await store.append('s', many(3))
    const reason = new Error('enough')
    const aborted = AbortSignal.abort(reason)
    await expect(store.append('s', [e('x')], { signal: aborted })).rejects.toBe(reason)
    await expect(all(store.read('s', { signal: aborted }))).rejects.toBe(reason)
    await expect(all(store.readAll({ signal: aborted }))).rejects.toBe(reason)
    expect((await store.info('s'))?.version).toBe(3)
    const controller = new AbortController()
    const seen: string[] = []
    const reading = (async () => {
      for await (const event of store.read('s', { signal: controller.signal })) {
        seen.push(event.type)
        controller.abort(reason)
      }
    })()
    await expect(reading).rejects.toBe(reason)
    expect(seen).toEqual(['t1'])
  })

  law('a closed store refuses every use', async ({ store }) => {
    await store.append('s', [e('a')])
    await store.close()
    const closed = { code: 'CLOSED' }
    await expect(store.append('s', [e('a')])).rejects.toMatchObject(closed)
    await expect(store.appendAll([{ stream: 's', events: [e('a')] }])).rejects.toMatchObject(closed)
    await expect(all(store.read('s'))).rejects.toMatchObject(closed)
    await expect(store.readPage()).rejects.toMatchObject(closed)
    await expect(all(store.readAll())).rejects.toMatchObject(closed)
    await expect(store.recall('k')).rejects.toMatchObject(closed)
    await expect(store.info('s')).rejects.toMatchObject(closed)
    await expect(store.truncate('s', 1)).rejects.toMatchObject(closed)
    await expect(store.archive('s')).rejects.toMatchObject(closed)
    await expect(store.tombstone('s')).rejects.toMatchObject(closed)
    expect(() => store.wake(() => {})).toThrow(expect.objectContaining(closed))
    await store.close()
  })
}
