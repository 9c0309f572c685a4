import { expect } from 'vitest'
import {
  VersionConflictError,
  type AppendCondition,
  type Event,
  type Query,
} from '../../../src/event-sourcing/index.js'
import { all, e, range, types, type Law } from './bench.js'

/** Conditions on the whole log. */
export function conditionLaws(law: Law): void {
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
}
