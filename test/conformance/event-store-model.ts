import { expect } from 'vitest'
import type { EventStore, ExpectedVersion, Query, Recorded } from '../../src/event-sourcing/index.js'
import { fc } from '../support/prop.js'

/** What a store may be asked to do, with small numbers so that cases meet. */
export type Operation =
  | {
      kind: 'append'
      parts: { stream: string; count: number; expectedVersion: ExpectedVersion }[]
      key?: string
      unless?: { after: number; types?: string[]; tags?: string[] }
    }
  | { kind: 'read'; stream: string; from?: number; to?: number; asOf?: number; backward: boolean; limit?: number }
  | { kind: 'page'; limit: number; after: number; types?: string[]; tags?: string[] }
  | { kind: 'truncate'; stream: string; before: number }
  | { kind: 'archive' | 'tombstone'; stream: string }
  | { kind: 'advance'; ms: number }

const streams = fc.constantFrom('a', 'b', 'c')
const small = fc.nat({ max: 7 })
const expectations = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom<ExpectedVersion>('any', 'no-stream', 'exists') },
  { weight: 2, arbitrary: small },
)
const part = fc.record({ stream: streams, count: fc.integer({ min: 1, max: 3 }), expectedVersion: expectations })
const groups = fc.uniqueArray(part, { minLength: 1, maxLength: 3, selector: (p) => p.stream })
const some = <T>(...values: T[]): fc.Arbitrary<T[]> => fc.subarray(values, { minLength: 1 })

export const operations: fc.Arbitrary<Operation[]> = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record(
        { kind: fc.constant('append' as const), parts: groups, key: fc.constantFrom('k', 'l', 'm') },
        { requiredKeys: ['kind', 'parts'] },
      ),
    },
    {
      weight: 4,
      arbitrary: fc.record(
        {
          kind: fc.constant('read' as const),
          stream: streams,
          from: small,
          to: small,
          asOf: small,
          backward: fc.boolean(),
          limit: small,
        },
        { requiredKeys: ['kind', 'stream', 'backward'] },
      ),
    },
    {
      weight: 3,
      arbitrary: fc.record(
        {
          kind: fc.constant('page' as const),
          limit: fc.integer({ min: 1, max: 5 }),
          after: small,
          types: some('t0', 't1'),
          tags: some('x', 'y'),
        },
        { requiredKeys: ['kind', 'limit', 'after'] },
      ),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), stream: streams, before: small }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constantFrom('archive' as const, 'tombstone' as const), stream: streams }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 3 }) }) },
  ),
  { minLength: 1, maxLength: 30 },
)

interface Picks {
  types?: string[] | undefined
  tags?: string[] | undefined
}

/** Either: one of the types, all of the tags. */
function queryOf({ types, tags }: Picks): Query | undefined {
  return types || tags ? { items: [...(types ? [{ types }] : []), ...(tags ? [{ tags }] : [])] } : undefined
}

interface Row {
  readonly id: string
  readonly stream: string
  readonly version: number
  readonly type: string
  readonly tags: readonly string[]
  readonly data: number
}

/**
 * The textbook: one list of rows, in order, from which everything is found by looking through it. It knows nothing of
 * time and positions: it takes them from the store's answers, which it then has to agree with.
 */
class Model {
  rows: Row[] = []
  /** Of every event ever recorded, in order. */
  readonly places = new Map<string, { position: number; at: number }>()
  readonly versions = new Map<string, number>()
  readonly states = new Map<string, 'archived' | 'tombstoned'>()
  readonly keys = new Map<string, { streams: string[]; ids: string[][] }>()
  drawn = 0

  of(name: string): Row[] {
    return this.rows.filter((row) => row.stream === name)
  }

  /** Position of the `n`th event of those recorded, counted round; 0 for none. */
  positionAt(n: number): number {
    const places = [...this.places.values()]
    return n === 0 ? 0 : (places[(n - 1) % Math.max(1, places.length)]?.position ?? 0)
  }

  isPicked(row: Row, after: number, { types, tags }: Picks): boolean {
    const fits = (types?.includes(row.type) ?? false) || (tags?.every((tag) => row.tags.includes(tag)) ?? false)
    return fits && (this.places.get(row.id)?.position as number) > after
  }

