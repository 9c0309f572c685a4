import { checkObject, checkString, invalid } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import { randomId } from '../kernel/random.js'
import { checkSchema, type StandardSchema } from '../kernel/schema.js'

/**
 * What stands beside the data: names and values are strings. `traceparent` and `tracestate` (W3C Trace Context),
 * `correlationId` and `causationId` have a fixed meaning, see {@link causedBy}; every header reaches the handler unchanged.
 */
export type MessageHeaders = Readonly<Record<string, string>>

/** A message as a handler gets it: a copy of its own, at each delivery. */
export interface Message<Type extends string = string, Data = unknown> {
  /** The same at every delivery, and when a publisher sends the message again: what an inbox tells duplicates by. */
  readonly id: string
  /** What happened; subscriptions choose by it. */
  readonly type: Type
  /** Messages with the same key keep their order where `order: 'key'` is set. Without one, a message is in no order. */
  readonly key?: string | undefined
  /** What the publisher gave, as the codec brings it back: JSON, and `Date`, `Map`, `bigint`, … as themselves. */
  readonly data: Data
  /** Empty when the publisher gave none. */
  readonly headers: MessageHeaders
  /** When it happened, by the publisher's clock. */
  readonly occurredAt: Date
}

/** A message as a publisher gives it. A {@link Message} is one too. */
export interface OutgoingMessage<Type extends string = string, Data = unknown> {
  /** Any string that is not empty. Give one to publish the same message twice. @defaultValue a random UUID */
  readonly id?: string | undefined
  /** What happened. Not empty. */
  readonly type: Type
  /** Usually the id of the thing the message speaks of. @defaultValue none: in no order */
  readonly key?: string | undefined
  /** Anything the codec keeps: plain data, `Date`, `Map`, `Set`, `bigint`, `Buffer`, typed arrays; no class instances. */
  readonly data: Data
  /** @defaultValue none */
  readonly headers?: MessageHeaders | undefined
  /** @defaultValue now */
  readonly occurredAt?: Date | undefined
}

/** The messages of a map type → data, as handlers get them: `switch (message.type)` narrows `message.data`. */
export type MessageOf<Messages extends object, Type extends keyof Messages & string = keyof Messages & string> = {
  [T in Type]: Message<T, Messages[T]>
}[Type]

/** The messages of a map type → data, as publishers give them. */
export type OutgoingMessageOf<Messages extends object> = {
  [T in keyof Messages & string]: OutgoingMessage<T, Messages[T]>
}[keyof Messages & string]

/**
 * The message with its id and time filled in. Data, headers and date are still the publisher's own objects.
 * @throws InvalidOptionError when a part has the wrong type.
 * @internal
 */
export function completeMessage(message: OutgoingMessage, clock: Clock): Message {
  checkObject('message', message)
  const { id = randomId(), type, key, data, headers = {}, occurredAt = new Date(clock.epochMs()) } = message
  checkString('message.id', id)
  checkString('message.type', type)
  if (key !== undefined) checkString('message.key', key, 0)
  const prototype: unknown = Object.getPrototypeOf(checkObject('message.headers', headers))
  if (prototype !== Object.prototype && prototype !== null)
    invalid('message.headers', 'a plain object of strings', headers) // a Map or Headers would arrive empty
  for (const [name, value] of Object.entries(headers)) checkString(`message.headers[${JSON.stringify(name)}]`, value, 0)
  if (!(occurredAt instanceof Date) || Number.isNaN(occurredAt.getTime()))
    invalid('message.occurredAt', 'a valid Date', occurredAt)
  return { id, type, ...(key === undefined ? {} : { key }), data, headers, occurredAt }
}

/** The validators by type. @throws InvalidOptionError when one is no Standard Schema. @internal */
export function schemasByType(
  schema: Readonly<Record<string, StandardSchema | undefined>>,
): Map<string, StandardSchema> {
  const schemas = new Map<string, StandardSchema>()
  for (const [type, one] of Object.entries(checkObject('schema', schema)))
    if (one !== undefined) schemas.set(type, checkSchema(`schema[${JSON.stringify(type)}]`, one))
  return schemas
}

/**
 * Headers for what is published because of `message`: its trace context, the correlation id of the whole conversation
 * (its own id when it began one), and its id as the cause. As `metadata` of a command they mean the same.
 */
export function causedBy({ id, headers }: Pick<Message, 'id' | 'headers'>): MessageHeaders {
  const { traceparent, tracestate, correlationId = id } = headers as Record<string, string | undefined>
  return {
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(tracestate === undefined ? {} : { tracestate }),
    correlationId,
    causationId: id,
  }
}
