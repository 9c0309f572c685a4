import {
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkString,
  invalid,
} from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError } from '../kernel/errors.js'
import { systemRandom, type Random } from '../kernel/random.js'
import { validate, type StandardSchema } from '../kernel/schema.js'
import type { DeadLetters } from './dead-letters.js'
import { BacklogFullError, UnroutedError } from './errors.js'
import type { BusSubscription, EventBus, SubscribeOptions } from './event-bus.js'
import { completeMessage, schemasByType, type OutgoingMessage, type OutgoingMessageOf } from './message.js'
import type { AmqpConnection } from './rabbitmq-client.js'
import { rabbitMqDeadLetters } from './rabbitmq-dead-letters.js'
import type { RabbitMqEventBusEvents } from './rabbitmq-events.js'
import { RabbitMqGroup } from './rabbitmq-group.js'
import { inTime, Link, type Session } from './rabbitmq-link.js'
import { declareExchange, enterGroup, messagesExchange, removeGroup } from './rabbitmq-topology.js'
import { routeOf, SLOTS, slotOf, toBody } from './rabbitmq-wire.js'
import { openMessage, sealMessage, type StoredMessage } from './stored-message.js'
import { Subscription } from './subscription.js'

export type { AmqpChannel, AmqpConfirmChannel, AmqpConnection, AmqpMessage, AmqpQueueState } from './rabbitmq-client.js'
export type { RabbitMqEventBusEvents } from './rabbitmq-events.js'

/** How a {@link RabbitMqEventBus} finds its broker and keeps messages. */
export interface RabbitMqEventBusOptions<Messages extends object = Record<string, unknown>> {
  /** Makes a connection: `() => amqp.connect(url)`. Called again whenever the last one was lost; the bus closes what it was given. */
  readonly connect: () => Promise<AmqpConnection>
  /** Begins the name of everything on the broker. At most 64 characters. @defaultValue `'holdfast.'` */
  readonly prefix?: string | undefined
  /**
   * Queues over which a new group with `order: 'key'` spreads its keys: so many processes can share its work. Integer in [1, 16]. A group
   * keeps what its first subscription said. @defaultValue 4
   */
  readonly partitions?: number | undefined
  /**
   * About how many messages may wait for a new group, those being tried again and dead letters not counted; with `order: 'key'` each
   * partition holds its share. `publish` is refused beyond it. Integer ≥ 1. A group keeps what its first subscription said.
   * @defaultValue 100_000
   */
  readonly maxBacklog?: number | undefined
  /**
   * How often the broker hands out a message of a new group that nobody answers, before it makes a dead letter of it: the end of messages
   * that end processes. What waits in a process counts too when that ends, so be generous. Integer ≥ 1. A group keeps what its first
   * subscription said. @defaultValue 200
   */
  readonly deliveryLimit?: number | undefined
  /** Messages of a partition that one process may have at a time, with `order: 'key'`. Integer in [2, 65_535]. @defaultValue 200 */
  readonly prefetch?: number | undefined
  /** How long to wait for a connection, a confirm or any other answer, in milliseconds, > 0. @defaultValue 30_000 */
  readonly timeoutMs?: number | undefined
  /**
   * What `publish` does with a message that no group takes: `'accept'` forgets it, as nobody asked for it; `'reject'`
   * throws an UnroutedError. @defaultValue 'accept'
   */
  readonly unrouted?: 'accept' | 'reject' | undefined
  /** A validator per type, for what is published. What it gives back is what is sent. @defaultValue none: nothing is checked */
  readonly schema?: { readonly [T in keyof Messages]?: StandardSchema<Messages[T]> | undefined } | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** Spreads the default backoff, and is handed to yours. @defaultValue the process's generator */
  readonly random?: Random | undefined
}

/**
 * The bus on RabbitMQ 3.10 and newer, without plug-ins: everything that {@link EventBus} promises, but for these. `publish` is not all or
 * nothing: when it throws, each message, with each group, may or may not have been stored, after a BacklogFullError too. The limit of a
 * backlog is soft: the broker refuses a little after it is reached.
 */
