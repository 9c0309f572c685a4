import { show } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import type { Emitter } from '../kernel/emitter.js'
import { InvalidOptionError, isHoldfastError, NotFoundError, StoreError } from '../kernel/errors.js'
import type { Random } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import type { Delivery } from './backlog.js'
import { failureOf, type DeadLetter, type RecordedFailure } from './dead-letters.js'
import type { AmqpMessage } from './rabbitmq-client.js'
import type { RabbitMqEventBusEvents } from './rabbitmq-events.js'
import { asStoreError, codeOf, inTime, NOT_FOUND } from './rabbitmq-answers.js'
import type { Lines } from './rabbitmq-link.js'
import type { Session } from './rabbitmq-session.js'
import { OrderedFlow } from './rabbitmq-ordered.js'
import { PlainFlow } from './rabbitmq-plain.js'
import { Tap } from './rabbitmq-tap.js'
import { queueOf, restoreGroup, type GroupRecord } from './rabbitmq-topology.js'
import { fromMessage, groupNames, setApart, slotOf, toBody, type GroupNames, type Past } from './rabbitmq-wire.js'
import { sameTypes, type Outcome, type Subscription } from './subscription.js'
import { tellDeath, tellOutcome } from './telling.js'

/** Longest wait between two tries to consume. */
const LONGEST_PAUSE_MS = 5_000

/** First and longest wait between two tries to restore what is not consumed itself. */
const FIRST_RESTORE_MS = 1_000
const LONGEST_RESTORE_MS = 60_000

/** What a group needs of its bus. */
export interface GroupSurroundings extends Lines {
  readonly clock: Clock
  readonly random: Random
  readonly events: Emitter<RabbitMqEventBusEvents>
  readonly prefix: string
}

/** How deliveries come and go: side by side, or in order per key. */
export interface Flow {
  /** Begins to consume, for all subscriptions that there are. */
  open(tap: Tap): Promise<void>
  /** One more subscription, while a tap is open. */
  join(subscription: Subscription): Promise<void>
  /** One less: it is handed nothing more. */
  leave(subscription: Subscription): Promise<void>
  /** The tap has ended: what is not in a handler will come again. */
  reset(): void
  /** Its handler is done with it. */
  settle(delivery: Delivery, outcome: Outcome): void
  /** Its handler was given up. */
  giveBack(delivery: Delivery): void
}

/** The part of a group that is in this process: its subscriptions, the channel they share, and what they do with deliveries. */
export class RabbitMqGroup {
  /** Those that take messages. */
  readonly subscriptions: Subscription[] = []
  /** And those that are closing: with the last of them the channel ends. */
  readonly #members = new Set<Subscription>()
  readonly names: GroupNames
  readonly #flow: Flow
  /** What is under way to the broker. */
  readonly #work = new Set<Promise<unknown>>()
  #tap: Tap | undefined
  #opening: Promise<void> | undefined
  #restoring: Promise<void> | undefined
  /** Why it does not consume. */
  #why: unknown
  /** It has consumed before: then the topology may have gone meanwhile. */
  #opened = false
  /** The last subscription of an ordered group is closing. */
  #leaving: Promise<void> | undefined
  #left: (() => void) | undefined

  constructor(
    readonly record: GroupRecord,
    readonly surroundings: GroupSurroundings,
  ) {
    this.names = groupNames(surroundings.prefix, record.group)
    this.#flow = record.order === 'key' ? new OrderedFlow(this) : new PlainFlow(this)
  }

  get name(): string {
    return this.record.group
  }

  get isOpen(): boolean {
    return this.#members.size > 0
  }

  /** @throws InvalidOptionError when the subscription takes other types than those that are open. */
  check(subscription: Subscription): void {
    if (this.subscriptions[0] && !sameTypes(this.subscriptions[0].types, subscription.types))
      throw new InvalidOptionError(`types: the open subscriptions of group ${show(this.name)} take others`)
  }

