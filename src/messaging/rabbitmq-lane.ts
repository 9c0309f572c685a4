import type { Delivery } from './backlog.js'
import { Fifo } from './fifo.js'
import type { AmqpMessage } from './rabbitmq-client.js'
import type { Partition } from './rabbitmq-partition.js'
import type { Past } from './rabbitmq-wire.js'

/** Where a message stands on the broker. */
export interface Copy {
  /** As it was delivered; `undefined` until then: this process has put it aside itself. */
  message: AmqpMessage | undefined
  /** It is of no use any more: to be answered as soon as it is delivered. */
  gone: boolean
  /** Nobody knows whether it is there: it is not counted. */
  doubtful?: boolean
  /** It stands in the main queue, and takes a place of those that may be unanswered. */
  readonly inMain?: boolean
}

/** One message of a lane. */
export interface Entry {
  readonly delivery: Delivery
  readonly past: Past
  readonly lane: Lane
  /** Its place among those of its key: what is set aside is put in order by it. */
  readonly place: number
  copy: Copy
  /** When it may be tried, by the wall clock; `undefined`: now. */
  dueAt: number | undefined
  /** It was set aside, or is being. */
  moving: Promise<void> | undefined
}

/** The messages of one key that this process has, in order; or one message without a key. */
export class Lane {
  readonly #entries = new Fifo<Entry>()
  #next: number
  #cancel: (() => void) | undefined
  /** The first was offered to the handlers, sleeps, or is in one. */
  offered = false
  /** How long its first has slept so far, or will have. */
  sleptMs = 0

  /** @param place where to begin to count: later than lanes of this key did before, in any process. */
  constructor(
    readonly key: string | undefined,
    readonly partition: Partition,
    place: number,
  ) {
    this.#next = place
  }

  get first(): Entry | undefined {
    return this.#entries.first
  }

  /** The channel has ended: all that is here comes again elsewhere. */
  get lost(): boolean {
    return this.partition.ended
  }

  get sleeping(): boolean {
    return this.#cancel !== undefined
  }

  get entries(): Iterable<Entry> {
    return this.#entries
  }

  add(delivery: Delivery, copy: Copy, past: Past): Entry {
    const place = past.place ?? this.#next
    this.#next = Math.max(this.#next, place + 1)
    const entry = { delivery, copy, past, place, lane: this, dueAt: past.dueAt, moving: undefined }
    this.#entries.push(entry)
    return entry
  }

  shift(): void {
    this.#entries.shift()
    this.sleptMs = 0
  }

  sleep(ms: number, cancel: () => void): void {
    this.#cancel?.()
    this.#cancel = cancel
    this.sleptMs += ms
    this.partition.sleeping.add(this)
  }

  wake(): void {
    this.#cancel?.()
    this.#cancel = undefined
    this.partition.sleeping.delete(this)
  }
}