  refusal(name: string, expected: ExpectedVersion): string | undefined {
    const version = this.versions.get(name) ?? 0
    if (this.states.get(name) === 'tombstoned') return 'TOMBSTONED'
    const fits =
      expected === 'any' ||
      (expected === 'exists' && version > 0) ||
      (expected === 'no-stream' && version === 0) ||
      expected === version
    if (!fits) return 'VERSION_CONFLICT'
    return this.states.get(name) === 'archived' ? 'STREAM_CLOSED' : undefined
  }
}

/** Runs `list` on the store and on the model and compares every answer. @param pass lets milliseconds pass on the store's clock */
export async function compareWithModel(
  store: EventStore,
  list: readonly Operation[],
  pass: (ms: number) => Promise<void>,
): Promise<void> {
  const model = new Model()
  for (const operation of list) await apply(store, model, operation, pass)
  const log = await collect(store.readAll())
  expect(log.map((x) => x.id)).toEqual(model.rows.map((x) => x.id))
}

async function apply(
  store: EventStore,
  model: Model,
  operation: Operation,
  pass: (ms: number) => Promise<void>,
): Promise<void> {
  switch (operation.kind) {
    case 'advance':
      return pass(operation.ms)
    case 'append':
      return append(store, model, operation)
    case 'read':
      return read(store, model, operation)
    case 'page':
      return page(store, model, operation)
    default:
      return end(store, model, operation)
  }
}

async function append(
  store: EventStore,
  model: Model,
  { parts, key, unless }: Operation & { kind: 'append' },
): Promise<void> {
  const events = parts.map(({ stream, count }) =>
    Array.from({ length: count }, (_, i) => {
      const n = model.drawn++
      const tags = n % 3 === 0 ? ['x'] : n % 3 === 1 ? ['x', 'y'] : []
      const version = (model.versions.get(stream) ?? 0) + i + 1
      return { id: `e${n}`, stream, version, type: `t${n % 2}`, tags, data: n }
    }),
  )
  const after = unless ? model.positionAt(unless.after) : 0
  const broken = unless ? model.rows.filter((row) => model.isPicked(row, after, unless)) : []
  const condition = unless && { after, query: queryOf(unless) ?? { items: [] } }
  const appends = parts.map(({ stream, expectedVersion }, i) => ({
    stream,
    expectedVersion,
    unless: i === 0 ? condition : undefined,
    events: (events[i] as Row[]).map(({ id, type, tags, data }) => ({ id, type, tags, data })),
  }))
  const answer = await outcome(store.appendAll(appends, key === undefined ? {} : { idempotencyKey: key }))
  const before = key === undefined ? undefined : model.keys.get(key)
  if (before) {
    if (before.streams.join() !== parts.map((p) => p.stream).join())
      return expect(answer).toMatchObject({ code: 'INVALID_OPTION' })
    const rest = before.ids.map((ids) => ids.filter((id) => model.rows.some((row) => row.id === id)))
    expect(answer).toMatchObject(
      before.ids.map((ids) => ({ duplicate: true, position: model.places.get(ids.at(-1) as string)?.position })),
    )
    return expect((answer as unknown as { events: Recorded[] }[]).map((a) => a.events.map((x) => x.id))).toEqual(rest)
  }
  const refusals = parts
    .map((p) => ({ stream: p.stream, code: model.refusal(p.stream, p.expectedVersion) }))
    .filter((r) => r.code)
  if (broken.length > 0 && (refusals.length === 0 || (answer as any).stream === undefined)) {
    expect(answer).toMatchObject({ code: 'VERSION_CONFLICT', stream: undefined, expected: after })
    return expect((answer as any).missed.map((x: Recorded) => x.id)).toEqual(broken.map((row) => row.id))
  }
  if (refusals.length > 0) {
    // Which of several refusals is told is the store's choice.
    expect(refusals).toContainEqual({ stream: (answer as any).stream, code: (answer as any).code })
    if ((answer as any).code === 'VERSION_CONFLICT') {
      const { stream, expected, actual, missed } = answer as any
      const from = expected === 'no-stream' ? 0 : expected === 'exists' ? Infinity : expected
      expect(actual).toBe(model.versions.get(stream) ?? 0)
      expect(missed.map((x: Recorded) => x.id)).toEqual(
        model
          .of(stream)
          .filter((row) => row.version > from)
          .map((row) => row.id),
      )
    }
    return
  }
  expect(answer).toMatchObject(
    parts.map(({ stream }, i) => ({ stream, duplicate: false, events: (events[i] as Row[]).map(asRead) })),
  )
  for (const [i, { events: recorded }] of (answer as unknown as { events: Recorded[] }[]).entries()) {
    model.versions.set(parts[i]?.stream as string, recorded.at(-1)?.version as number)
    for (const { id, position, recordedAt } of recorded) model.places.set(id, { position, at: recordedAt.getTime() })
  }
  model.rows.push(...events.flat())
  if (key !== undefined)
    model.keys.set(key, { streams: parts.map((p) => p.stream), ids: events.map((l) => l.map((x) => x.id)) })
  const positions = [...model.places.values()].map((place) => place.position)
  expect(positions).toEqual(positions.toSorted((a, b) => a - b))
}

