import { randomId } from '../kernel/random.js'
import type { AmqpMessage } from './rabbitmq-client.js'
import type { RabbitMqGroup } from './rabbitmq-group.js'
import type { Copy, Entry, Lane } from './rabbitmq-lane.js'
import type { OrderedFlow } from './rabbitmq-ordered.js'
import type { Tap } from './rabbitmq-tap.js'
import { fromMessage } from './rabbitmq-wire.js'

/** The most that a channel may hold without answering, and so the most that may be aside in a partition. */
const MOST_ASIDE = 65_535

/** How long to wait before looking again whether the one before has left. */
const LEAVING_MS = 20

/** What waits for a message that sleeps no longer than this, all its waits together, is not moved out of the way: that takes time too. */
const WORTH_MOVING_MS = 200

/** Marks of messages that are for this library alone, in the property `type`. */
const WAKE = 'holdfast.wake'
const MARK = 'holdfast.mark'

/**
 * One partition of a group: a main queue, and a queue of what is set aside, each with all of a key in order, and what is aside comes first.
 *
 * - Whoever gets the first message of the main queue is its one consumer. He takes what is aside before he begins: once the one before him
 *   consumes it no more, so that it is all there, and up to a mark that he has put behind it.
 * - What failed is put aside, with its attempts, and then answered; so it is kept, and holds back nobody. What waits behind it follows when
 *   it takes up too much of what may be unanswered.
 * - With nothing in the main queue nobody is called: so all look from time to time whether something is aside that nobody has, and put
 *   a message into the main queue that calls its consumer.
 */
export class Partition {
  readonly sleeping = new Set<Lane>()
  ended = false
  readonly #main: string
  readonly #aside: string
  /** Copies that were put aside here and have not been delivered yet, by the mark on them. */
  readonly #expected = new Map<string, Copy>()
  #state: 'idle' | 'taking' | 'active' = 'idle'
  /** Came while what is aside was taken. */
  #held: AmqpMessage[] = []
  #onAside: ((message: AmqpMessage) => void) | undefined
  /** Unanswered messages of the main queue. */
  #unanswered = 0
  #asideCount = 0
  #stopped = false

  constructor(
    private readonly group: RabbitMqGroup,
    private readonly tap: Tap,
    index: number,
    private readonly flow: OrderedFlow,
  ) {
    this.#main = group.names.queue(index)
    this.#aside = group.names.aside(index)
  }

