import { expect } from 'vitest'
import { all, e, many, types, type Law } from './bench.js'

/** How streams end, and stores. */
export function endLaws(law: Law): void {
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
