import { expect, test } from 'vitest'
import {
  catalogued,
  decide,
  MemoryEventStore,
  MemorySubjectKeys,
  Repository,
  type Catalog,
  type Event,
  type Recorded,
  type StandardSchema,
} from '../../src/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { counting } from './counting-store.js'

eventStoreContract('memory behind a catalog', async () => {
  const clock = new ManualClock()
  const inner = new MemoryEventStore({ clock })
  const names = Array.from({ length: 26 }, (_, i) => [String.fromCodePoint(97 + i), `t${i}`]).flat()
  const catalog = Object.fromEntries(names.map((type) => [type, { revision: 2 }])) // so that all of them are stamped
  const store = catalogued(inner, catalog, { unknownTypes: 'pass', keys: new MemorySubjectKeys() })
  return { store, advance: (ms) => clock.advance(ms), close: () => store.close() }
})

const list = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

type Placed = Event<'Placed', { readonly cents: number; readonly note?: string }>

type Other = Event<'Other'>

/** Takes text for a number, as forms give it. */
const placed: StandardSchema<Placed['data']> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate(value) {
      const { cents, ...rest } = value as { cents: unknown }
      if (typeof cents !== 'string' && typeof cents !== 'number')
        return { issues: [{ message: 'expected a number', path: ['cents'] }] }
      return { value: { ...rest, cents: Number(cents) * (typeof cents === 'string' ? 100 : 1) } }
    },
  },
}

const wrong = (data: unknown): Placed => ({ type: 'Placed', data: data as Placed['data'] })

test('data is validated when it is appended, and what the schema gives back is stored', async () => {
  const inner = new MemoryEventStore<Placed>()
  const store = catalogued(inner, { Placed: { schema: placed } })
  const { events } = await store.append('a', [wrong({ cents: '5', note: 'x' })])
  expect(events[0]?.data).toEqual({ cents: 500, note: 'x' })
  expect((await list(inner.read('a')))[0]).toMatchObject({ data: { cents: 500 }, metadata: {} })
  const bad = [wrong({ cents: 1 }), wrong({ cents: null })]
  for (const refused of [
    store.append('a', bad),
    store.appendAll([
      { stream: 'b', events: [wrong({ cents: 1 })] },
      { stream: 'c', events: bad },
    ]),
  ]) {
    const error: unknown = await refused.catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'INVALID_PAYLOAD', issues: [{ path: ['cents'] }] })
    expect((error as Error).message).toBe('event "Placed" is not valid: cents: expected a number')
  }
  expect((await inner.readPage()).head).toBe(1)
})

test('what the caller changes after the call is not stored where the validator answers at once', async () => {
  const validate = (value: unknown) => ({ value })
  const schema = { '~standard': { version: 1, vendor: 'test', validate } } as StandardSchema<Placed['data']>
  const store = catalogued(new MemoryEventStore<Placed>(), { Placed: { schema } })
  const data = { cents: 1, note: 'as validated' }
  const call = store.append('a', [{ type: 'Placed', data }])
  data.note = 'changed'
  expect((await call).events[0]?.data).toEqual({ cents: 1, note: 'as validated' })
})

test('validators that take time, with a promise of any kind, and others stand side by side in one append', async () => {
  const slow = (answer: (value: unknown) => PromiseLike<unknown>): StandardSchema =>
    ({ '~standard': { version: 1, vendor: 'test', validate: answer } }) as StandardSchema
  // oxlint-disable-next-line unicorn/no-thenable -- what is tested
  const thenable = (value: unknown): PromiseLike<unknown> => ({ then: (then) => Promise.resolve({ value }).then(then) })
  const issues = [{ message: 'no' }]
  const inner = new MemoryEventStore()
  const store = catalogued(inner, {
    Placed: { schema: placed },
    Own: { schema: slow(thenable) },
    Slow: { schema: slow(async (value) => ({ value })) },
    Bad: { schema: slow(async () => ({ issues })) },
  })
  const of = (...types: string[]): Event[] => types.map((type) => ({ type, data: { cents: 1 }, tags: [type] }))
  const { events } = await store.append('a', of('Placed', 'Own', 'Slow', 'Placed'))
  expect(events.map(({ type, data, tags }) => ({ type, data, tags }))).toEqual(of('Placed', 'Own', 'Slow', 'Placed'))
  // Both fail, one of them at once: a rejection left alone would fail the run.
  await expect(store.append('a', of('Bad', 'Unknown'))).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
  await expect(store.append('a', of('Unknown', 'Bad'))).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
  await new Promise((resolve) => setImmediate(resolve))
  expect((await inner.readPage()).head).toBe(4)
})

