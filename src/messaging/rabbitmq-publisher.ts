import { settledWithin } from '../kernel/clock.js'
import { StoreError } from '../kernel/errors.js'
import { BacklogFullError, UnroutedError } from './errors.js'
import type { Link } from './rabbitmq-link.js'
import type { Receipt, Session } from './rabbitmq-session.js'
import { messagesExchange } from './rabbitmq-topology.js'
import { routeOf, slotOf, toBody, TO_ALL } from './rabbitmq-wire.js'
import type { StoredMessage } from './stored-message.js'

/** What a publisher needs of the bus. */
export interface PublisherSettings {
  readonly prefix: string
  readonly maxBacklog: number
  readonly rejectUnrouted: boolean
  readonly onUnrouted: (message: StoredMessage) => void
  /** The group that takes all of these types, when this process knows of one alone. */
  readonly suspect: (types: readonly string[]) => string | undefined
}

/** Types that are remembered. */
const MOST_TYPES = 10_000

/** Longest wait before a message is sent again that nobody takes yet. */
const LONGEST_PAUSE_MS = 1_000

/** Sends what is published, in the order of the calls, and says what the broker has made of it. */
export class RabbitMqPublisher {
  readonly #exchange: string
  /** The last call that waits for a connection; those after it wait too. Never rejects. */
  #unsent: Promise<unknown> | undefined
  /** After a new connection, until the groups of this process are sure to be there. */
  #ready: Promise<void> | undefined
  /** Types of which somebody has taken the last message. */
  readonly #taken = new Set<string>()
  /** Those of them that nobody has taken yet since there is a new connection: a broker that has lost its data does not say so. */
  readonly #doubtful = new Set<string>()
  #doubtfulUntil = 0
  #turn = 0
  #underWay = 0
  #onIdle: (() => void) | undefined

  constructor(
    private readonly link: Link,
    private readonly settings: PublisherSettings,
  ) {
    this.#exchange = messagesExchange(settings.prefix)
  }

  /** @throws StoreError, BacklogFullError, UnroutedError: each of them may or may not be stored. */
  async publish(messages: readonly StoredMessage[]): Promise<void> {
    this.#underWay++
    try {
      const session = this.#unsent || this.#ready || this.#isDoubtful(messages) ? undefined : this.link.now
      const receipts = await (session ? this.#send(messages, session) : this.#sendLater(messages))
      this.#judge(messages, receipts)
    } finally {
      if (--this.#underWay === 0) this.#onIdle?.()
    }
  }

  /**
   * There is a connection again. What is published waits for the groups of this process to be `restored`, and those of other processes get
   * the time that a call may take to come back: until then nobody is meant to be missing who was there before.
   */
  returned(restored: Promise<unknown>): void {
    const { clock, timeoutMs } = this.link.options
    const ready = settledWithin(clock, timeoutMs, restored).then(() => {
      if (this.#ready === ready) this.#ready = undefined
    })
    this.#ready = ready
    for (const type of this.#taken) this.#doubtful.add(type)
    this.#doubtfulUntil = clock.now() + timeoutMs
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    if (this.#underWay > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve))
  }

  async #sendLater(messages: readonly StoredMessage[]): Promise<readonly Receipt[]> {
    const connected = this.link.session() // from now on: each waits as long as it may, not as long as those before it too
    connected.catch(() => {}) // told below
    const sent = (this.#unsent ?? Promise.resolve()).then(async () => {
      const session = await connected
      await this.#ready
      if (this.#isDoubtful(messages)) return { receipts: await this.#insist(messages, session) }
      return { receipts: this.#send(messages, session) } // those behind wait until it is sent, not for its answer
    })
    const quiet = sent
      .catch(() => {})
      .then(() => {
        if (this.#unsent === quiet) this.#unsent = undefined
      })
    this.#unsent = quiet
    return (await sent).receipts
  }

  #send(messages: readonly StoredMessage[], session: Session): Promise<readonly Receipt[]> {
    return session.publish(
      messages.map((message) => {
        const slot = slotOf(message.key, this.#turn++)
        const routingKey = routeOf(message.type, slot)
        return { exchange: this.#exchange, routingKey, body: toBody(message), properties: TO_ALL[slot] }
      }),
    )
  }

  #isDoubtful(messages: readonly StoredMessage[]): boolean {
    if (this.#doubtful.size === 0) return false
    if (this.link.options.clock.now() > this.#doubtfulUntil) this.#doubtful.clear()
    return messages.some(({ type }) => this.#doubtful.has(type))
  }

  /** Sends again what nobody takes who took it before the connection was lost. */
  async #insist(messages: readonly StoredMessage[], first: Session): Promise<readonly Receipt[]> {
    const receipts: Receipt[] = []
    let left = messages.map((_, i) => i)
    for (let pauseMs = 20, session = first; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      const answers = await this.#send(
        left.map((i) => messages[i]!),
        session,
      )
      for (const [n, i] of left.entries()) {
        receipts[i] = answers[n]!
        if (receipts[i] === 'stored') this.#doubtful.delete(messages[i]!.type)
      }
      left = left.filter((i) => receipts[i] === 'unrouted' && this.#doubtful.has(messages[i]!.type))
      if (left.length === 0) return receipts
      if (this.link.options.clock.now() > this.#doubtfulUntil)
        throw new StoreError(
          `RabbitMQ: nobody takes ${messages[left[0]!]!.type} who took it before the connection was lost`,
        )
      await this.link.pause(pauseMs)
      session = await this.link.session()
    }
  }

  #judge(messages: readonly StoredMessage[], receipts: readonly Receipt[]): void {
    const { rejectUnrouted, onUnrouted, suspect, maxBacklog } = this.settings
    for (const [i, message] of messages.entries()) {
      if (receipts[i] === 'stored' && this.#taken.size < MOST_TYPES) this.#taken.add(message.type)
      if (receipts[i] !== 'unrouted') continue
      this.#taken.delete(message.type)
      if (rejectUnrouted) throw new UnroutedError(message.type)
      onUnrouted(message)
    }
    if (!receipts.includes('refused')) return
    // The broker does not say whose queue is full.
    const group = suspect(messages.map(({ type }) => type)) ?? 'that the broker does not name'
    throw new BacklogFullError(group, maxBacklog)
  }
}