  /** @throws StoreError when the broker does not answer. */
  async join(subscription: Subscription): Promise<void> {
    while (this.#leaving) await this.#leaving // or messages of one key would run here and there
    this.check(subscription)
    this.subscriptions.push(subscription)
    this.#members.add(subscription)
    const entered = inTime(this.#enter(subscription), this.surroundings.link.options, () => this.#why)
    await entered.catch((error: unknown) => {
      throw asStoreError(error)
    })
  }

  /** Sees to it that all that the group has is on the broker. @throws StoreError */
  restore(): Promise<void> {
    const { surroundings } = this
    return (this.#restoring ??= restoreGroup(surroundings, surroundings.prefix, this.record).finally(
      () => (this.#restoring = undefined),
    ))
  }

  leave(subscription: Subscription): void {
    const at = this.subscriptions.indexOf(subscription)
    if (at < 0) return
    this.subscriptions.splice(at, 1)
    this.track(inTime(this.#flow.leave(subscription), this.surroundings.link.options).catch(() => {})) // its channel's end does the rest
    if (this.record.order === 'key' && this.subscriptions.length === 0)
      this.#leaving ??= new Promise((resolve) => (this.#left = resolve))
  }

  /** A subscription that has left has nothing in a handler any more. Resolves when nothing is under way to the broker. */
  async told(subscription: Subscription): Promise<void> {
    do await Promise.all(this.#work)
    while (this.#work.size > 0 && this.#members.size === 1) // what the others of this process have under way never ends
    this.#members.delete(subscription)
    if (this.#members.size > 0) return
    const tap = this.#tap
    this.#tap = undefined
    this.#flow.reset()
    if (tap) await inTime(tap.close(), this.surroundings.link.options).catch(() => {})
    this.#leaving = undefined
    this.#left?.()
  }

  settle(delivery: Delivery, outcome: Outcome, attempt: number, durationMs: number): void {
    if (outcome.kind !== 'done') delivery.firstError ??= failureOf(outcome.error)
    this.#flow.settle(delivery, outcome)
    tellOutcome(this.surroundings.events, { group: this.name, attempt, durationMs }, delivery, outcome)
  }

  giveBack(delivery: Delivery): void {
    this.#flow.giveBack(delivery)
  }

  /** Keeps {@link told} waiting; never lets a failure go unheard. */
  track(work: Promise<unknown>): void {
    const quiet = work.catch(reportError).finally(() => this.#work.delete(quiet))
    this.#work.add(quiet)
  }

  /** The delivery that a message of this library is. */
  read(delivered: AmqpMessage): { readonly delivery: Delivery; readonly past: Past } {
    const { message, past } = fromMessage(delivered)
    const { attempts, firstError, previousMs } = past
    return { delivery: { message, attempts, firstError, previousMs }, past }
  }

  /** A delivery as it goes to another queue: with what it has been through. */
  body({ message, attempts, firstError, previousMs }: Delivery, more: Partial<Past> = {}): Buffer {
    return toBody(message, { attempts, firstError, previousMs, ...more })
  }

  /** Puts a message into a queue. @returns whether it is there; if not, it may be */
  async put(queue: string, body: Buffer, properties?: object): Promise<boolean> {
    const { link, sender } = this.surroundings
    let session: Session | undefined
    try {
      if (!link.now) return false // what this is about comes again
      session = sender.now ?? (await sender.session())
      const [receipt] = await session.publish([{ exchange: '', routingKey: queue, body, properties }])
      if (receipt === 'stored') return true
      this.tell(new StoreError(`RabbitMQ: queue ${show(queue)} does not take a message: ${receipt}`), session)
      if (receipt === 'unrouted') void this.restore().catch(() => {}) // it is gone; it was told, and is tried again
    } catch (error) {
      const parts = isHoldfastError(error, 'INVALID_PAYLOAD') && setApart(body) // too large with its past, it would never go
      if (parts) return this.put(queue, parts.body, { ...properties, headers: parts.headers })
      this.tell(error, session)
    }
    return false
  }

  /** Tells listeners of what went wrong while the connection stands. */
  tell(error: unknown, session: Session | undefined): void {
    if (session?.alive) this.surroundings.events.emit('error', { group: this.name, error: asStoreError(error) })
  }

  /** Puts a delivery among the dead letters. @returns whether it is there. */
  async bury(delivery: Delivery, reason: DeadLetter['reason'], error: unknown): Promise<boolean> {
    const { events, clock } = this.surroundings
    const queue = queueOf(this.record, this.names, slotOf(delivery.message.key, 0))
    const death = { reason, lastError: failureOf(error), diedAt: clock.epochMs(), queue }
    if (!(await this.put(this.names.dead, this.body(delivery, { death })))) return false
    tellDeath(events, this.name, delivery, { reason, error })
    return true
  }

  /** A message of somebody else: it dies as it is, for written anew it may be too large. @param reject leaves it to its main queue */
  disown(delivery: Delivery, { reason, lastError }: NonNullable<Past['death']>, reject: () => void): void {
    reject()
    tellDeath(this.surroundings.events, this.name, delivery, { reason, error: asError(lastError) })
  }

  /** Why a message can be handed to nobody; `undefined` when it can. */
  refusal(
    { message: { type } }: Delivery,
    { death }: Past,
  ): { reason: DeadLetter['reason']; error: Error } | undefined {
    if (death) return { reason: death.reason, error: asError(death.lastError) }
    const { types } = this.record
    if (!types || types.includes(type)) return undefined
    const error = new NotFoundError(`no open subscription of group ${show(this.name)} takes type ${show(type)}`)
    return { reason: 'unhandled', error }
  }

  /** Takes part, also when it came while the others were being served; harmless for one that does. */
  async #enter(subscription: Subscription): Promise<void> {
    const { link } = this.surroundings
    const isIn = (): boolean => this.subscriptions.includes(subscription)
    while ((this.#opening || !this.#tap) && isIn() && !link.closed) await this.#open()
    if (isIn()) await this.#flow.join(subscription)
  }

  /** Consumes, as soon as there is a connection, and as long as somebody is subscribed. */
  #open(): Promise<void> {
    return (this.#opening ??= this.#keepTrying().finally(() => (this.#opening = undefined)))
  }

  async #keepTrying(): Promise<void> {
    const { link } = this.surroundings
    let missing = false
    let again = this.#opened
    this.#opened = true
    for (
      let pauseMs = 20;
      this.subscriptions.length > 0 && !link.closed;
      pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
    ) {
      let session: Session | undefined
      let tap: Tap | undefined
      try {
        session = await link.next()
        if (missing) await this.restore()
        const channel = await inTime(session.connection.createChannel(), link.options)
        const mine = (tap = new Tap(channel, () => this.#lost(mine)))
        if (this.subscriptions.length === 0) {
          await inTime(tap.close(), link.options) // all have left: who consumed now would keep messages from other processes
          continue
        }
        this.#tap = tap
        await inTime(this.#flow.open(tap), link.options)
        this.#why = undefined
        // What is consumed is there; the rest of the topology may be gone, but that need not keep messages waiting.
        if (again && !missing) void this.#restoreBehind(mine, session)
        if (tap.alive) return
      } catch (error) {
        this.#why = session ? session.explain(error, tap?.why) : error
        if (missing || codeOf(this.#why) !== NOT_FOUND) this.tell(this.#why, session)
        missing ||= codeOf(this.#why) === NOT_FOUND
        again = true
        tap?.fail()
      }
      if (this.subscriptions.length > 0 && !link.closed) await link.pause(pauseMs)
    }
  }

  async #restoreBehind(tap: Tap, session: Session): Promise<void> {
    for (let pauseMs = FIRST_RESTORE_MS; tap.alive; pauseMs = Math.min(LONGEST_RESTORE_MS, pauseMs * 2)) {
      try {
        return await this.restore()
      } catch (error) {
        if (!tap.alive) return
        this.tell(error, session)
        await this.surroundings.link.pause(pauseMs)
      }
    }
  }

  #lost(tap: Tap): void {
    if (this.#tap !== tap) return
    this.#tap = undefined
    this.#flow.reset()
    if (!this.#opening && this.subscriptions.length > 0) void this.#open()
  }
}

const asError = ({ name, message }: RecordedFailure): Error => Object.assign(new Error(message), { name })