test('a type that is not in the catalog is refused, or let through where that is asked for', async () => {
  const inner = new MemoryEventStore<Placed | Other>()
  const strict = catalogued(inner, { Placed: {} })
  const other: Other = { type: 'Other', data: 1 }
  await expect(strict.append('a', [other])).rejects.toThrow(/event "Other" is not in the catalog/)
  for (const type of ['constructor', '__proto__', 'toString'])
    await expect(strict.append('a', [{ type, data: 1 } as never])).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
  await catalogued(inner, {}, { unknownTypes: 'pass' }).append('a', [other])
  expect((await list(strict.read('a'))).map((e) => e.type)).toEqual(['Other'])
})

test('a mistake in an append is found as without a catalog', async () => {
  const store = catalogued(new MemoryEventStore(), {}, { unknownTypes: 'pass' })
  for (const events of [[], undefined, [null], [{ type: '' }], 'text'])
    await expect(store.append('a', events as never)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await expect(store.appendAll(undefined as never)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  const note = { metadata: { $catalog: { revision: 9 } } }
  await expect(store.append('a', [{ type: 'x', data: 1, ...note }])).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await expect(store.append('a', [{ type: 'x', data: 1 }], note)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
})

test('old data is brought up to date wherever it is read; readers do not see how', async () => {
  const inner = new MemoryEventStore()
  const old = catalogued(inner, { P: {}, Q: {} })
  await old.append('a', [{ type: 'P', data: { euro: 3 }, metadata: { correlationId: 'c' } }], { idempotencyKey: 'k' })
  const up = {
    1: (d: { euro: number }) => ({ cents: d.euro * 100 }),
    2: ({ cents }: { cents: number }, e: { version: number; metadata: object }) => ({
      price: { cents, v: e.version, m: e.metadata },
    }),
  }
  const store = catalogued(inner, { P: { revision: 3, up }, Q: {} })
  const today = { price: { cents: 300, v: 1, m: { correlationId: 'c' } } }
  const now = await store.append('a', [{ type: 'P', data: { price: 'new' }, metadata: { correlationId: 'd' } }])
  expect([now.events[0]?.data, now.events[0]?.metadata]).toEqual([{ price: 'new' }, { correlationId: 'd' }])
  const all = [today, { price: 'new' }]
  const seen: (readonly Recorded[])[] = [
    await list(store.read('a')),
    (await store.readPage()).events,
    await list(store.readAll()),
  ]
  for (const events of seen) {
    expect(events.map((e) => e.data)).toEqual(all)
    expect(events.map((e) => e.metadata)).toEqual([{ correlationId: 'c' }, { correlationId: 'd' }])
  }
  expect((await store.recall('k'))?.[0]?.events[0]?.data).toEqual(today)
  const conflict: unknown = await store
    .append('a', [{ type: 'Q', data: 1 }], { expectedVersion: 0 })
    .catch((e: unknown) => e)
  expect(conflict).toMatchObject({ code: 'VERSION_CONFLICT', stream: 'a', expected: 0, actual: 2 })
  expect((conflict as { missed: Recorded[] }).missed.map((e) => e.data)).toEqual(all)
  const unless = { query: { items: [{ types: ['P'] }] }, after: 1 }
  const broken: unknown = await store.append('b', [{ type: 'Q', data: 1 }], { unless }).catch((e: unknown) => e)
  expect(broken).toMatchObject({ stream: undefined, missed: [{ data: { price: 'new' } }], query: unless.query })
})

test('what can’t be brought up to date says which event it is', async () => {
  const inner = new MemoryEventStore()
  await catalogued(inner, { P: { revision: 2 } }).append('a', [{ type: 'P', data: 1 }])
  const boom = new Error('boom')
  const place = /event "P" \(version 1 of stream "a"\) /
  const read = (def: Catalog['P']) => list(catalogued(inner, { P: def }).read('a'))
  await expect(read({})).rejects.toThrow(/version 1 of stream "a"\) was written by revision 2 .* the catalog knows 1/)
  await expect(read({ revision: 3 })).rejects.toThrow(/no up\[2\]/)
  const failing = read({
    revision: 3,
    up: {
      2: () => {
        throw boom
      },
    },
  })
  await expect(failing).rejects.toMatchObject({ code: 'CORRUPT_DATA', cause: boom })
  await expect(failing).rejects.toThrow(place)
  await expect(read({ revision: 3, up: { 2: () => Promise.reject(boom) } })).rejects.toThrow('must not be async')
})

test('a note that the catalog can’t have written is not read, and says where it stands', async () => {
  const notes = [null, 'text', 7, [], new Map(), { revision: '2' }, { revision: 0 }, { revision: 1.5 }, { subject: 7 }]
  for (const $catalog of [...notes, { subject: 'x', fields: 'email' }, { subject: 'x', fields: [7] }]) {
    const inner = new MemoryEventStore()
    const { version } = await inner.append('a', [{ type: 'P', data: {}, metadata: { $catalog } }], {
      idempotencyKey: 'k',
    })
    for (const catalog of [{}, { P: { revision: 2, up: { 1: (d: object) => d } } }] as Catalog[]) {
      const store = catalogued(inner, catalog, { keys: new MemorySubjectKeys(), unknownTypes: 'pass' })
      const stale = store.append('a', [{ type: 'Q', data: 1 }], { expectedVersion: 0 })
      for (const read of [list(store.read('a')), store.readPage(), list(store.readAll()), store.recall('k'), stale]) {
        const error: unknown = await read.catch((e: unknown) => e)
        expect(error).toMatchObject({ code: 'CORRUPT_DATA' })
        expect((error as Error).message).toContain(`event "P" (version ${version} of stream "a"): $catalog`)
      }
    }
  }
})

test('encrypted fields, or an old shape, in data that is no object are corrupt data that says where it stands', async () => {
  for (const data of [null, undefined, 'text', 7, [], new Map(), new Date()]) {
    const inner = new MemoryEventStore()
    const note = { $catalog: { subject: 'ann', fields: ['email'] } }
    await inner.append('a', [{ type: 'P', data, metadata: note }])
    const keys = new MemorySubjectKeys()
    for (const there of [false, true]) {
      if (there) await keys.ensure('ann')
      const read = list(catalogued(inner, {}, { keys }).read('a'))
      await expect(read).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
      await expect(read).rejects.toThrow(/event "P" \(version 1 of stream "a"\) has encrypted fields, .* no object/)
    }
  }
  const inner = new MemoryEventStore()
  await inner.append('a', [{ type: 'P', data: null }])
  const up = { 1: (d: { name: { first: string } }) => d.name.first }
  const read = list(catalogued(inner, { P: { revision: 2, up } }).read('a'))
  await expect(read).rejects.toMatchObject({ code: 'CORRUPT_DATA', cause: expect.any(TypeError) as TypeError })
  await expect(read).rejects.toThrow(/event "P" \(version 1 of stream "a"\) can't be brought from revision 1/)
})

test('who aborts while data is validated leaves at once, and nothing is written', async () => {
  const inner = new MemoryEventStore<Other>()
  let done = (): void => {}
  const validate = (value: unknown) => new Promise((resolve) => (done = () => resolve({ value })))
  const schema = { '~standard': { version: 1, vendor: 'test', validate } } as StandardSchema
  const store = catalogued(inner, { Other: { schema } })
  const events: Other[] = [{ type: 'Other', data: 1 }]
  for (const append of [
    (signal: AbortSignal) => store.append('a', events, { signal }),
    (signal: AbortSignal) => store.appendAll([{ events }], { signal }),
  ]) {
    const stop = new AbortController()
    const call = append(stop.signal)
    const reason = new Error('enough')
    stop.abort(reason)
    await expect(call).rejects.toBe(reason)
    done()
  }
  expect((await inner.readPage()).head).toBe(0)
})

test('a wrong catalog is found at once', () => {
  const make = (def: unknown, options?: object) => () =>
    catalogued(new MemoryEventStore(), { P: def } as never, options as never)
  expect(make({ schema: {} })).toThrow(/catalog\["P"\].schema/)
  expect(make({ revision: 0 })).toThrow(/catalog\["P"\].revision/)
  expect(make({ revision: 2, up: { 2: () => {} } })).toThrow(/catalog\["P"\].up/)
  expect(make({ revision: 2, up: { 1: 'x' } })).toThrow(/catalog\["P"\].up\[1\]/)
  expect(make({ personal: { subject: () => 'x', fields: 'a' } })).toThrow(/personal.fields/)
  expect(make({ personal: { subject: () => 'x', fields: ['a'] } })).toThrow(/^keys: /)
  expect(make({}, { unknownTypes: 'maybe' })).toThrow(/unknownTypes/)
})

test('a repository on a catalog decides on what is stored, in a group too, and validates once', async () => {
  const { store: inner, uses } = counting(new MemoryEventStore<Placed>())
  const plusOne: StandardSchema<Placed['data']> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => {
        const { cents, note = '' } = value as Placed['data']
        return cents < 0 ? { issues: [{ message: 'too little' }] } : { value: { cents: cents + 1, note } }
      },
    },
  }
  const store = catalogued(inner, { Placed: { schema: plusOne, revision: 2, up: { 1: (d: object) => d } } })
  const sum = new Repository(
    store,
    {
      initial: () => 0,
      decide: (cents: number, state: number) => wrong({ cents, note: `${state}` }),
      evolve: (state: number, event: Placed) => state + event.data.cents,
    },
    { category: 'p' },
  )
  const outcomes = await Promise.allSettled([10, -5, 20, 30].map((cents) => sum.handle('1', cents)))
  expect(outcomes.map((o) => (o.status === 'fulfilled' ? o.value.state : (o.reason as { code: string }).code))).toEqual(
    [11, 'INVALID_PAYLOAD', 32, 63],
  )
  expect((await list(inner.read('p-1'))).map((e) => e.data.note)).toEqual(['0', '11', '32'])
  expect(uses.appends).toBe(1)
  const query = { items: [{ types: ['Placed'] }] }
  const total = { initial: 0, evolve: (s: number, e: Placed) => s + e.data.cents }
  const decided = await decide(store, query, total, (cents) => wrong({ cents }))
  expect(decided.events[0]?.data).toEqual({ cents: 64, note: '' })
  expect((await sum.load('1')).state).toBe(63)
})

test('a copy of a validated event with other data is validated', async () => {
  const store = catalogued(new MemoryEventStore<Placed>(), { Placed: { schema: placed } })
  const last = {
    initial: () => wrong(0),
    decide: (event: Placed) => event,
    evolve: (_: Placed, event: Placed) => event,
  }
  const lasts = new Repository(store, last, { category: 'p' })
  const outcomes = await Promise.allSettled([
    lasts.handle('1', wrong({ cents: 1 })),
    lasts.handle('1', (event) => ({ ...event, ...wrong({ cents: null }) })),
  ])
  expect(outcomes).toMatchObject([{ status: 'fulfilled' }, { reason: { code: 'INVALID_PAYLOAD' } }])
})
