import { jsonCodec } from '../kernel/codec.js'
import { CorruptDataError } from '../kernel/errors.js'
import { nameOf, textOf } from '../kernel/redis-names.js'
import type { Delivery } from './backlog.js'
import type { RecordedFailure } from './dead-letters.js'
import type { StoredMessage } from './stored-message.js'

/** A delivery, and where it stands in Redis. */
export interface RedisDelivery extends Delivery {
  /** The entry of the group's stream. */
  readonly entry: string
  /** The entry of the log. */
  readonly place: string
  /** Whose it is: the consumer that took it. */
  readonly consumer: string
}

/** The reply of the script that hands out: entry, deliveries, entry of the log, key, record of the retries, fields of the message. */
export type DeliveryRow = readonly [string, number, string, string, string, MessageRow]
/** Its id, type, key, time, data; empty when it is no longer in the log. */
export type MessageRow = readonly string[]

/** The five fields of a message in the log; what `key` is there says whether it has one. */
export const messageFields = ({ id, type, key, occurredAt, text }: StoredMessage): readonly (string | number)[] => [
  nameOf(id),
  nameOf(type),
  keyName(key),
  occurredAt,
  text,
]

/** A key as it stands in Redis; empty for none. */
export const keyName = (key: string | undefined): string => (key === undefined ? '' : nameOf(key))

/** @throws CorruptDataError when the message is no longer there. */
export function readMessage([id, type, key, occurredAt, text]: MessageRow, place: string): StoredMessage {
  if (id === undefined || type === undefined || text === undefined)
    throw new CorruptDataError(`Redis: message ${place} is no longer in the log: somebody trimmed it`)
  const rest = { occurredAt: Number(occurredAt), text }
  return key
    ? { id: textOf(id), type: textOf(type), key: textOf(key), ...rest }
    : { id: textOf(id), type: textOf(type), ...rest }
}

/** @throws CorruptDataError when the message is no longer there. */
export function readDelivery(
  [entry, deliveries, place, , record, fields]: DeliveryRow,
  consumer: string,
): RedisDelivery {
  const message = readMessage(fields, place)
  const { first, previousMs } = (record === '' ? {} : jsonCodec.decode(record)) as Partial<RetryRecord>
  return { entry, place, consumer, message, attempts: deliveries - 1, firstError: first, previousMs }
}

/** What is remembered of a message that is to be tried again. */
interface RetryRecord {
  readonly first: RecordedFailure
  readonly previousMs: number
}

export const retryRecord = (first: RecordedFailure, previousMs: number): string =>
  jsonCodec.encode({ first, previousMs } satisfies RetryRecord)

/** What the server keeps of a group: its order, and its types. */
export function metaOf(order: 'key' | 'none', types: ReadonlySet<string> | undefined): string {
  return (order === 'key' ? 'k' : 'n') + (types ? JSON.stringify([...types].toSorted()) : '')
}
