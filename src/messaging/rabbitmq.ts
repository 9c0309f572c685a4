import { checkFunction, checkInteger, checkNumber, checkString, invalid } from '../kernel/check.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError } from '../kernel/errors.js'
import type { DeadLetters } from './dead-letters.js'
import type { BusSubscription, EventBus, SubscribeOptions } from './event-bus.js'
import { commonOptions, groupOf, type EventBusOptions } from './event-bus-options.js'
import type { OutgoingMessage, OutgoingMessageOf } from './message.js'
import type { Outbound } from './outbound.js'
import type { AmqpConnection } from './rabbitmq-client.js'
import { rabbitMqDeadLetters } from './rabbitmq-dead-letters.js'
import type { RabbitMqEventBusEvents } from './rabbitmq-events.js'
import { RabbitMqGroup, type GroupSurroundings } from './rabbitmq-group.js'
import { Link, type LinkOptions } from './rabbitmq-link.js'
import { RabbitMqPublisher } from './rabbitmq-publisher.js'
import { declareExchange, enterGroup, removeGroup, type GroupRecord } from './rabbitmq-topology.js'
import { SLOTS } from './rabbitmq-wire.js'
import { Subscription } from './subscription.js'

export type { AmqpChannel, AmqpConfirmChannel, AmqpConnection, AmqpMessage, AmqpQueueState } from './rabbitmq-client.js'
export type { RabbitMqEventBusEvents } from './rabbitmq-events.js'

/** How a {@link RabbitMqEventBus} finds its broker and keeps messages. */
export interface RabbitMqEventBusOptions<
  Messages extends object = Record<string, unknown>,
> extends EventBusOptions<Messages> {
  /**
   * Makes a connection: `() => amqp.connect(url)`. Called once for publishing and once for all else, and again whenever one was lost; the bus
   * closes what it was given.
   */
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
  /**
   * Messages of a partition that one process may have at a time, in a new group with `order: 'key'`. Integer in [2, 65_535]. A group keeps
   * what its first subscription said. @defaultValue 200
   */
  readonly prefetch?: number | undefined
  /** How long to wait for a connection, a confirm or any other answer, in milliseconds, > 0. @defaultValue 30_000 */
  readonly timeoutMs?: number | undefined
}

/**
 * The bus on RabbitMQ 3.10 and newer, without plug-ins: everything that {@link EventBus} promises, but for these. `publish` is not all or
 * nothing: when it throws, each message, with each group, may or may not have been stored, after a BacklogFullError too. The limit of a
 * backlog is soft: the broker refuses a little after it is reached.
 */
export class RabbitMqEventBus<Messages extends object = Record<string, unknown>> implements EventBus<Messages> {
  readonly #groups = new Map<string, RabbitMqGroup>()
  /** Open, or not closed yet. */
  readonly #subscriptions = new Set<Subscription>()
  readonly #events = new Emitter<RabbitMqEventBusEvents>()
  readonly #outbound: Outbound
  readonly #publisher: RabbitMqPublisher
  readonly #link: Link
  readonly #sender: Link
  readonly #prefix: string
  /** What a new group is to be. */
  readonly #wanted: Pick<GroupRecord, 'partitions' | 'maxBacklog' | 'deliveryLimit' | 'prefetch'>
  readonly #surroundings: GroupSurroundings
  #closing: Promise<void> | undefined
  #closed = false