  async open(): Promise<void> {
    await this.tap.consume(this.#main, this.group.record.prefetch, (message) => this.#receive(message))
  }

  /** Takes nothing more. It stays the consumer until the channel ends: another would be given what comes later, and only then what waits here. */
  stop(): void {
    this.#stopped = true
  }

  /** The channel has ended. */
  reset(): void {
    this.ended = true
    this.#stopped = true
    for (const lane of [...this.sleeping]) lane.wake()
    this.#expected.clear()
    this.#held = []
  }

  /** Calls the consumer if something is aside that nobody has. */
  async look(): Promise<void> {
    if (this.#state !== 'idle' || this.#stopped || !this.tap.alive) return
    const { messageCount, consumerCount } = await this.tap.check(this.#aside)
    if (messageCount > 0 && consumerCount === 0) await this.group.put(this.#main, Buffer.alloc(0), { type: WAKE })
  }

  /** The copy is of no use any more. */
  drop(copy: Copy): void {
    if (copy.gone) return
    copy.gone = true
    if (!copy.message) return
    this.tap.ack(copy.message)
    this.#answered(copy)
  }

  /** Gives a message of the main queue to the dead letters, as it is. */
  reject({ message }: { readonly message: AmqpMessage }): void {
    this.tap.reject(message)
    this.#unanswered--
  }

  /** Keeps an entry aside: with its attempts, to be tried no sooner than in `ms`. Never rejects. */
  setAside(entry: Entry, ms: number): Promise<void> {
    const { clock } = this.group.surroundings
    const dueAt = ms > 0 ? clock.epochMs() + ms : undefined
    const body = this.group.body(entry.delivery, { dueAt, place: entry.place })
    const before = entry.moving ?? Promise.resolve()
    return (entry.moving = before.then(() => this.#move(entry, body)))
  }

  async #move(entry: Entry, body: Buffer): Promise<void> {
    if (entry.copy.gone || entry.lane.lost) return
    // A successor has to take in all that is aside, and its mark behind it: what fails beyond that keeps its place in the main queue.
    if (entry.copy.inMain && this.#asideCount >= MOST_ASIDE / 2) return
    const mark = randomId()
    const copy: Copy = { message: undefined, gone: false }
    this.#expected.set(mark, copy)
    this.#asideCount++
    const there = await this.group.put(this.#aside, body, { messageId: mark })
    if (!there && !copy.message) {
      copy.gone = copy.doubtful = true // it may be there all the same: then it goes when it comes
      this.#asideCount--
      return
    }
    const old = entry.copy
    if (old.gone) return this.drop(copy) // done with meanwhile
    entry.copy = copy
    this.drop(old)
  }

  /** Lets others have the places of those that wait for a sleeper. */
  relieve(): void {
    if (this.#unanswered * 2 < this.group.record.prefetch) return
    for (const lane of this.sleeping) {
      if (lane.sleptMs < WORTH_MOVING_MS) continue
      for (const entry of lane.entries) {
        if (this.#asideCount >= MOST_ASIDE / 2) return
        if (entry !== lane.first && entry.copy.inMain && !entry.moving) this.group.track(this.setAside(entry, 0))
      }
    }
  }

  #receive(message: AmqpMessage): void {
    if (this.#stopped) return // it goes back with all others
    this.#unanswered++
    if (this.#state === 'active') return this.#accept(message)
    this.#held.push(message)
    if (this.#state === 'taking') return
    this.#state = 'taking'
    this.#take().catch(() => this.tap.fail())
  }

  #accept(message: AmqpMessage): void {
    if (message.properties.type !== WAKE) return this.flow.accept({ message, gone: false, inMain: true }, this)
    this.tap.ack(message)
    this.#unanswered--
  }

  /** Takes what is aside, then what has come meanwhile. */
  async #take(): Promise<void> {
    const { clock } = this.group.surroundings
    let state = await this.tap.check(this.#aside)
    for (; state.consumerCount > 0; state = await this.tap.check(this.#aside)) {
      await new Promise<void>((resolve) => void clock.setTimer(resolve, LEAVING_MS))
      if (!this.tap.alive || this.#stopped) return
    }
    const mark = randomId()
    const taken: AmqpMessage[] = []
    const complete = new Promise<void>((resolve) => {
      this.#onAside = (message) => {
        if (message.properties.type !== MARK) return void taken.push(message)
        this.tap.ack(message) // older marks too: of those who ended before they got theirs
        if (message.properties.messageId === mark) resolve()
      }
    })
    // The mark also when it seems empty: what the one before gave back may not be counted yet.
    const [, marked] = await Promise.all([
      this.tap.consume(this.#aside, MOST_ASIDE, (message) => this.#receiveAside(message)),
      this.group.put(this.#aside, Buffer.alloc(0), { type: MARK, messageId: mark }),
    ])
    if (!marked) return this.tap.fail()
    await complete
    this.#onAside = undefined
    if (!this.tap.alive || this.#stopped) return
    this.#state = 'active'
    this.#asideCount = taken.length
    for (const message of inPlace(taken)) this.flow.accept({ message, gone: false }, this)
    for (const message of this.#held.splice(0)) this.#accept(message)
  }

  #receiveAside(message: AmqpMessage): void {
    if (this.#onAside) return this.#onAside(message)
    if (message.properties.type === MARK) return this.tap.ack(message) // one that was sent again, or given up and stored late
    const mark = String(message.properties.messageId)
    const copy = this.#expected.get(mark)
    this.#expected.delete(mark)
    if (!copy) this.flow.accept({ message, gone: false }, this) // nobody else has it: late is better than never
    else if (!copy.gone) copy.message = message
    else {
      this.tap.ack(message)
      if (!copy.doubtful) this.#asideCount--
    }
  }

  #answered({ inMain }: Copy): void {
    if (inMain) this.#unanswered--
    else this.#asideCount--
  }
}

/** By their places; a message that was put aside again stands behind those that came after it. Sorting is stable. */
function inPlace(messages: readonly AmqpMessage[]): AmqpMessage[] {
  const placed = messages.map((message) => ({ message, place: fromMessage(message).past.place ?? 0 }))
  return placed.toSorted((a, b) => a.place - b.place).map(({ message }) => message)
}
