import { checkInteger, invalid, show } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, NotFoundError } from '../kernel/errors.js'
import type { Random } from '../kernel/random.js'
import type { DeadLetter, DeadLetters } from './dead-letters.js'
import { BacklogFullError, UnroutedError } from './errors.js'
import type { BusSubscription, EventBus, SubscribeOptions } from './event-bus.js'
import { commonOptions, groupOf, type EventBusOptions } from './event-bus-options.js'
import type { GroupStats, MemoryEventBusEvents } from './memory-events.js'
import { MemoryGroup } from './memory-group.js'
import { Subscription } from './subscription.js'
import type { MessageOf, OutgoingMessageOf } from './message.js'
import type { Outbound } from './outbound.js'
import type { StoredMessage } from './stored-message.js'

/** How a {@link MemoryEventBus} keeps messages. */
export type MemoryEventBusOptions<Messages extends object = Record<string, unknown>> = EventBusOptions<Messages>

/**
 * The bus in this process's memory: everything that {@link EventBus} promises, as long as the process lives. A message is
 * stored as the codec's text and read anew at each delivery, so that handlers see what a broker would bring them. `publish`
 * stores all messages or none.
 */
export class MemoryEventBus<Messages extends object = Record<string, unknown>> implements EventBus<Messages> {
  readonly #groups = new Map<string, MemoryGroup>()
  readonly #events = new Emitter<MemoryEventBusEvents>()
  readonly #outbound: Outbound
  readonly #maxBacklog: number
  readonly #rejectUnrouted: boolean
  readonly #clock: Clock
  readonly #random: Random
  #closing: Promise<void> | undefined
  #closed = false

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(options: MemoryEventBusOptions<Messages> = {}) {
    const { maxBacklog, rejectUnrouted, outbound, clock, random } = commonOptions(options)
    this.#maxBacklog = maxBacklog
    this.#rejectUnrouted = rejectUnrouted
    this.#outbound = outbound
    this.#clock = clock
    this.#random = random
  }

  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof MemoryEventBusEvents>(name: K, listener: (event: MemoryEventBusEvents[K]) => void): Unsubscribe {
    return this.#events.on(name, listener)
  }

  /** Where the messages of each group stand, in the order in which the groups came. */
  stats(): readonly GroupStats[] {
    return [...this.#groups.values()].map(({ stats }) => stats)
  }

  async publish(messages: OutgoingMessageOf<Messages> | readonly OutgoingMessageOf<Messages>[]): Promise<void> {
    return this.#outbound.publish(messages, (sealed) => this.#store(sealed))
  }

  async subscribe<Type extends keyof Messages & string, Tx = undefined>(
    options: SubscribeOptions<Messages, Type, Tx>,
  ): Promise<BusSubscription> {
    const { name, order } = groupOf(options)
    if (this.#closing) throw new ClosedError('the event bus is closed')
    const surroundings = { clock: this.#clock, random: this.#random, events: this.#events }
    const group = this.#groups.get(name) ?? new MemoryGroup(name, order, surroundings)
    if (group.order !== order) invalid('order', `${show(group.order)}, as group ${show(name)} has it`, order)
    const subscription = new Subscription(options as unknown as SubscribeOptions, group, surroundings)
    group.join(subscription)
    this.#groups.set(name, group)
    return subscription
  }

  deadLetters(group: string): DeadLetters<Messages> {
    const missing = (id: string): never => {
      throw new NotFoundError(`group ${show(group)} has no dead letter of a message ${show(id)}`)
    }
    return {
      list: async (limit = 100) => {
        checkInteger('limit', limit, 1)
        const letters = this.#groups.get(group)?.deadLetters(limit) ?? []
        return letters as DeadLetter[] as DeadLetter<MessageOf<Messages>>[]
      },
      requeue: async (id) => void (this.#groups.get(group)?.requeue(id) || missing(id)),
      drop: async (id) => void (this.#groups.get(group)?.drop(id) || missing(id)),
    }
  }

  async deleteGroup(name: string): Promise<void> {
    const group = this.#groups.get(name)
    if (group && group.subscriptions.length + group.stats.running > 0)
      invalid('group', 'one without open subscriptions', name)
    this.#groups.delete(name)
  }

  /**
   * Closes every subscription; handlers that still run may publish meanwhile. Then `publish` is refused. What was not
   * handled goes with the process; dead letters and {@link stats} can still be read.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    await Promise.all(
      [...this.#groups.values()].flatMap(({ subscriptions }) => [...subscriptions].map((s) => s.close())),
    )
    this.#closed = true
  }

  #store(messages: readonly StoredMessage[]): void {
    if (this.#closed) throw new ClosedError('the event bus is closed')
    const groups = [...this.#groups.values()]
    for (const group of groups) {
      const more = messages.filter(({ type }) => group.takes(type)).length
      if (more > 0 && group.held + more > this.#maxBacklog) throw new BacklogFullError(group.name, this.#maxBacklog)
    }
    const nobody = messages.filter(({ type }) => !groups.some((group) => group.takes(type)))
    if (this.#rejectUnrouted && nobody[0]) throw new UnroutedError(nobody[0].type)
    for (const message of messages) for (const group of groups) if (group.takes(message.type)) group.put(message)
    for (const { id, type } of nobody) this.#events.emit('unrouted', { id, type })
  }
}
