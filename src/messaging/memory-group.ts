import { show } from '../kernel/check.js'
import type { Emitter } from '../kernel/emitter.js'
import { InvalidOptionError, NotFoundError } from '../kernel/errors.js'
import { Backlog, type Delivery } from './backlog.js'
import { failureOf, type DeadLetter } from './dead-letters.js'
import type { GroupStats, MemoryEventBusEvents } from './memory-events.js'
import type { Message } from './message.js'
import { sameTypes, type DeliverySource, type Subscription, type Outcome, type Surroundings } from './subscription.js'
import { openMessage, type StoredMessage } from './stored-message.js'
import { tellDeath, tellOutcome } from './telling.js'

/** After so many deliveries the host gets a turn, so that messages that beget messages starve no timer and no socket. */
const BURST = 1_000

/** One group: its backlog, the subscriptions that share it, and the deliveries that sleep before they are tried again. */
export class MemoryGroup implements DeliverySource {
  readonly #backlog: Backlog
  readonly #subscriptions: Subscription[] = []
  /** Wakes each sleeper early. */
  readonly #sleeping = new Map<Delivery, () => void>()
  #types: ReadonlySet<string> | undefined = new Set()
  #turn = 0
  #burst = 0
  #scheduled = false

  constructor(
    readonly name: string,
    readonly order: 'key' | 'none',
    private readonly surroundings: Surroundings & { readonly events: Emitter<MemoryEventBusEvents> },
  ) {
    this.#backlog = new Backlog(order)
  }

  get subscriptions(): readonly Subscription[] {
    return this.#subscriptions
  }

  /** How many messages it holds, the dead included. */
  get held(): number {
    return this.#backlog.held
  }

  get stats(): GroupStats {
    const { waiting, dead, held } = this.#backlog
    const retrying = this.#sleeping.size
    return { group: this.name, waiting, running: held - waiting - dead - retrying, retrying, dead }
  }

  takes(type: string): boolean {
    return !this.#types || this.#types.has(type)
  }

  put(message: StoredMessage): void {
    this.#backlog.put(message)
    this.#schedule()
  }

  /** @throws InvalidOptionError when the subscription does not fit the others: nothing changed. */
  join(subscription: Subscription): void {
    if (this.#subscriptions.length > 0 && !sameTypes(this.#types, subscription.types))
      throw new InvalidOptionError(`types: the open subscriptions of group ${show(this.name)} take others`)
    this.#types = subscription.types
    this.#subscriptions.push(subscription)
    this.#schedule()
  }

  leave(subscription: Subscription): void {
    const at = this.#subscriptions.indexOf(subscription)
    if (at >= 0) this.#subscriptions.splice(at, 1)
    if (this.#subscriptions.length === 0) for (const wake of [...this.#sleeping.values()].toReversed()) wake()
  }

  giveBack(delivery: Delivery): void {
    this.#backlog.giveBack(delivery)
    this.#schedule()
  }

  settle(delivery: Delivery, outcome: Outcome, attempt: number, durationMs: number): void {
    if (outcome.kind === 'done') {
      this.#backlog.done(delivery)
    } else {
      delivery.firstError ??= failureOf(outcome.error)
      if (outcome.kind === 'dead') this.#bury(delivery, outcome.reason, outcome.error)
      else this.#sleep(delivery, outcome.afterMs)
    }
    tellOutcome(this.surroundings.events, { group: this.name, attempt, durationMs }, delivery, outcome)
    this.#schedule()
  }

  deadLetters(limit: number): DeadLetter<Message>[] {
    const letters: DeadLetter<Message>[] = []
    for (const { delivery, reason, lastError, diedAt } of this.#backlog.graves()) {
      if (letters.length === limit) break
      const { attempts, firstError = lastError } = delivery
      const message = openMessage(delivery.message)
      const { id, headers } = message
      letters.push({ id, message, headers, reason, attempts, firstError, lastError, diedAt })
    }
    return letters
  }

  requeue(id: string): boolean {
    const found = this.#backlog.requeue(id)
    this.#schedule()
    return found
  }

  drop(id: string): boolean {
    return this.#backlog.drop(id)
  }

  #sleep(delivery: Delivery, ms: number): void {
    delivery.previousMs = ms
    // With nobody there to try again it waits in line, not on a timer that keeps the process alive.
    if (this.#subscriptions.length === 0) return this.#backlog.giveBack(delivery)
    const wake = (): void => {
      cancel()
      this.#sleeping.delete(delivery)
      this.giveBack(delivery)
    }
    const cancel = this.surroundings.clock.setTimer(wake, ms, { keepAlive: true })
    this.#sleeping.set(delivery, wake)
  }

  #bury(delivery: Delivery, reason: DeadLetter['reason'], error: unknown): void {
    const { events, clock } = this.surroundings
    this.#backlog.bury(delivery, { reason, lastError: failureOf(error), diedAt: new Date(clock.epochMs()) })
    tellDeath(events, this.name, delivery, { reason, error })
  }

  /** Deliveries begin in a turn of their own: never inside `publish`, nor inside the handler that has just ended. */
  #schedule(): void {
    if (this.#scheduled || this.#subscriptions.length === 0) return
    this.#scheduled = true
    const pump = (): void => {
      this.#scheduled = false
      this.#pump()
    }
    if (this.#burst < BURST) return queueMicrotask(pump)
    this.#burst = 0
    this.surroundings.clock.setTimer(pump, 0, { keepAlive: true })
  }

  #pump(): void {
    for (let at = this.#nextFree(); at !== undefined; at = this.#nextFree()) {
      if (this.#burst >= BURST) return this.#schedule()
      const delivery = this.#backlog.next()
      if (!delivery) return
      this.#burst++
      const { type } = delivery.message
      if (!this.takes(type)) {
        const error = new NotFoundError(`no open subscription of group ${show(this.name)} takes type ${show(type)}`)
        this.#bury(delivery, 'unhandled', error)
        continue
      }
      this.#turn = at + 1
      void this.#subscriptions[at]?.run(delivery)
    }
  }

  /** The one whose turn it is among the subscriptions with a free place. */
  #nextFree(): number | undefined {
    const { length } = this.#subscriptions
    for (let i = 0; i < length; i++) {
      const at = (this.#turn + i) % length
      if (this.#subscriptions[at]?.free) return at
    }
    return undefined
  }
}
