import { jsonCodec } from '../kernel/codec.js'
import { CorruptDataError, isHoldfastError } from '../kernel/errors.js'
import { fromSqlText, toSqlText, type SqlRow, type SqlValues } from '../kernel/postgres.js'
import type { Event, Metadata, Recorded } from './event.js'
import type { AppendRequest, NewEvent } from './request.js'
import type { Appended, ExpectedVersion, Query } from './store.js'

/** The highest version a stream can have: PostgreSQL's `int`. */
export const LAST_VERSION = 2 ** 31 - 1

/** An event as `es_append` takes it. */
export interface EventTexts {
  readonly type: string
  readonly data: string
  readonly meta: string | null
  readonly tags: string | null
  readonly id: string
}

/** @throws InvalidPayloadError for what the codec can't keep. */
export const textsOf = ({ events }: AppendRequest): readonly EventTexts[] =>
  events.map(({ type, data, metadata, tags, id }) => ({
    type: toSqlText(type),
    data: jsonCodec.encode(data),
    meta: Object.keys(metadata).length > 0 ? jsonCodec.encode(metadata) : null,
    tags: tags.length > 0 ? JSON.stringify(tags.map(toSqlText)) : null,
    id: toSqlText(id),
  }))

/**
 * Parameters of `appendSql`, but for keys. Data and metadata as lines: JSON as it is made here has no end of line in it, and what an array's
 * text costs to escape and to read grows with its quotes. @param texts of each request */
export function appendParams(requests: readonly AppendRequest[], texts: readonly (readonly EventTexts[])[]): unknown[] {
  const events = texts.flatMap((list, of) => list.map((event, nth) => ({ event, of: of + 1, nth: nth + 1 })))
  return [
    requests.map(({ stream }) => toSqlText(stream)),
    requests.map(({ expected }) => expectedCode(expected)),
    requests.map((request) => request.events.length),
    events.map(({ of }) => of),
    events.map(({ nth }) => nth),
    events.map(({ event }) => event.type),
    events.map(({ event }) => event.data).join('\n'),
    events.some(({ event }) => event.meta !== null) ? events.map(({ event }) => event.meta ?? '').join('\n') : null,
    events.some(({ event }) => event.tags !== null) ? events.map(({ event }) => event.tags) : null,
    events.map(({ event }) => event.id),
  ]
}

/** Parameters of `es_append_one`, but for the key; `undefined` when it is not one event without tags. */
export function oneParams(
  { stream, expected }: AppendRequest,
  [text, ...more]: readonly EventTexts[],
): unknown[] | undefined {
  if (!text || text.tags !== null || more.length > 0) return undefined
  return [toSqlText(stream), expectedCode(expected), text.type, text.data, text.meta, text.id]
}

/** An idempotency key, or none, as a parameter. */
export const keyParam = (key: string | undefined): string | null => (key === undefined ? null : toSqlText(key))

/** Conditions as `es_append_if` takes them; `undefined` when there are none. */
export function conditionsParam(requests: readonly AppendRequest[]): string | undefined {
  if (!requests.some(({ unless }) => unless)) return undefined
  const conditions = requests.map(
    ({ unless }) =>
      unless && {
        after: unless.after,
        items: unless.query.items.map(({ types, tags }) => ({
          types: types?.map(toSqlText),
          tags: tags?.map(toSqlText),
        })),
      },
  )
  return JSON.stringify(conditions.map((condition) => condition ?? null))
}

const expectedCode = (expected: ExpectedVersion): number =>
  expected === 'any' ? -1 : expected === 'exists' ? -2 : expected === 'no-stream' ? 0 : Math.min(expected, LAST_VERSION)

/** What was appended, from the rows of `es_append`: one per event, in the order given. */
export function appendedOf<E extends Event>(
  requests: readonly AppendRequest[],
  rows: readonly SqlRow[],
): Appended<E>[] {
  let next = 0
  return requests.map(({ stream, events }) => {
    const recorded = events.map((event) => recordedOf<E>(stream, event, rows[next++] as SqlRow))
    const { version, position } = recorded.at(-1) as Recorded<E>
    return { stream, version, position, duplicate: false, events: recorded }
  })
}

