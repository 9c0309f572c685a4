import { show } from '../kernel/check.js'
import { jsonCodec } from '../kernel/codec.js'
import type { Emitter } from '../kernel/emitter.js'
import { ClosedError, InvalidOptionError, isHoldfastError, NotFoundError } from '../kernel/errors.js'
import { nameOf } from '../kernel/redis-names.js'
import type { RedisArg } from '../kernel/redis.js'
import type { Delivery } from './backlog.js'
import { failureOf, type DeadLetter } from './dead-letters.js'
import { RedisConsumer, type ConsumerSettings, type Employer } from './redis-consumer.js'
import type { RedisEventBusEvents } from './redis-events.js'
import type { RedisLink } from './redis-link.js'
import { keyName, metaOf, readDelivery, retryRecord, type DeliveryRow, type RedisDelivery } from './redis-rows.js'
import { sameTypes, type DeliverySource, type Outcome, type Subscription } from './subscription.js'
import { tellDeath, tellOutcome } from './telling.js'

/** The longest wait for the next attempt: beyond it the server's numbers are not exact. */
const LONGEST_WAIT_MS = 1e12

/** One group as this bus takes part in it: its subscriptions here share one consumer. */
export class RedisGroup implements DeliverySource, Employer {
  readonly #subscriptions: Subscription[] = []
  /** Deliveries in a handler, also of a subscription that is closing. */
  readonly #out = new Map<Delivery, Subscription>()
  readonly #consumer: RedisConsumer
  #types: ReadonlySet<string> | undefined
  #turn = 0

  constructor(
    readonly name: string,
    readonly order: 'key' | 'none',
    link: RedisLink,
    private readonly settings: ConsumerSettings & {
      readonly events: Emitter<RedisEventBusEvents>
      readonly deliveryLimit: number
    },
  ) {
    this.#consumer = new RedisConsumer(link, this, settings)
  }

  get subscriptions(): readonly Subscription[] {
    return this.#subscriptions
  }

  get places(): number {
    return this.#subscriptions.reduce((sum, { places }) => sum + Math.max(0, places), 0)
  }

  get isEmpty(): boolean {
    return this.#subscriptions.length === 0 && this.#out.size === 0
  }

  get meta(): string {
    return metaOf(this.order, this.#types)
  }

  /** @throws InvalidOptionError when the subscription does not fit the group: nothing changed. */
  async join(subscription: Subscription): Promise<void> {
    const { types } = subscription
    if (this.#subscriptions.length === 0) {
      const before = this.#types
      this.#types = types
      try {
        await this.#consumer.enter()
      } catch (error) {
        this.#types = before
        throw error
      }
    } else if (!sameTypes(this.#types, types)) {
      throw new InvalidOptionError(`types: the open subscriptions of group ${show(this.name)} take others`)
    }
    this.#subscriptions.push(subscription)
    this.#consumer.stir()
  }

  /** Makes the group again, which the server has lost. @throws StoreError when it does not answer. */
  async restore(): Promise<void> {
    try {
      if (this.#subscriptions.length > 0) await this.#consumer.enter()
    } catch (error) {
      if (isHoldfastError(error, 'STORE_FAILED')) throw error
      this.failed(error) // somebody has made another group of that name: not the publisher's trouble
    }
  }

  stir(): void {
    this.#consumer.stir()
  }

  told(): Promise<void> {
    return this.#consumer.told()
  }

  leave(subscription: Subscription): void {
    const at = this.#subscriptions.indexOf(subscription)
    if (at >= 0) this.#subscriptions.splice(at, 1)
  }

  settle(given: Delivery, outcome: Outcome, attempt: number, durationMs: number): void {
    const delivery = given as RedisDelivery
    if (outcome.kind === 'done') {
      this.#end('done', delivery)
    } else {
      delivery.firstError ??= failureOf(outcome.error)
      if (outcome.kind === 'dead') this.#bury(delivery, outcome.reason, outcome.error)
      else {
        const ms = Math.min(LONGEST_WAIT_MS, Math.ceil(outcome.afterMs))
        this.#end('later', delivery, ms, retryRecord(delivery.firstError, outcome.afterMs))
      }
    }
    tellOutcome(this.settings.events, { group: this.name, attempt, durationMs }, delivery, outcome)
  }

  giveBack(delivery: Delivery): void {
    this.#end('back', delivery as RedisDelivery)
  }

  deliver(rows: readonly DeliveryRow[]): void {
    for (const row of rows) {
      const delivery = this.#read(row)
      if (!delivery) continue
      const { type } = delivery.message
      const subscription = this.#nextFree()
      if (!subscription) this.#end('back', delivery)
      else if (this.#types && !this.#types.has(type)) {
        const error = new NotFoundError(`no open subscription of group ${show(this.name)} takes type ${show(type)}`)
        this.#bury(delivery, 'unhandled', error)
      } else if (delivery.attempts >= Math.max(this.settings.deliveryLimit, subscription.attempts)) {
        const error = new Error(`handed out ${delivery.attempts} times, and its handler killed, closed or too late`)
        this.#bury(delivery, 'attempts', error)
      } else {
        this.#out.set(delivery, subscription)
        void subscription.run(delivery)
      }
    }
  }

  lose(what: 'group' | 'lease'): void {
    const subscriptions = new Set(this.#out.values())
    this.#out.clear()
    const reason = new ClosedError(`group ${show(this.name)}: the message is no longer this consumer's`)
    for (const subscription of subscriptions) subscription.revoke(reason)
    this.settings.events.emit('lost', { group: this.name, what })
  }

  failed(error: unknown): void {
    this.settings.events.emit('error', { group: this.name, error })
  }

  /** `undefined` when its message is gone: then there is nothing to hand out, and its key must not wait for it. */
  #read(row: DeliveryRow): RedisDelivery | undefined {
    try {
      return readDelivery(row, this.#consumer.id)
    } catch (error) {
      this.failed(error)
      const [entry, , place, key] = row
      this.#consumer.end(['done', entry, place, key, 0, '', ''])
      return undefined
    }
  }

  #bury(delivery: RedisDelivery, reason: DeadLetter['reason'], error: unknown): void {
    const { attempts, message } = delivery
    const lastError = failureOf(error)
    const { firstError = lastError } = delivery
    this.#end(
      'dead',
      delivery,
      nameOf(message.id),
      jsonCodec.encode({ id: message.id, reason, attempts, firstError, lastError }),
    )
    tellDeath(this.settings.events, this.name, delivery, { reason, error })
  }

  #end(kind: string, delivery: RedisDelivery, a: RedisArg = '', b: RedisArg = ''): void {
    this.#out.delete(delivery)
    const { entry, place, message, attempts, consumer } = delivery
    if (consumer === this.#consumer.id) this.#consumer.end([kind, entry, place, keyName(message.key), attempts, a, b])
  }

  /** The one whose turn it is among the subscriptions with a free place. */
  #nextFree(): Subscription | undefined {
    const { length } = this.#subscriptions
    for (let i = 0; i < length; i++) {
      const at = (this.#turn + i) % length
      if (!this.#subscriptions[at]?.free) continue
      this.#turn = at + 1
      return this.#subscriptions[at]
    }
    return undefined
  }
}
