import type { DeadLetter, RecordedFailure } from './dead-letters.js'
import { Fifo } from './fifo.js'
import type { StoredMessage } from './stored-message.js'

/** What one group knows of one message. */
export interface Delivery {
  readonly message: StoredMessage
  /** How often it has been handed out since it was published or requeued. */
  attempts: number
  firstError: RecordedFailure | undefined
  /** The wait before the last attempt. */
  previousMs: number | undefined
}

/** Why a delivery is dead, beside what it knows itself. */
export type Burial = Pick<DeadLetter, 'reason' | 'lastError' | 'diedAt'>

/** A dead delivery. */
export interface Grave extends Burial {
  readonly delivery: Delivery
}

/** The one delivery of a key that is out or first in line, and those that must wait for it. */
interface Lane {
  head: Delivery
  readonly behind: Fifo<Delivery>
}

/**
 * The messages of one group: which may be handed out next, which wait for another of their key, which are dead. Every step
 * takes the same time at any length. Deliveries come out in the order in which they were put in, but for those that wait.
 *
 * A delivery that {@link next} gave is out until {@link done}, {@link giveBack} or {@link bury}.
 * @internal
 */
export class Backlog {
  readonly #line = new Fifo<Delivery>()
  /** By key; one while a delivery of this key is out, or is about to be. Empty when no order is kept. */
  readonly #lanes = new Map<string, Lane>()
  readonly #graves = new Map<string, Grave[]>()
  readonly #ordered: boolean
  #held = 0
  #waiting = 0
  #dead = 0

  constructor(order: 'key' | 'none') {
    this.#ordered = order === 'key'
  }

  /** All that it holds: waiting, out and dead. */
  get held(): number {
    return this.#held
  }

  /** Those that are neither out nor dead. */
  get waiting(): number {
    return this.#waiting
  }

  get dead(): number {
    return this.#dead
  }

  /** Adds a message at the end. */
  put(message: StoredMessage): void {
    this.#held++
    this.#append({ message, attempts: 0, firstError: undefined, previousMs: undefined })
  }

  /** The next delivery that may be handed out; `undefined` when there is none now. */
  next(): Delivery | undefined {
    for (let delivery = this.#line.shift(); delivery; delivery = this.#line.shift()) {
      const { key } = delivery.message
      const lane = this.#laneOf(delivery)
      if (lane && lane.head !== delivery) {
        lane.behind.push(delivery)
        continue
      }
      if (!lane && this.#ordered && key !== undefined) this.#lanes.set(key, { head: delivery, behind: new Fifo() })
      this.#waiting--
      return delivery
    }
    return undefined
  }

  /** It has been handled: forget it. */
  done(delivery: Delivery): void {
    this.#held--
    this.#advance(delivery)
  }

  /** It may be handed out again, before all others. */
  giveBack(delivery: Delivery): void {
    this.#waiting++
    this.#line.unshift(delivery)
  }

  /** It will not be handed out again, unless somebody requeues it. */
  bury(delivery: Delivery, burial: Burial): void {
    const { id } = delivery.message
    const grave = { ...burial, delivery }
    const same = this.#graves.get(id)
    if (same) same.push(grave)
    else this.#graves.set(id, [grave])
    this.#dead++
    this.#advance(delivery)
  }

  /** The dead, the longest dead first (those of one message id together). */
  *graves(): Generator<Grave> {
    for (const same of this.#graves.values()) yield* same
  }

  /** Puts the dead of this id at the end, as if they were new. @returns whether there were any */
  requeue(id: string): boolean {
    const graves = this.#exhume(id)
    for (const { delivery } of graves)
      this.#append({ ...delivery, attempts: 0, firstError: undefined, previousMs: undefined })
    return graves.length > 0
  }

  /** Forgets the dead of this id. @returns whether there were any */
  drop(id: string): boolean {
    const { length } = this.#exhume(id)
    this.#held -= length
    return length > 0
  }

  #append(delivery: Delivery): void {
    this.#waiting++
    this.#line.push(delivery)
  }

  #laneOf({ message: { key } }: Delivery): Lane | undefined {
    return key === undefined ? undefined : this.#lanes.get(key)
  }

  /** Lets the next of the same key go: to the front, for it is older than all that nobody has looked at yet. */
  #advance(delivery: Delivery): void {
    const lane = this.#laneOf(delivery)
    if (!lane) return
    const next = lane.behind.shift()
    if (next) this.#line.unshift((lane.head = next))
    else this.#lanes.delete(delivery.message.key as string)
  }

  #exhume(id: string): readonly Grave[] {
    const graves = this.#graves.get(id) ?? []
    this.#graves.delete(id)
    this.#dead -= graves.length
    return graves
  }
}
