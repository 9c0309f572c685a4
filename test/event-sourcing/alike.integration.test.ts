import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, describe, expect, inject, test } from 'vitest'
import {
  catalogued,
  MemoryEventStore,
  Repository,
  type Event,
  type EventStore,
} from '../../src/event-sourcing/index.js'
import { RedisEventStore } from '../../src/event-sourcing/redis.js'
import { begin, list, openPool, openStore } from './database.js'

// What one store refuses, and why, all refuse alike: beside the contract, in the corners where they once did not.

const pool = openPool()
const redis = new Redis(inject('redisUrl'))
afterAll(() => redis.disconnect())

const stores: Record<string, () => Promise<EventStore>> = {
  memory: async () => new MemoryEventStore(),
  'memory, behind a catalog': async () => catalogued(new MemoryEventStore(), {}, { unknownTypes: 'pass' }),
  Redis: async () => new RedisEventStore(redis, { namespace: randomUUID() }),
  PostgreSQL: async () => (await openStore(pool)).store,
}

const e = (type: string, more: object = {}): Event => ({ type, data: 1, ...more })
const broken = { query: { items: [{ types: ['a'] }] } }
const beyond = { ...broken, after: 99 }

describe.each(Object.entries(stores))('%s', (_, open) => {
  test('metadata of which nothing would be left is refused', async () => {
    const store = await open()
    const none = [new Date(5), new Map([[1, 2]]), new Error('x'), Object(1), Promise.resolve(), { [Symbol('s')]: 1 }]
    for (const metadata of none as never[]) {
      // oxlint-disable no-await-in-loop -- one after the other
      const own = store.append('s', [e('a', { metadata })])
      await expect(own).rejects.toMatchObject({ code: 'INVALID_OPTION', message: /^event metadata: / })
      const whole = store.append('s', [e('a')], { metadata })
      await expect(whole).rejects.toMatchObject({ code: 'INVALID_OPTION', message: /^metadata: / })
      // oxlint-enable no-await-in-loop
    }
    const bare = Object.assign(Object.create(null) as object, { by: 'x' })
    await store.append('s', [e('a', { metadata: bare })], { metadata: { at: 1 } })
    expect((await list(store.read('s'))).map(({ metadata }) => metadata)).toEqual([{ at: 1, by: 'x' }])
  })

  test('commands in one group are refused such metadata too', async () => {
    const store = await open()
    const repository = new Repository(
      store,
      { initial: () => 0, decide: (c: Event) => c, evolve: (n) => n + 1 },
      { category: 'c' },
    )
    const bad = { type: 'a', data: 1, metadata: new Date(5) as never }
    const outcomes = await Promise.allSettled([
      repository.handle('1', bad, { metadata: { by: 'x' } }),
      repository.handle('1', e('b'), { metadata: { by: 'x' } }),
    ])
    expect(outcomes).toMatchObject([{ reason: { code: 'INVALID_OPTION' } }, { value: { version: 1 } }])
  })

  test('a payload that can’t be kept is refused by its place, and so is one that can’t be looked at', async () => {
    const store = await open()
    const cyclic: { self?: unknown } = {}
    cyclic.self = cyclic
    const data = store.append('s', [{ type: 'a', data: cyclic }])
    await expect(data).rejects.toMatchObject({ code: 'INVALID_PAYLOAD', message: /at self / })
    const metadata = store.append('s', [e('a', { metadata: { f: () => 1 } })])
    await expect(metadata).rejects.toMatchObject({ code: 'INVALID_PAYLOAD', message: /at f / })
    const thrower = {
      get a(): never {
        throw new Error('boom')
      },
    }
    const thrown = store.append('s', [{ type: 'a', data: thrower }])
    await expect(thrown).rejects.toMatchObject({ code: 'INVALID_PAYLOAD', message: /boom/ })
    expect(await store.info('s')).toBeUndefined()
  })

  test('what stands in the way of a stream is told before a condition that does not hold', async () => {
    const store = await open()
    await store.append('other', [e('a')])
    for (const stream of ['live', 'archived', 'tombstoned']) await store.append(stream, [e('x'), e('y')]) // oxlint-disable-line no-await-in-loop
    await store.archive('archived')
    await store.tombstone('tombstoned')
    for (const unless of [broken, beyond]) {
      // oxlint-disable no-await-in-loop -- one after the other
      const refused = (stream: string, expectedVersion?: number | 'exists') =>
        expect(store.append(stream, [e('n')], { unless, expectedVersion })).rejects
      await refused('live', 1).toMatchObject({
        code: 'VERSION_CONFLICT',
        stream: 'live',
        actual: 2,
        missed: [{ type: 'y' }],
      })
      await refused('none', 'exists').toMatchObject({ code: 'VERSION_CONFLICT', stream: 'none', actual: 0, missed: [] })
      await refused('archived').toMatchObject({ code: 'STREAM_CLOSED' })
      await refused('archived', 1).toMatchObject({ code: 'VERSION_CONFLICT', stream: 'archived', actual: 2 })
      await refused('tombstoned', 1).toMatchObject({ code: 'TOMBSTONED' })
      const both = store.appendAll([
        { events: [e('n')], unless },
        { stream: 'archived', events: [e('n')] },
      ])
      await expect(both).rejects.toMatchObject({ code: 'STREAM_CLOSED' })
      // oxlint-enable no-await-in-loop
    }
    const conflict = store.append('live', [e('n')], { unless: broken, expectedVersion: 2 })
    await expect(conflict).rejects.toMatchObject({
      code: 'VERSION_CONFLICT',
      stream: undefined,
      expected: 0,
      actual: 1,
    })
    await expect(store.append('live', [e('n')], { unless: beyond })).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
  })

  test('a key first used for several streams is no repeat of a command on one of them', async () => {
    const store = await open()
    const repository = new Repository(
      store,
      { initial: () => 0, decide: (c: Event) => c, evolve: (n) => n + 1 },
      { category: 'c' },
    )
    await store.appendAll(
      [
        { stream: 'c-1', events: [e('a')] },
        { stream: 'c-2', events: [e('a')] },
      ],
      { idempotencyKey: 'k' },
    )
    for (const id of ['1', '2', '3']) {
      const again = repository.handle(id, e('b'), { idempotencyKey: 'k' })
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await expect(again).rejects.toMatchObject({ code: 'INVALID_OPTION', message: /^idempotencyKey: .* got "k"$/ })
    }
  })
})

test('PostgreSQL: a page that begins where the log is not settled yet does not call that its head', async () => {
  const { store } = await openStore(pool)
  await store.append('s', [e('a')])
  const tx = await begin(pool)
  await store.append('slow', [e('a')], { tx })
  const { position } = await store.append('s', [e('a')])
  const page = await store.readPage({ after: position })
  expect([page.next, page.head]).toEqual([position, 1])
  await tx.query('commit')
  expect((await store.readPage({ after: page.head })).events.map((event) => event.streamId)).toEqual(['slow', 's'])
})