async function read(store: EventStore, model: Model, operation: Operation & { kind: 'read' }): Promise<void> {
  const { stream, from, to, asOf, backward, limit } = operation
  const rows = model.of(stream)
  // The moment of some event of the stream, or one millisecond beside it.
  const times = rows.map((row) => model.places.get(row.id)?.at as number)
  const until =
    asOf === undefined || times.length === 0 ? undefined : (times[asOf % times.length] as number) + (asOf % 3) - 1
  const answer = await outcome(
    collect(
      store.read(stream, {
        fromVersion: from,
        toVersion: to,
        asOf: until === undefined ? undefined : new Date(until),
        direction: backward ? 'backward' : 'forward',
        limit,
      }),
    ),
  )
  if (model.states.get(stream) === 'tombstoned') return expect(answer).toMatchObject({ code: 'TOMBSTONED' })
  let expected = rows.filter(
    (row, i) =>
      row.version >= (from ?? 1) && row.version <= (to ?? Infinity) && (times[i] as number) <= (until ?? Infinity),
  )
  if (backward) expected = expected.toReversed()
  expect(answer).toMatchObject(expected.slice(0, limit ?? Infinity).map(asRead))
  expect(await store.info(stream)).toEqual(infoOf(model, stream))
}

function infoOf(model: Model, stream: string): unknown {
  const version = model.versions.get(stream)
  const state = model.states.get(stream) ?? 'live'
  if (version === undefined && state === 'live') return undefined
  return { version: version ?? 0, first: model.of(stream)[0]?.version ?? (version ?? 0) + 1, state }
}

async function page(
  store: EventStore,
  model: Model,
  { limit, after, types, tags }: Operation & { kind: 'page' },
): Promise<void> {
  const places = [...model.places.values()]
  const start = model.positionAt(after)
  const query = queryOf({ types, tags })
  const expected = model.rows.filter((row) =>
    query ? model.isPicked(row, start, { types, tags }) : (model.places.get(row.id)?.position as number) > start,
  )
  const answer = await store.readPage({ after: start, limit, query })
  expect(answer.events.map((x) => x.id)).toEqual(expected.slice(0, limit).map((row) => row.id))
  expect(answer.head).toBe(places.at(-1)?.position ?? 0)
  expect(answer.next).toBe(answer.events.length === limit ? answer.events.at(-1)?.position : answer.head)
}

async function end(
  store: EventStore,
  model: Model,
  operation: Operation & { kind: 'truncate' | 'archive' | 'tombstone' },
): Promise<void> {
  const { kind, stream } = operation
  const answer = await outcome(kind === 'truncate' ? store.truncate(stream, operation.before) : store[kind](stream))
  if (kind !== 'tombstone') {
    if (model.states.get(stream) === 'tombstoned') return expect(answer).toMatchObject({ code: 'TOMBSTONED' })
    if (!model.versions.has(stream)) return expect(answer).toMatchObject({ code: 'NOT_FOUND' })
  }
  expect(answer).toBeUndefined()
  const below = kind === 'truncate' ? operation.before : kind === 'tombstone' ? Infinity : 0
  model.rows = model.rows.filter((row) => row.stream !== stream || row.version >= below)
  if (kind !== 'truncate') model.states.set(stream, kind === 'archive' ? 'archived' : 'tombstoned')
  expect(await store.info(stream)).toEqual(infoOf(model, stream))
}

/** The part of an event that the model knows. */
const asRead = ({ stream: streamId, tags, ...row }: Row): object =>
  tags.length > 0 ? { ...row, streamId, tags } : { ...row, streamId }

const outcome = <T>(promise: Promise<T>): Promise<T | Error> => promise.catch((error: Error) => error)

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
