import { checkInteger, checkNumber, checkObject, checkString, invalid, show } from '../kernel/check.js'
import { settledWithin, type Clock } from '../kernel/clock.js'
import { jsonCodec } from '../kernel/codec.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, isHoldfastError, NotFoundError } from '../kernel/errors.js'
import { randomId, type Random } from '../kernel/random.js'
import { hashTagged, textOf } from '../kernel/redis-names.js'
import { listen, type Listening, type RedisSubscriber } from '../kernel/redis-subscriber.js'
import { checkRedisClient, sendRedis, type RedisClient } from '../kernel/redis.js'
import type { DeadLetter, DeadLetters } from './dead-letters.js'
import type { BusSubscription, EventBus, SubscribeOptions } from './event-bus.js'
import { commonOptions, groupOf, type EventBusOptions } from './event-bus-options.js'
import type { GroupStats } from './memory-events.js'
import type { MessageOf, OutgoingMessage, OutgoingMessageOf } from './message.js'
import type { Outbound } from './outbound.js'
import type { RedisEventBusEvents } from './redis-events.js'
import { RedisGroup } from './redis-group.js'
import { RedisLink } from './redis-link.js'
import { BusNames } from './redis-names.js'
import { RedisPublisher, type Route } from './redis-publisher.js'
import { metaOf, readMessage } from './redis-rows.js'
import { showMessage } from './stored-message.js'
import { Subscription } from './subscription.js'

export type { IoRedisSubscriber, NodeRedisSubscriber, RedisSubscriber } from '../kernel/redis-subscriber.js'
export type { RedisClient }
export type { RedisEventBusEvents } from './redis-events.js'

/** How a {@link RedisEventBus} keeps messages. */
export interface RedisEventBusOptions<
  Messages extends object = Record<string, unknown>,
> extends EventBusOptions<Messages> {
  /**
   * Stands before every key. Buses with the same namespace are one bus. All keys are in one slot of a Cluster.
   * @defaultValue `'holdfast:{bus}:'`
   */
  readonly namespace?: string | undefined
  /**
   * A client of its own that listens for news, such as `redis.duplicate({ autoResubscribe: false })`: messages are then taken as soon as
   * they come. It is never closed by the bus. @defaultValue none: the bus looks every `pollMs`
   */
  readonly subscriber?: RedisSubscriber | undefined
  /**
   * The longest wait between two looks for messages, in milliseconds, > 0; after some have come the waits are shorter.
   * @defaultValue 1_000 with a `subscriber`, else 100
   */
  readonly pollMs?: number | undefined
  /**
   * How long a process that has stopped answering keeps its messages before others get them, in milliseconds, ≥ 100. One that
   * lives renews every third of it, however long its handlers take. @defaultValue 10_000
   */
  readonly leaseMs?: number | undefined
  /**
   * How often a message is handed out, and its handler killed, closed or too late, before it is a dead letter: the end of messages that
   * end processes. What runs beside one counts too, so be generous. At least `retry.attempts`. Integer ≥ 1. @defaultValue 200
   */
  readonly deliveryLimit?: number | undefined
}

/**
 * The bus on Redis Streams, Redis ≥ 7.0, one server or Cluster: everything that {@link EventBus} promises, across processes. Each
 * message is stored once, until the last group has done with it; nothing is ever trimmed away. `publish` stores all messages or
 * none. Never blocks `client`, which may be shared. What Redis itself loses when it dies is lost: see `appendfsync`; and it must
 * not evict (`noeviction`).
 */
