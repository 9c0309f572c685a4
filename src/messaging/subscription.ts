import type { Backoff } from '../kernel/backoff.js'
import { checkFunction, checkInteger, checkMethods, checkNumber, checkObject, invalid, show } from '../kernel/check.js'
import { settledWithin, type Clock } from '../kernel/clock.js'
import { ClosedError, familyOf, isHoldfastError } from '../kernel/errors.js'
import { CallContext } from '../kernel/policy.js'
import type { Random } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import { validate, type StandardSchema } from '../kernel/schema.js'
import type { Delivery } from './backlog.js'
import type { DeadLetter } from './dead-letters.js'
import type { BusSubscription, DeliveryContext, SubscribeOptions } from './event-bus.js'
import type { Inbox } from './inbox.js'
import { schemasByType, type Message } from './message.js'
import { openMessage } from './stored-message.js'

/** How a delivery ended. */
export type Outcome =
  | { readonly kind: 'done' }
  | { readonly kind: 'retry'; readonly error: unknown; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly error: unknown; readonly reason: DeadLetter['reason'] }

/** Where a subscription gets its deliveries and brings them back. */
export interface DeliverySource {
  /** The group. */
  readonly name: string
  settle(delivery: Delivery, outcome: Outcome, attempt: number, durationMs: number): void
  giveBack(delivery: Delivery): void
  leave(subscription: Subscription): void
  /** Resolves when the broker has been told of all that was settled and given back, or can't be told. Never rejects. */
  told?(): Promise<void>
}

/** What a subscription needs of the bus. */
export interface Surroundings {
  readonly clock: Clock
  readonly random: Random
}

/** Runs the handler: in its places, with its validators, by its rules for trying again. @internal */
export class Subscription implements BusSubscription {
  /** The types it takes; `undefined` takes all. */
  readonly types: ReadonlySet<string> | undefined
  readonly #running = new Map<Delivery, CallContext>()
  readonly #handle: (message: never, context: DeliveryContext) => unknown
  readonly #inbox: Inbox | undefined
  readonly #schemas: ReadonlyMap<string, StandardSchema>
  readonly #concurrency: number
  readonly #attempts: number
  readonly #backoff: Backoff
  readonly #retryOn: (error: unknown) => boolean
  readonly #graceMs: number
  #onIdle: (() => void) | undefined
  #closing: Promise<void> | undefined

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(
    options: Omit<SubscribeOptions, 'group' | 'order'>,
    private readonly source: DeliverySource,
    private readonly surroundings: Surroundings,
  ) {
    const { types, handle, concurrency = 10, retry = {}, inbox, schema = {}, graceMs = 10_000 } = options
    const { attempts = 5, backoff = defaultBackoff, retryOn = mayHelp } = checkObject('retry', retry)
    this.types = checkTypes(types)
    this.#handle = checkFunction('handle', handle)
    this.#inbox = inbox === undefined ? undefined : checkMethods('inbox', inbox as Inbox, ['once'])
    this.#concurrency = checkInteger('concurrency', concurrency, 1)
    this.#attempts = checkInteger('retry.attempts', attempts, 1)
    this.#backoff = checkFunction('retry.backoff', backoff)
    this.#retryOn = checkFunction('retry.retryOn', retryOn)
    this.#schemas = schemasByType(schema)
    this.#graceMs = checkNumber('graceMs', graceMs, 0)
  }

  get group(): string {
    return this.source.name
  }

  /** Deliveries before a failing message becomes a dead letter. */
  get attempts(): number {
    return this.#attempts
  }

  /** How many handlers run. */
  get running(): number {
    return this.#running.size
  }

  /** Whether it has a place for one more. */
  get free(): boolean {
    return this.#running.size < this.#concurrency
  }

  /** How many more handlers it has a place for. */
  get places(): number {
    return this.#concurrency - this.#running.size
  }

