import { jsonCodec } from '../kernel/codec.js'
import type { Message } from './message.js'

/** A message as it is kept: text, so that nobody shares an object with anybody. One for all groups. */
export interface StoredMessage extends Pick<Message, 'id' | 'type' | 'key'> {
  /** Epoch milliseconds. */
  readonly occurredAt: number
  /** Data and headers in the codec's words. */
  readonly text: string
}

/** Makes it independent of its publisher. @throws InvalidPayloadError when the codec refuses the data. @internal */
export function sealMessage({ id, type, key, data, headers, occurredAt }: Message): StoredMessage {
  return { id, type, key, occurredAt: occurredAt.getTime(), text: jsonCodec.encode({ data, headers }) }
}

/** The message, a new copy each time. @internal */
export function openMessage({ id, type, key, occurredAt, text }: StoredMessage): Message {
  const { data, headers } = jsonCodec.decode(text) as Pick<Message, 'data' | 'headers'>
  const rest = { data, headers, occurredAt: new Date(occurredAt) }
  return key === undefined ? { id, type, ...rest } : { id, type, key, ...rest }
}

/** The message for who looks at it only: without data and headers when they can't be read. @internal */
export function showMessage(stored: StoredMessage): Message {
  try {
    return openMessage(stored)
  } catch {
    return openMessage({ ...stored, text: UNREADABLE })
  }
}

const UNREADABLE = jsonCodec.encode({ data: undefined, headers: {} })
