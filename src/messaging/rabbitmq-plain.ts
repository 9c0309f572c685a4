import type { Delivery } from './backlog.js'
import { Fifo } from './fifo.js'
import type { AmqpMessage } from './rabbitmq-client.js'
import type { Flow, RabbitMqGroup } from './rabbitmq-group.js'
import type { Tap } from './rabbitmq-tap.js'
import { declareDelay } from './rabbitmq-topology.js'
import { roundDelay } from './rabbitmq-wire.js'
import type { Outcome, Subscription } from './subscription.js'

/** The most that AMQP can count. */
const MOST = 65_535

/** After so long comes again what could not be moved to another queue. */
const AGAIN_MS = 1_000

interface Held {
  readonly message: AmqpMessage
  readonly tap: Tap
  readonly subscription: Subscription
}

/** Deliveries side by side: each subscription consumes for itself, as many at a time as it has places; what failed waits in a TTL queue. */
export class PlainFlow implements Flow {
  readonly #held = new Map<Delivery, Held>()
  /** Come, and no place free: only after the channel was lost while handlers ran. */
  readonly #waiting = new Map<Subscription, Fifo<[Delivery, Held]>>()
  readonly #cancel = new Map<Subscription, () => Promise<void>>()
  /** Waits whose queues are there, as far as is known: who finds one gone declares it again. */
  readonly #declared = new Set<number>()
  #tap: Tap | undefined

  constructor(private readonly group: RabbitMqGroup) {}

  async open(tap: Tap): Promise<void> {
    this.#tap = tap
    this.#declared.clear()
    await Promise.all(this.group.subscriptions.map((subscription) => this.join(subscription)))
  }

  async join(subscription: Subscription): Promise<void> {
    const tap = this.#tap
    if (!tap || this.#cancel.has(subscription)) return
    this.#cancel.set(subscription, async () => {})
    const cancel = await tap.consume(
      this.group.names.queue(0),
      Math.min(MOST, subscription.places + subscription.running),
      (message) => this.#receive(message, tap, subscription),
    )
    if (!this.group.subscriptions.includes(subscription)) return cancel()
    if (this.#tap === tap) this.#cancel.set(subscription, cancel)
  }

  async leave(subscription: Subscription): Promise<void> {
    const cancel = this.#cancel.get(subscription)
    this.#cancel.delete(subscription)
    const waiting = this.#waiting.get(subscription)
    this.#waiting.delete(subscription)
    await cancel?.()
    for (let next = waiting?.shift(); next; next = waiting?.shift()) next[1].tap.nack(next[1].message)
  }

  reset(): void {
    this.#tap = undefined
    this.#cancel.clear()
    this.#waiting.clear()
  }

  settle(delivery: Delivery, outcome: Outcome): void {
    const held = this.#held.get(delivery)
    if (!held) return
    this.#held.delete(delivery)
    if (held.tap.alive) {
      // After the end of its channel the message comes again as it was: whatever this handler did is old news.
      if (outcome.kind === 'done') held.tap.ack(held.message)
      else if (outcome.kind === 'retry') this.#answer(held, this.#later(delivery, outcome.afterMs))
      else this.#answer(held, this.group.bury(delivery, outcome.reason, outcome.error))
    }
    queueMicrotask(() => this.#pump(held.subscription)) // its place is free only then
  }

  giveBack(delivery: Delivery): void {
    const held = this.#held.get(delivery)
    this.#held.delete(delivery)
    if (held?.tap.alive) this.#answer(held, this.#again(delivery), 0)
  }

  #receive(message: AmqpMessage, tap: Tap, subscription: Subscription): void {
    if (!this.group.subscriptions.includes(subscription)) return tap.nack(message) // it was under way when that ended
    const { delivery, past } = this.group.read(message)
    if (past.death) return this.group.disown(delivery, past.death, () => tap.reject(message))
    const held = { message, tap, subscription }
    const refusal = this.group.refusal(delivery, past)
    if (refusal) return this.#answer(held, this.group.bury(delivery, refusal.reason, refusal.error))
    const waiting = this.#waiting.get(subscription) ?? new Fifo()
    this.#waiting.set(subscription, waiting)
    waiting.push([delivery, held])
    this.#pump(subscription)
  }

  #pump(subscription: Subscription): void {
    const waiting = this.#waiting.get(subscription)
    while (subscription.free) {
      const next = waiting?.shift()
      if (!next) return
      const [delivery, held] = next
      if (!held.tap.alive) continue
      this.#held.set(delivery, held)
      void subscription.run(delivery)
    }
  }

  /** The old copy goes when the new one is there; if that is not known, the old one comes again: not at once, it may be so for good. */
  #answer({ message, tap }: Held, moved: Promise<boolean>, againMs = AGAIN_MS): void {
    const answer = async (): Promise<void> => {
      if (await moved) return tap.ack(message)
      if (againMs > 0 && tap.alive) await this.group.surroundings.link.pause(againMs)
      tap.nack(message)
    }
    this.group.track(answer())
  }

  async #later(delivery: Delivery, afterMs: number): Promise<boolean> {
    const { group } = this
    delivery.previousMs = afterMs
    if (afterMs === 0) return this.#again(delivery)
    const ms = roundDelay(afterMs)
    if (!this.#declared.has(ms)) {
      const session = group.surroundings.link.now
      if (!session) return false
      try {
        await session.use((channel) => declareDelay(channel, group.names, ms))
      } catch (error) {
        group.tell(error, session)
        return false
      }
      this.#declared.add(ms)
    }
    if (await group.put(group.names.delay(ms), group.body(delivery))) return true
    this.#declared.delete(ms)
    return false
  }

  #again(delivery: Delivery): Promise<boolean> {
    return this.group.put(this.group.names.queue(0), this.group.body(delivery))
  }
}
