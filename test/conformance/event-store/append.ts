import { expect } from 'vitest'
import { seededRandom } from '../../../src/testing/index.js'
import { all, e, range, types, type Law } from './bench.js'

/** What is appended is what is read, and what is no event is refused. */
export function appendLaws(law: Law): void {
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
}
