import type { DeadLetter } from './dead-letters.js'

/** What a `MemoryEventBus` tells its listeners. */
export interface MemoryEventBusEvents {
  /** A handler has done its message. */
  readonly handled: DeliveryEvent
  /** A handler has thrown, or a validator refused. `retryInMs` is `undefined` when the message is a dead letter now. */
  readonly failed: DeliveryEvent & { readonly error: unknown; readonly retryInMs: number | undefined }
  /** A message was given up. */
  readonly deadLetter: {
    readonly group: string
    readonly id: string
    readonly type: string
    readonly reason: DeadLetter['reason']
    readonly attempts: number
    readonly error: unknown
  }
  /** A message was published that no group takes. */
  readonly unrouted: { readonly id: string; readonly type: string }
}

/** One delivery, as events speak of it. */
export interface DeliveryEvent {
  /** Whose delivery it was. */
  readonly group: string
  /** The message's. */
  readonly id: string
  /** The message's. */
  readonly type: string
  /** From 1. */
  readonly attempt: number
  /** How long validator and handler took, in milliseconds. */
  readonly durationMs: number
}

/** Where the messages of a group stand. */
export interface GroupStats {
  /** Its name. */
  readonly group: string
  /** Waiting for a free handler, or for another message of their key. */
  readonly waiting: number
  /** In a handler. */
  readonly running: number
  /** Failed, and waiting for the time of their next attempt. */
  readonly retrying: number
  /** Dead letters. */
  readonly dead: number
}