function recordedOf<E extends Event>(
  streamId: string,
  { type, data, id, tags, metadata }: NewEvent,
  row: SqlRow,
): Recorded<E> {
  const event = {
    type,
    data,
    id,
    streamId,
    version: Number(row['version']),
    position: Number(row['pos']),
    recordedAt: new Date(Number(row['at'])),
    metadata,
  }
  return (tags.length > 0 ? { ...event, tags } : event) as unknown as Recorded<E>
}

/** An event read: values in the order of `EVENT_COLUMNS`, and its stream if that is not known. @throws CorruptDataError when its data can't be decoded: says which event. */
export function eventOf<E extends Event>(values: SqlValues, known?: string): Recorded<E> {
  const [pos, version, type, data, meta, tags, id, at, column] = values as EventColumns
  const stream = known ?? fromSqlText(column)
  const position = Number(pos)
  try {
    const event = {
      type: fromSqlText(type),
      data: jsonCodec.decode(data),
      id: fromSqlText(id),
      streamId: stream,
      version: Number(version),
      position,
      recordedAt: new Date(Number(at)),
      metadata: meta === null ? {} : (jsonCodec.decode(meta) as Metadata),
    }
    if (tags === null) return event as unknown as Recorded<E>
    return { ...event, tags: (JSON.parse(tags) as string[]).map(fromSqlText) } as unknown as Recorded<E>
  } catch (error) {
    if (!isHoldfastError(error, 'CORRUPT_DATA')) throw error
    throw new CorruptDataError(`event ${position} of stream ${stream}: ${error.message}`, { cause: error })
  }
}

type EventColumns = readonly [
  pos: string | number,
  version: string | number,
  type: string,
  data: string,
  meta: string | null,
  tags: string | null,
  id: string,
  at: string | number,
  stream: string,
]

/** Tags of an item of which PostgreSQL is to find the rarest: with many more it would think longer than it reads. */
const JOINED_TAGS = 4

/**
 * Positions above `$1`, up to `$2`, that `query` picks, as a condition on `e.pos`; its parameters are added to `params`.
 * Each item is ordered and cut at `$3`, so that a rare tag costs an index probe and not a reading of the log.
 */
export function queryCondition(s: string, query: Query, params: unknown[]): string {
  const param = (value: unknown): string => `$${params.push(value)}`
  // Types alone are looked at in one pass over the log: there is nothing to be looked up for each event.
  if (query.items.length > 0 && query.items.every(({ types, tags = [] }) => types && tags.length === 0))
    return `e.type = any(${param(query.items.flatMap(({ types = [] }) => types.map(toSqlText)))}::text[])`
  const items = query.items.map(({ types, tags }) => {
    const conditions = ['i.pos > $1', 'i.pos <= $2']
    if (types) conditions.push(`i.type = any(${param(types.map(toSqlText))}::text[])`)
    for (const tag of tags?.slice(0, JOINED_TAGS) ?? [])
      conditions.push(
        `i.pos in (select t.pos from ${s}.es_tags t where t.tag = ${s}.es_key(${param(toSqlText(tag))}) and t.pos > $1 and t.pos <= $2)`,
      )
    const more = tags?.slice(JOINED_TAGS) ?? []
    if (more.length > 0)
      conditions.push(
        `(select bool_and(exists (select from ${s}.es_tags o where o.tag = ${s}.es_key(n) and o.pos = i.pos)) from unnest(${param(more.map(toSqlText))}::text[]) n)`,
      )
    return `(select i.pos from ${s}.es_events i where ${conditions.join(' and ')} order by i.pos limit $3)`
  })
  return items.length > 0 ? `e.pos in (${items.join(' union ')})` : 'false'
}
