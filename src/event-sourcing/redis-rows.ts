import { jsonCodec } from '../kernel/codec.js'
import { CorruptDataError, isHoldfastError } from '../kernel/errors.js'
import type { RedisArg } from '../kernel/redis.js'
import { nameOf, textOf } from '../kernel/redis-names.js'
import type { Event, Metadata, Recorded } from './event.js'
import type { AppendRequest, NewEvent } from './request.js'
import type { Appended, ExpectedVersion, Query } from './store.js'

/** An event as the script wants it: a JSON array that begins with the type. @throws InvalidPayloadError for what the codec can't keep. */
export function bodyOf({ type, id, data, tags, metadata }: NewEvent): string {
  const head = `[${JSON.stringify(type)},${JSON.stringify(id)},${jsonCodec.encode(data)}`
  const meta = Object.keys(metadata).length > 0 ? jsonCodec.encode(metadata) : 'null'
  if (tags.length > 0) return `${head},${meta},${JSON.stringify(tags)}]`
  return meta === 'null' ? `${head}]` : `${head},${meta}]`
}

/** What a call asks of `appendLua`. */
export interface AppendCall {
  readonly keys: readonly string[]
  readonly args: readonly RedisArg[]
  /** How many events, and about how many bytes. */
  readonly events: number
  readonly size: number
}

/** @param after of each request, the position up to which its condition is known to hold */
export function appendCall(
  prefix: string,
  requests: readonly AppendRequest[],
  bodies: readonly (readonly string[])[],
  after: readonly number[],
  idempotencyKey: string | undefined,
): AppendCall {
  const keys = requests.map(({ stream }) => `${prefix}s${nameOf(stream)}`)
  if (idempotencyKey !== undefined) keys.unshift(`${prefix}k${nameOf(idempotencyKey)}`)
  const args: RedisArg[] = ['']
  let events = 0
  let size = 0
  for (const [i, { expected, events: added, unless }] of requests.entries()) {
    const tagged = added.some(({ tags }) => tags.length > 0)
    args.push(`${expectedCode(expected)} ${added.length} ${tagged ? 1 : 0} ${unless ? 1 : 0}`)
    if (unless) args.push(after[i]!, ...queryArgs(prefix, unless.query))
    for (const [n, { tags }] of added.entries()) {
      const body = bodies[i]![n]!
      args.push(body)
      size += body.length
      if (!tagged) continue
      const distinct = new Set(tags)
      for (const tag of distinct) keys.push(tagKey(prefix, tag))
      args.push(distinct.size)
    }
    events += added.length
  }
  for (const { unless } of requests)
    for (const { tags = [] } of unless?.query.items ?? []) for (const tag of tags) keys.push(tagKey(prefix, tag))
  args[0] = `${idempotencyKey === undefined ? 0 : 1} ${keys.length} ${requests.length}`
  return { keys, args, events, size }
}

/** Key of a tag's positions. */
export const tagKey = (prefix: string, tag: string): string => `${prefix}t${nameOf(tag)}`

/** A query as the scripts want it. */
export function queryArgs(prefix: string, query: Query | undefined): RedisArg[] {
  if (!query) return [-1]
  return [
    query.items.length,
    ...query.items.flatMap(({ types = [], tags = [] }) => [
      types.length,
      ...types.map((type) => `[${JSON.stringify(type)},`),
      tags.length,
      ...tags.map((tag) => tagKey(prefix, tag)),
    ]),
  ]
}

const expectedCode = (expected: ExpectedVersion): number =>
  expected === 'any' ? -1 : expected === 'exists' ? -2 : expected === 'no-stream' ? 0 : expected

/** What was appended, from the script's numbers: version, position and time of each stream's last event. */
export function appendedOf<E extends Event>(
  requests: readonly AppendRequest[],
  numbers: readonly number[],
): Appended<E>[] {
  return requests.map(({ stream, events }, i) => {
    const [version, position, at] = numbers.slice(3 * i, 3 * i + 3) as [number, number, number]
    const recorded = events.map(({ type, data, id, tags, metadata }, n) => {
      const before = events.length - 1 - n
      return recordedOf<E>(stream, type, data, id, version - before, position - before, at, metadata, tags)
    })
    return { stream, version, position, duplicate: false, events: recorded }
  })
}

/** What a call with an idempotency key first came to: name, then how many events, version, position and time. */
export function firstResults(text: string): { stream: string; from: number; version: number; position: number }[] {
  return (JSON.parse(text) as [string, string][]).map(([name, numbers]) => {
    const [count = 0, version = 0, position = 0] = numbers.split(' ').map(Number)
    return { stream: textOf(name), from: version - count + 1, version, position }
  })
}

/** An event read. @throws CorruptDataError when it can't be decoded: says which. */
export function eventOf<E extends Event>(streamId: string, element: string): Recorded<E> {
  const first = element.indexOf(' ')
  const second = element.indexOf(' ', first + 1)
  const third = element.indexOf(' ', second + 1)
  const version = Number(element.slice(0, first))
  try {
    const array = jsonCodec.decode(element.slice(third + 1))
    const [type, id, data, metadata, tags = []] = array as [string, string, unknown, Metadata?, string[]?]
    const position = Number(element.slice(first + 1, second))
    const at = Number(element.slice(second + 1, third))
    return recordedOf(streamId, type, data, id, version, position, at, metadata ?? {}, tags)
  } catch (error) {
    if (!isHoldfastError(error, 'CORRUPT_DATA')) throw error
    const where = `event ${version} of stream ${JSON.stringify(streamId)}`
    throw new CorruptDataError(`${where}: ${error.message}`, { cause: error })
  }
}

/** Spelled out: a rest or a spread would cost more than all the rest. */
function recordedOf<E extends Event>(
  streamId: string,
  type: string,
  data: unknown,
  id: string,
  version: number,
  position: number,
  at: number,
  metadata: Metadata,
  tags: readonly string[],
): Recorded<E> {
  const event = { type, data, id, streamId, version, position, recordedAt: new Date(at), metadata }
  return (tags.length > 0 ? { ...event, tags } : event) as unknown as Recorded<E>
}