  /** Connects when it is first used. @throws InvalidOptionError when an option is out of its range. */
  constructor(options: RabbitMqEventBusOptions<Messages>) {
    const { maxBacklog, rejectUnrouted, outbound, clock, random } = commonOptions(options)
    const { connect, prefix = 'holdfast.', timeoutMs = 30_000 } = options
    const { partitions = 4, deliveryLimit = 200, prefetch = 200 } = options
    this.#prefix = checkString('prefix', prefix, 0)
    if (Buffer.byteLength(prefix) > 64) invalid('prefix', 'at most 64 bytes', prefix)
    this.#wanted = {
      partitions: checkInteger('partitions', partitions, 1, SLOTS),
      maxBacklog,
      deliveryLimit: checkInteger('deliveryLimit', deliveryLimit, 1),
      prefetch: checkInteger('prefetch', prefetch, 2, 65_535),
    }
    this.#outbound = outbound
    const toBroker: LinkOptions = {
      connect: checkFunction('connect', connect),
      prepare: (channel) => declareExchange(channel, prefix),
      onReturn: () => {},
      onChange: (error) => this.#events.emit('disconnected', { error }),
      clock,
      timeoutMs: checkNumber('timeoutMs', timeoutMs, 1),
    }
    this.#link = new Link(toBroker)
    const onReturn = (): void => {
      const open = [...this.#groups.values()].filter(({ isOpen }) => isOpen)
      this.#publisher.returned(Promise.allSettled(open.map((group) => group.restore())))
    }
    this.#sender = new Link({ ...toBroker, onReturn })
    this.#surroundings = {
      clock,
      random,
      events: this.#events,
      link: this.#link,
      sender: this.#sender,
      prefix,
    }
    this.#publisher = new RabbitMqPublisher(this.#sender, {
      prefix,
      maxBacklog,
      rejectUnrouted,
      onUnrouted: ({ id, type }) => this.#events.emit('unrouted', { id, type }),
      suspect: (types) => this.#onlyTaker(types),
    })
  }

  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof RabbitMqEventBusEvents>(
    name: K,
    listener: (event: RabbitMqEventBusEvents[K]) => void,
  ): Unsubscribe {
    return this.#events.on(name, listener)
  }

  publish(messages: OutgoingMessageOf<Messages> | readonly OutgoingMessageOf<Messages>[]): Promise<void> {
    const list = messages as OutgoingMessage | readonly OutgoingMessage[]
    return this.#outbound.publish(list, (sealed) => {
      if (this.#closed) throw new ClosedError('the event bus is closed')
      return this.#publisher.publish(sealed)
    })
  }

  async subscribe<Type extends keyof Messages & string, Tx = undefined>(
    options: SubscribeOptions<Messages, Type, Tx>,
  ): Promise<BusSubscription> {
    const { name, order } = groupOf(options)
    if (this.#closing) throw new ClosedError('the event bus is closed')
    let group: RabbitMqGroup | undefined // known when the broker has said what it is; options are checked before
    const subscription = new Subscription(
      options as unknown as SubscribeOptions,
      {
        name,
        settle: (...how) => group?.settle(...how),
        giveBack: (delivery) => group?.giveBack(delivery),
        leave: (leaver) => group?.leave(leaver),
        told: async () => {
          await group?.told(subscription)
          this.#subscriptions.delete(subscription)
        },
      },
      this.#surroundings,
    )
    const types = subscription.types ? [...subscription.types].toSorted() : null
    this.#groups.get(name)?.check(subscription)
    const record = await enterGroup(this.#surroundings, this.#prefix, { group: name, order, types, ...this.#wanted })
    group = this.#group(record)
    this.#subscriptions.add(subscription)
    try {
      await group.join(subscription)
      if (this.#closing) throw new ClosedError('the event bus is closed')
      return subscription
    } catch (error) {
      void subscription.close()
      throw error
    }
  }

  deadLetters(group: string): DeadLetters<Messages> {
    return rabbitMqDeadLetters(this.#surroundings, this.#prefix, group) as DeadLetters<Messages>
  }

  async deleteGroup(name: string): Promise<void> {
    if (this.#groups.get(name)?.isOpen) invalid('group', 'one without open subscriptions', name)
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
    await this.#outbound.handedOver()
    this.#closed = true
    await this.#publisher.idle()
    await Promise.all([this.#link.close(), this.#sender.close()])
  }

  /** The group as its record says it is. */
  #group(record: GroupRecord): RabbitMqGroup {
    const known = this.#groups.get(record.group)
    if (known && (known.isOpen || JSON.stringify(known.record) === JSON.stringify(record))) return known
    const group = new RabbitMqGroup(record, this.#surroundings)
    this.#groups.set(record.group, group)
    return group
  }

  #onlyTaker(types: readonly string[]): string | undefined {
    const takers = [...this.#groups.values()].filter(
      ({ record }) => !record.types || types.some((type) => record.types?.includes(type)),
    )
    return takers.length === 1 ? takers[0]?.name : undefined
  }
}