  /** Hands one delivery to the handler and brings back how it ended. Never rejects. */
  async run(delivery: Delivery): Promise<void> {
    const { clock } = this.surroundings
    const context = new CallContext(undefined, ++delivery.attempts)
    this.#running.set(delivery, context)
    const began = clock.now()
    const outcome = await this.#deliver(delivery, context)
    if (!this.#running.delete(delivery)) return // given back when the grace time ran out: this is old news
    this.source.settle(delivery, outcome, context.attempt, clock.now() - began)
    if (this.#running.size === 0) this.#onIdle?.()
  }

  /** The broker has taken back all that runs here, to hand it to somebody else: how it ends no longer counts. */
  revoke(reason: unknown): void {
    for (const [delivery, context] of [...this.#running]) {
      this.#running.delete(delivery)
      context.abort(reason)
    }
    this.#onIdle?.()
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    this.source.leave(this)
    if (this.#running.size > 0 && this.#graceMs > 0) {
      const idle = new Promise<void>((resolve) => (this.#onIdle = resolve))
      await settledWithin(this.surroundings.clock, this.#graceMs, idle)
    }
    // Backwards, for each goes to the front: so they wait in the order in which they were handed out.
    for (const [delivery, context] of [...this.#running].toReversed()) {
      this.#running.delete(delivery)
      this.source.giveBack(delivery)
      context.abort(new ClosedError(`the subscription of group ${show(this.group)} was closed`))
    }
    await this.source.told?.()
  }

  async #deliver(delivery: Delivery, context: CallContext): Promise<Outcome> {
    let message: Message
    try {
      message = openMessage(delivery.message)
      const schema = this.#schemas.get(message.type)
      if (schema) message = { ...message, data: await validate(schema, message.data, `message '${message.type}'`) }
    } catch (error) {
      if (isHoldfastError(error, 'INVALID_PAYLOAD')) return { kind: 'dead', error, reason: 'invalid' }
      return this.#failed(delivery, error) // what can't be read here may be read by the process of a newer version
    }
    try {
      await this.#call(message, context)
      return { kind: 'done' }
    } catch (error) {
      return this.#failed(delivery, error)
    }
  }

  async #call(message: Message, context: CallContext): Promise<void> {
    const { attempt } = context
    const given = (tx: unknown): DeliveryContext => ({
      attempt,
      get signal() {
        return context.signal
      },
      tx: tx as undefined,
    })
    const handle = async (tx?: unknown): Promise<void> => void (await this.#handle(message as never, given(tx)))
    await (this.#inbox ? this.#inbox.once(this.group, message.id, handle) : handle())
  }

  #failed(delivery: Delivery, error: unknown): Outcome {
    if (delivery.attempts >= this.#attempts) return { kind: 'dead', error, reason: 'attempts' }
    if (!this.#mayRetry(error)) return { kind: 'dead', error, reason: 'rejected' }
    return { kind: 'retry', error, afterMs: this.#waitMs(delivery, error) }
  }

  /** The user's rule; one that throws must not cost a message, so it counts as a yes. */
  #mayRetry(error: unknown): boolean {
    try {
      return this.#retryOn(error)
    } catch (thrown) {
      reportError(thrown)
      return true
    }
  }

  /** The user's wait; one that throws, or is no time, must not cost a message either. */
  #waitMs({ attempts, previousMs }: Delivery, error: unknown): number {
    const context = { previousMs, random: this.surroundings.random }
    try {
      return checkNumber('the result of retry.backoff', this.#backoff(attempts, error, context), 0)
    } catch (thrown) {
      reportError(thrown)
      return defaultBackoff(attempts, error, context)
    }
  }
}

const defaultBackoff: Backoff = (attempt, _error, { random }) =>
  Math.min(30_000, 200 * 2 ** (attempt - 1)) * (0.5 + random() / 2)

/** A payload or a name that is wrong once is wrong each time. */
const mayHelp = (error: unknown): boolean => familyOf(error) !== 'invalid'

function checkTypes(types: readonly string[] | '*'): ReadonlySet<string> | undefined {
  if (types === '*') return undefined
  if (Array.isArray(types) && types.length > 0 && types.every((type) => typeof type === 'string' && type !== ''))
    return new Set(types)
  return invalid('types', "'*' or an array of strings that are not empty, at least one", types)
}

/** Whether two subscriptions take the same. @internal */
export const sameTypes = (one: ReadonlySet<string> | undefined, other: ReadonlySet<string> | undefined): boolean =>
  one && other ? one.size === other.size && [...one].every((type) => other.has(type)) : one === other