export class RedisEventBus<Messages extends object = Record<string, unknown>> implements EventBus<Messages> {
  readonly #groups = new Map<string, RedisGroup>()
  /** By group, while its first subscription here joins. */
  readonly #joining = new Map<string, Promise<unknown>>()
  readonly #listening = new Map<string, Listening>()
  readonly #events = new Emitter<RedisEventBusEvents>()
  readonly #client: RedisClient
  readonly #names: BusNames
  readonly #subscriber: RedisSubscriber | undefined
  readonly #outbound: Outbound
  readonly #publisher: RedisPublisher
  readonly #surroundings: {
    readonly clock: Clock
    readonly random: Random
    readonly leaseMs: number
    readonly pollMs: number
    readonly deliveryLimit: number
  }
  #closing: Promise<void> | undefined
  #closed = false

  /**
   * @param client stays the caller's, who closes it
   * @throws InvalidOptionError when an argument is of the wrong kind. Nothing is sent.
   */
  constructor(client: RedisClient, options: RedisEventBusOptions<Messages> = {}) {
    const { maxBacklog, rejectUnrouted, outbound, clock, random } = commonOptions(options)
    const { namespace = 'holdfast:{bus}:', subscriber, pollMs = subscriber ? 1_000 : 100 } = options
    const { leaseMs = 10_000, deliveryLimit = 200 } = options
    this.#client = checkRedisClient(client)
    this.#names = new BusNames(hashTagged(checkString('namespace', namespace, 0)))
    this.#subscriber = subscriber === undefined ? undefined : checkObject('subscriber', subscriber)
    this.#outbound = outbound
    this.#surroundings = {
      clock,
      random,
      leaseMs: checkInteger('leaseMs', leaseMs, 100),
      deliveryLimit: checkInteger('deliveryLimit', deliveryLimit, 1),
      pollMs: checkNumber('pollMs', pollMs, 1, 2 ** 31),
    }
    this.#publisher = new RedisPublisher(client, this.#names, {
      maxBacklog,
      rejectUnrouted,
      restore: (known, gone) => this.#restore(known, gone),
    })
  }

  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof RedisEventBusEvents>(name: K, listener: (event: RedisEventBusEvents[K]) => void): Unsubscribe {
    return this.#events.on(name, listener)
  }

  /** Where the messages of each group stand now, for all processes. @throws StoreError when Redis does not answer. */
  async stats(): Promise<readonly GroupStats[]> {
    const flat = await sendRedis(this.#client, 'hkeys', [this.#names.groups])
    const groups = (flat as string[]).filter((name) => name !== 'v').map(textOf)
    return Promise.all(groups.map((group) => new RedisLink(this.#client, this.#names, group).stats()))
  }

  /**
   * All that is published while a call is under way goes in the next one.
   * @throws InvalidOptionError also for more than 10,000 messages, or 100 million characters, at once: the server would do nothing else
   * for too long.
   */
  async publish(messages: OutgoingMessageOf<Messages> | readonly OutgoingMessageOf<Messages>[]): Promise<void> {
    const list = messages as OutgoingMessage | readonly OutgoingMessage[]
    const { groups, nobody } = await this.#outbound.publish(list, (sealed) => {
      if (this.#closed) throw new ClosedError('the event bus is closed')
      return this.#publisher.publish(sealed)
    })
    for (const group of groups) this.#groups.get(group)?.stir()
    for (const { id, type } of nobody) this.#events.emit('unrouted', { id, type })
  }

  async subscribe<Type extends keyof Messages & string, Tx = undefined>(
    options: SubscribeOptions<Messages, Type, Tx>,
  ): Promise<BusSubscription> {
    const { name, order } = groupOf(options)
    if (this.#closing) throw new ClosedError('the event bus is closed')
    const joined = (this.#joining.get(name) ?? Promise.resolve()).then(async () => {
      let group = this.#groups.get(name)
      if (group && group.order !== order && group.subscriptions.length > 0)
        invalid('order', `${show(group.order)}, as group ${show(name)} has it`, order)
      if (group?.order !== order) group = this.#newGroup(name, order)
      const subscription = new Subscription(options as unknown as SubscribeOptions, group, this.#surroundings)
      await group.join(subscription)
      this.#groups.set(name, group)
      if (this.#closed) {
        await subscription.close()
        throw new ClosedError('the event bus is closed')
      }
      if (this.#subscriber && !this.#listening.has(name)) this.#listen(name, this.#subscriber)
      return subscription
    })
    this.#joining.set(
      name,
      joined.catch(() => {}),
    )
    return joined
  }

  deadLetters(group: string): DeadLetters<Messages> {
    const link = new RedisLink(this.#client, this.#names, group)
    const exhume = async (id: string, what: 'requeue' | 'drop'): Promise<void> => {
      if (!(await link.exhume(id, what)))
        throw new NotFoundError(`group ${show(group)} has no dead letter of a message ${show(id)}`)
      this.#groups.get(group)?.stir()
    }
    return {
      list: async (limit = 100) => {
        const rows = await link.letters(checkInteger('limit', limit, 1))
        const letters = rows.flatMap(([entry, about, fields]) => {
          const known = jsonCodec.decode(about) as Omit<DeadLetter, 'message' | 'headers' | 'diedAt'>
          try {
            const message = showMessage(readMessage(fields, show(known.id)))
            const diedAt = new Date(Number(entry.split('-')[0]))
            return [{ ...known, message, headers: message.headers, diedAt }]
          } catch (error) {
            this.#events.emit('error', { group, error }) // there is nothing to show of it; `drop` forgets it
            return []
          }
        })
        return letters as DeadLetter[] as DeadLetter<MessageOf<Messages>>[]
      },
      requeue: (id) => exhume(id, 'requeue'),
      drop: (id) => exhume(id, 'drop'),
    }
  }

  async deleteGroup(name: string): Promise<void> {
    const open = (): never => invalid('group', 'one without open subscriptions', name)
    const group = this.#groups.get(name)
    if (group && group.subscriptions.length > 0) open()
    await group?.told()
    if (!(await new RedisLink(this.#client, this.#names, name).forget())) open()
    this.#groups.delete(name)
  }

  /**
   * Closes every subscription; handlers that still run may publish meanwhile. Then `publish` is refused. What was not handled
   * waits in Redis. A Redis that does not answer is waited for no longer than `leaseMs` each time.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    const { clock, leaseMs } = this.#surroundings
    await settledWithin(clock, leaseMs, Promise.all(this.#joining.values()))
    await Promise.all(
      [...this.#groups.values()].flatMap(({ subscriptions }) => [...subscriptions].map((s) => s.close())),
    )
    await this.#outbound.handedOver()
    this.#closed = true
    await settledWithin(clock, leaseMs, this.#publisher.idle())
    for (const { end } of this.#listening.values()) void end().catch(() => {})
    this.#listening.clear()
  }

  #newGroup(name: string, order: 'key' | 'none'): RedisGroup {
    const link = new RedisLink(this.#client, this.#names, name)
    return new RedisGroup(name, order, link, { ...this.#surroundings, events: this.#events })
  }

  /** Nobody waits for it: messages come all the same, by looking. */
  #listen(name: string, subscriber: RedisSubscriber): void {
    const listening = listen(subscriber, this.#names.channel(name), () => this.#groups.get(name)?.stir())
    this.#listening.set(name, listening)
    listening.begun.catch((error: unknown) => {
      this.#listening.delete(name)
      this.#events.emit('error', { group: name, error })
    })
  }

  async #restore(known: ReadonlySet<string>, gone: readonly Route[]): Promise<void> {
    const missing = [...this.#groups.values()].filter(
      ({ name, subscriptions }) => subscriptions.length > 0 && !known.has(name),
    )
    await Promise.all(missing.map((group) => group.restore()))
    // What is published before their consumers are back would go nowhere.
    const others = gone.filter(({ group }) => !missing.some(({ name }) => name === group))
    await Promise.all(
      others.map(({ group, order, types }) => {
        const meta = metaOf(order === 'k' ? 'key' : 'none', types)
        return new RedisLink(this.#client, this.#names, group).join(meta, randomId(), 1).catch((error: unknown) => {
          if (isHoldfastError(error, 'STORE_FAILED')) throw error // else they are back, and another one by now
        })
      }),
    )
  }
}