export class RabbitMqEventBus<Messages extends object = Record<string, unknown>> implements EventBus<Messages> {
  readonly #groups = new Map<string, RabbitMqGroup>()
  readonly #subscriptions = new Set<BusSubscription>()
  readonly #events = new Emitter<RabbitMqEventBusEvents>()
  readonly #schemas: ReadonlyMap<string, StandardSchema>
  readonly #link: Link
  readonly #prefix: string
  readonly #wanted: { readonly partitions: number; readonly maxBacklog: number; readonly deliveryLimit: number }
  readonly #prefetch: number
  readonly #rejectUnrouted: boolean
  readonly #clock: Clock
  readonly #random: Random
  readonly #publishing = new Set<Promise<unknown>>()
  /** The publish that was called last and has not been sent; the next one is sent after it. Never rejects. */
  #unsent: Promise<unknown> | undefined
  #turn = 0
  #closing: Promise<void> | undefined
  #closed = false

  /** Connects when it is first used. @throws InvalidOptionError when an option is out of its range. */
  constructor(options: RabbitMqEventBusOptions<Messages>) {
    const {
      connect,
      prefix = 'holdfast.',
      partitions = 4,
      maxBacklog = 100_000,
      deliveryLimit = 200,
    } = checkObject('options', options)
    const {
      prefetch = 200,
      timeoutMs = 30_000,
      unrouted = 'accept',
      schema = {},
      clock = systemClock,
      random = systemRandom,
    } = options
    this.#prefix = checkString('prefix', prefix, 0)
    if (Buffer.byteLength(prefix) > 64) invalid('prefix', 'at most 64 bytes', prefix)
    this.#wanted = {
      partitions: checkInteger('partitions', partitions, 1, SLOTS),
      maxBacklog: checkInteger('maxBacklog', maxBacklog, 1),
      deliveryLimit: checkInteger('deliveryLimit', deliveryLimit, 1),
    }
    this.#prefetch = checkInteger('prefetch', prefetch, 2, 65_535)
    checkNumber('timeoutMs', timeoutMs, 1)
    this.#rejectUnrouted = checkOneOf('unrouted', unrouted, ['accept', 'reject']) === 'reject'
    this.#schemas = schemasByType(schema)
    this.#clock = clock
    this.#random = checkFunction('random', random)
    this.#link = new Link({
      connect: checkFunction('connect', connect),
      prepare: (channel) => declareExchange(channel, prefix),
      onChange: (error) => this.#events.emit('disconnected', { error }),
      clock,
      timeoutMs,
    })
  }

  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof RabbitMqEventBusEvents>(
    name: K,
    listener: (event: RabbitMqEventBusEvents[K]) => void,
  ): Unsubscribe {
    return this.#events.on(name, listener)
  }

  async publish(messages: OutgoingMessageOf<Messages> | readonly OutgoingMessageOf<Messages>[]): Promise<void> {
    const list = (Array.isArray(messages) ? messages : [messages]) as readonly OutgoingMessage[]
    const sealed = list.map((message) => sealMessage(completeMessage(message, this.#clock))) // before anything waits: it is the publisher's until now
    if (this.#closed) throw new ClosedError('the event bus is closed')
    const published =
      this.#schemas.size === 0 && !this.#unsent && this.#link.now
        ? this.#send(sealed, this.#link.now)
        : this.#queue(sealed)
    const quiet = published.catch(() => {}).finally(() => this.#publishing.delete(quiet))
    this.#publishing.add(quiet)
    return published
  }

  async subscribe<Type extends keyof Messages & string, Tx = undefined>(
    options: SubscribeOptions<Messages, Type, Tx>,
  ): Promise<BusSubscription> {
    const { group: name, order = 'key' } = checkObject('options', options)
    checkString('group', name)
    checkOneOf('order', order, ['key', 'none'])
    if (this.#closing) throw new ClosedError('the event bus is closed')
    const surroundings = { clock: this.#clock, random: this.#random }
    const late: { group?: RabbitMqGroup } = {} // the group is known when the broker has said what it is; options are checked before
    const subscription = new Subscription(
      options as unknown as SubscribeOptions,
      {
        name,
        settle: (...how) => late.group?.settle(...how),
        giveBack: (delivery) => late.group?.giveBack(delivery),
        leave: (leaver) => late.group?.leave(leaver),
      },
      surroundings,
    )
    const types = subscription.types ? [...subscription.types].toSorted() : null
    const known = this.#groups.get(name)
    known?.check(subscription)
    const record = await enterGroup(this.#link, this.#prefix, { group: name, order, types, ...this.#wanted })
    if (this.#closing) throw new ClosedError('the event bus is closed')
    const group = (late.group = this.#group(name, record))
    const mine: BusSubscription = {
      group: name,
      close: () => (closing ??= group.close(subscription).finally(() => this.#subscriptions.delete(mine))),
      [Symbol.asyncDispose]: () => mine.close(),
    }
    let closing: Promise<void> | undefined
    this.#subscriptions.add(mine)
    try {
      await inTime(group.join(subscription), this.#link.options)
    } catch (error) {
      void mine.close()
      throw error
    }
    return mine
  }

  deadLetters(group: string): DeadLetters<Messages> {
    return rabbitMqDeadLetters(this.#link, this.#prefix, group) as DeadLetters<Messages>
  }

  async deleteGroup(name: string): Promise<void> {
    if (this.#groups.get(name)?.subscriptions.length) invalid('group', 'one without open subscriptions', name)
    await removeGroup(this.#link, this.#prefix, name)
    this.#groups.delete(name)
  }

  /** Closes every subscription; handlers that still run may publish meanwhile. Then `publish` is refused, and the connection ends. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#subscriptions].map((subscription) => subscription.close()))
    this.#closed = true
    while (this.#publishing.size > 0) await Promise.all(this.#publishing)
    await this.#link.close()
  }

  /** The group as its record says it is. */
  #group(name: string, record: RabbitMqGroup['record']): RabbitMqGroup {
    const known = this.#groups.get(name)
    if (known && JSON.stringify(known.record) === JSON.stringify(record)) return known
    if (known && known.subscriptions.length > 0) return known // its check refuses
    const surroundings = {
      clock: this.#clock,
      random: this.#random,
      events: this.#events,
      link: this.#link,
      prefix: this.#prefix,
      prefetch: this.#prefetch,
    }
    const group = new RabbitMqGroup(record, surroundings)
    this.#groups.set(name, group)
    return group
  }

  /** Sends when those before have been sent, the validators have answered and there is a connection. */
  #queue(sealed: readonly StoredMessage[]): Promise<void> {
    const checked = Promise.all(sealed.map((message) => this.#check(message)))
    const before = this.#unsent ?? Promise.resolve()
    let confirmed: Promise<void> | undefined
    const sent = before.then(async () => {
      const messages = await checked
      confirmed = this.#send(messages, await this.#link.session())
    })
    const quiet = Promise.allSettled([sent, checked]).then(() => {
      if (this.#unsent === quiet) this.#unsent = undefined
    })
    this.#unsent = quiet
    return sent.then(() => confirmed)
  }

  /** The message as its validator gives it back. */
  async #check(message: StoredMessage): Promise<StoredMessage> {
    const schema = this.#schemas.get(message.type)
    if (!schema) return message
    const opened = openMessage(message)
    return sealMessage({ ...opened, data: await validate(schema, opened.data, `message '${message.type}'`) })
  }

  async #send(messages: readonly StoredMessage[], session: Session): Promise<void> {
    const exchange = messagesExchange(this.#prefix)
    const sent = messages.map((message) =>
      session.publish(exchange, routeOf(message.type, slotOf(message.key, this.#turn++)), toBody(message)),
    )
    const receipts = await Promise.allSettled(sent)
    for (const receipt of receipts) if (receipt.status === 'rejected') throw receipt.reason
    let refused = false
    for (const [i, receipt] of receipts.entries()) {
      const { id, type } = messages[i] as StoredMessage
      if (receipt.status !== 'fulfilled' || receipt.value === 'stored') continue
      if (receipt.value === 'refused') refused = true
      else if (this.#rejectUnrouted) throw new UnroutedError(type)
      else this.#events.emit('unrouted', { id, type })
    }
    if (refused) throw new BacklogFullError(this.#suspect(messages), this.#wanted.maxBacklog)
  }

  /** The broker does not say whose queue is full. It is clear when this process knows one group of these types only. */
  #suspect(messages: readonly StoredMessage[]): string {
    const takers = [...this.#groups.values()].filter(
      ({ record: { types } }) => !types || messages.some(({ type }) => types.includes(type)),
    )
    return takers.length === 1 && takers[0] ? takers[0].name : 'that the broker does not name'
  }
}
