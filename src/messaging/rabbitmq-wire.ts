import { createHash } from 'node:crypto'
import { jsonCodec } from '../kernel/codec.js'
import { messageOf } from '../kernel/errors.js'
import { randomId } from '../kernel/random.js'
import type { DeadLetter, RecordedFailure } from './dead-letters.js'
import type { AmqpMessage } from './rabbitmq-client.js'
import type { StoredMessage } from './stored-message.js'

/** Keys are spread over so many slots, and slots over the partitions of a group, so that publishers need not know groups. */
export const SLOTS = 16

/** What a message has been through: kept with it whenever it moves to another queue. */
export interface Past {
  readonly attempts: number
  readonly firstError?: RecordedFailure | undefined
  readonly previousMs?: number | undefined
  /** When it may be tried again, by the wall clock. */
  readonly dueAt?: number | undefined
  /** Its place among the messages of its key that were set aside. */
  readonly place?: number | undefined
  /** Of a dead letter, with the queue that it was in. */
  readonly death?: Pick<DeadLetter, 'reason' | 'lastError'> & { readonly diedAt: number; readonly queue?: string }
}

type Head = readonly [id: string, type: string, key: string | null, occurredAt: number, past?: Past]

/** A line of JSON and the codec's text: an AMQP property could not hold every id, type or key. */
export function toBody({ id, type, key, occurredAt, text }: StoredMessage, past?: Past): Buffer {
  const head = [id, type, key ?? null, occurredAt, ...(past ? [past] : [])]
  return Buffer.from(`${JSON.stringify(head)}\n${text}`)
}

/** What {@link toBody} or {@link setApart} wrote. What somebody else wrote is a message that is dead already. */
export function fromMessage({ content, properties: { headers } }: AmqpMessage): {
  readonly message: StoredMessage
  readonly past: Past
} {
  const body = content.toString()
  try {
    const end = body.indexOf('\n')
    const [id, type, key, occurredAt, past = pastIn(headers)] = JSON.parse(body.slice(0, end)) as Head
    if (typeof id !== 'string' || typeof type !== 'string') throw new TypeError('no id, or no type')
    return { message: { id, type, key: key ?? undefined, occurredAt, text: body.slice(end + 1) }, past }
  } catch (error) {
    const lastError = { name: 'CorruptDataError', message: `not a message of this library: ${messageOf(error)}` }
    return {
      message: {
        id: randomId(),
        type: '',
        key: undefined,
        occurredAt: 0,
        text: jsonCodec.encode({ data: body, headers: {} }),
      },
      past: { attempts: 0, firstError: lastError, death: { reason: 'invalid', lastError, diedAt: 0 } },
    }
  }
}

const pastIn = (headers: AmqpMessage['properties']['headers']): Past => {
  const text = headers?.[PAST]
  return typeof text === 'string' ? (JSON.parse(text) as Past) : { attempts: 0 }
}

/** Characters that are kept of an error's texts where there is no room for more, and their bytes as JSON. */
const BRIEFLY = 200
const MOST_BYTES = 2 * BRIEFLY

/** A header that is larger than the connection's largest frame, 4096 bytes with old clients, would end the connection. */
function cut(text: string): string {
  const kept = text.slice(0, BRIEFLY)
  return Buffer.byteLength(JSON.stringify(kept)) > MOST_BYTES + 2 ? kept.slice(0, MOST_BYTES / 6) : kept // 6: \u0000
}

const brief = ({ name, message }: RecordedFailure): RecordedFailure => ({ name: cut(name), message: cut(message) })

/** The header for a past that does not fit into the body. */
const PAST = 'holdfast-past'

/**
 * What {@link toBody} wrote, with the past beside it, and no more of its errors than there must be: the body is then as it was published, and
 * that is no larger than the broker takes. `undefined` when there is no past in it.
 */
export function setApart(content: Buffer): { readonly body: Buffer; readonly headers: object } | undefined {
  const { message, past } = fromMessage({ content, fields: {}, properties: {} })
  const body = toBody(message)
  if (body.length >= content.length) return undefined
  const { firstError, death } = past
  const brieflyPast: Past = {
    ...past,
    firstError: firstError && brief(firstError),
    ...(death && { death: { ...death, lastError: brief(death.lastError) } }),
  }
  return { body, headers: { [PAST]: JSON.stringify(brieflyPast) } }
}

const digest = (text: string): string => createHash('sha256').update(text).digest('base64url')

/** Any string as one word of a routing key or of a queue's name: itself when it is plain and short. */
export const word = (text: string): string => (/^[\w-]{1,64}$/.test(text) ? text : `~${digest(text)}`)

/** The slot of a key, by FNV-1a over its UTF-16 units; one that goes round for messages without. */
export function slotOf(key: string | undefined, turn: number): number {
  if (key === undefined) return turn % SLOTS
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  return (hash ^ (hash >>> 15)) & (SLOTS - 1) // the lowest bits alone know little of the others
}

/** By what the exchange of all messages tells them apart; of `undefined`: a message of any type. */
export const routeOf = (type: string | undefined, slot: number): string =>
  `${type === undefined ? '*' : word(type)}.${slot}`

/** A second routing key, for those who take all types: by slot, the properties that say so. */
export const TO_ALL = Array.from({ length: SLOTS }, (_, slot) => ({ BCC: routeOf(undefined, slot) }))

/** The names of what one group has on the broker. */
export interface GroupNames {
  readonly record: string
  readonly lock: string
  readonly dead: string
  readonly queue: (partition: number) => string
  readonly aside: (partition: number) => string
  readonly delay: (ms: number) => string
}

/** @param prefix of all names. */
export function groupNames(prefix: string, group: string): GroupNames {
  const own = `${prefix}group.${word(group)}`
  return {
    record: `${own}.record`,
    lock: `${own}.lock`,
    dead: `${own}.dead`,
    queue: (partition) => `${own}.${partition}`,
    aside: (partition) => `${own}.${partition}.aside`,
    delay: (ms) => `${own}.delay.${ms}`,
  }
}

const LONGEST_DELAY_MS = 2 ** 31

/** Waits are rounded up by a quarter at most, so that a group needs few queues for them. */
export function roundDelay(ms: number): number {
  const whole = Math.min(LONGEST_DELAY_MS, Math.max(1, Math.ceil(ms)))
  const step = Math.max(1, 2 ** (Math.floor(Math.log2(whole)) - 2))
  return Math.ceil(whole / step) * step
}

/** Every wait that {@link roundDelay} can give. */
export function* allDelays(): Generator<number> {
  for (let ms = 1; ms <= LONGEST_DELAY_MS; ms = roundDelay(ms + 1)) {
    yield ms
    if (ms === LONGEST_DELAY_MS) return
  }
}
