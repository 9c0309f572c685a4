import { BacklogFullError, UnroutedError } from './errors.js'
import type { Link, Receipt, Session } from './rabbitmq-link.js'
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

/** Sends what is published, in the order of the calls, and says what the broker has made of it. */
export class RabbitMqPublisher {
  readonly #exchange: string
  /** The last call that waits for a connection; those after it wait too. Never rejects. */
  #unsent: Promise<unknown> | undefined
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
      const session = this.#unsent ? undefined : this.link.now
      const receipts = await (session ? this.#send(messages, session) : this.#sendLater(messages))
      this.#judge(messages, receipts)
    } finally {
      if (--this.#underWay === 0) this.#onIdle?.()
    }
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

  #judge(messages: readonly StoredMessage[], receipts: readonly Receipt[]): void {
    const { rejectUnrouted, onUnrouted, suspect, maxBacklog } = this.settings
    for (const [i, message] of messages.entries()) {
      if (receipts[i] !== 'unrouted') continue
      if (rejectUnrouted) throw new UnroutedError(message.type)
      onUnrouted(message)
    }
    if (!receipts.includes('refused')) return
    // The broker does not say whose queue is full.
    const group = suspect(messages.map(({ type }) => type)) ?? 'that the broker does not name'
    throw new BacklogFullError(group, maxBacklog)
  }
}
