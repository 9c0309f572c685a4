import type { Clock } from '../kernel/clock.js'
import { InvalidPayloadError, messageOf, StoreError } from '../kernel/errors.js'
import { Fifo } from './fifo.js'
import type { AmqpChannel, AmqpConfirmChannel, AmqpConnection, AmqpMessage } from './rabbitmq-client.js'
import { asStoreError, endChannel, explain, inTime, sizeLimitIn } from './rabbitmq-answers.js'

/** What became of a message that the broker has answered for. `'refused'`: a queue was full or gone; others may have it. */
export type Receipt = 'stored' | 'refused' | 'unrouted'

/** A message on its way. */
export interface Parcel {
  readonly exchange: string
  readonly routingKey: string
  readonly body: Buffer
  /** AMQP properties of its own. */
  readonly properties?: object | undefined
}

/** What a session needs. */
export interface SessionOptions {
  readonly clock: Clock
  readonly timeoutMs: number
}

/** Bytes that may be sent and not answered for, and bytes that may wait here to be sent. One call alone may be larger. */
const MOST_SENT = 100_000_000
const MOST_WAITING = 100_000_000
/** What a message takes beside its body, about. */
const OVERHEAD = 500

/** Messages of one call that have not all been answered for. */
interface Batch {
  readonly parcels: readonly Parcel[]
  readonly size: number
  /** By the monotonic clock. */
  readonly lateAt: number
  readonly receipts: Receipt[]
  left: number
  resolve(receipts: readonly Receipt[]): void
  reject(error: Error): void
}

const sizeOf = (parcels: readonly Parcel[]): number =>
  parcels.reduce((sum, { body }) => sum + body.length + OVERHEAD, 0)

/** One connection, from its beginning to its end. */
export class Session {
  /** The oldest first. */
  readonly #batches = new Set<Batch>()
  /** Those of them that are still to be sent. */
  #unsent = new Fifo<Batch>()
  #unsentSize = 0
  /** What the broker has not answered for; what was given up counts too, for it may lie in a buffer. */
  #sentSize = 0
  /** Numbers of messages that came back, as no queue takes them. */
  readonly #returned = new Set<string>()
  /** The channel of what is published; `undefined` when it has ended. */
  #channel: AmqpConfirmChannel | undefined
  /**
   * What takes its place, once. Opened before: amqplib would give a new channel the number of the one that has just ended, and of that
   * frames may still be on their way.
   */
  #reserve: AmqpConfirmChannel | undefined
  #last = 0
  #cancelWatch: (() => void) | undefined
  /** Why the broker takes nothing for now. */
  #blocked: string | undefined
  /** Larger bodies it has said that it does not take. */
  #mostBytes = Infinity
  #why: unknown
  #alive = true

  /** @param onEnd called once, when the connection is of no use any more. */
  constructor(
    readonly connection: AmqpConnection,
    private readonly options: SessionOptions,
    private readonly onEnd: (why: unknown) => void,
  ) {
    connection.on('error', (error: unknown) => (this.#why ??= error))
    // Channels end first, and one that the operator has closed has no 'error'.
    connection.on('close', (error: unknown) => {
      this.#why ??= error
      this.end(this.#why ?? new StoreError('RabbitMQ: the connection was closed'))
    })
    connection.on('blocked', (reason: unknown) => (this.#blocked = String(reason)))
    connection.on('unblocked', () => {
      this.#blocked = undefined
      this.#sendWaiting()
    })
  }

  get alive(): boolean {
    return this.#alive
  }

  /** Opens the channels of what is published. @throws what amqplib says, or a StoreError */
  async open(prepare?: (channel: AmqpChannel) => Promise<unknown>): Promise<void> {
    let why: unknown
    const create = async (): Promise<AmqpConfirmChannel> => {
      const channel = await inTime(this.connection.createConfirmChannel(), this.options)
      channel.on('error', (error: unknown) => (why = error))
      return channel
    }
    try {
      this.#reserve = await create()
      const channel = await create()
      if (prepare) await inTime(prepare(channel), this.options)
      this.#publishOn(channel, () => why)
    } catch (error) {
      throw this.explain(error, why)
    }
  }

  /**
   * Runs `work` with a channel that ends with it. It is listened to, for an 'error' without listener ends the process.
   * @throws StoreError with what the broker said.
   */
  async use<T>(work: (channel: AmqpChannel) => Promise<T>): Promise<T> {
    let channel: AmqpChannel | undefined
    let why: unknown
    try {
      channel = await inTime(this.connection.createChannel(), this.options)
      channel.on('error', (error: unknown) => (why = error))
      return await inTime(work(channel), this.options)
    } catch (error) {
      throw asStoreError(this.explain(error, why))
    } finally {
      if (channel) await inTime(endChannel(channel), this.options).catch(() => {})
    }
  }

  /** Why a call has failed: amqplib tells those that wait only that their channel has ended, and the reason, `why`, to its listeners. */
  explain(error: unknown, why?: unknown): unknown {
    return explain(error, why ?? this.#why)
  }

  /**
   * Sends messages, in the order of the calls: at once, or as soon as the broker takes more. @returns what the broker says of each
   * @throws StoreError when it does not answer for all of them: any may be stored.
   * @throws InvalidPayloadError when it takes no message of that size: others of the call may be stored.
   */
  publish(parcels: readonly Parcel[]): Promise<readonly Receipt[]> {
    return new Promise((resolve, reject) => {
      const left = parcels.length
      if (left === 0) return resolve([])
      if (!this.#alive) return reject(this.#unconfirmed(this.#why))
      const refusal = this.#refusal(parcels)
      if (refusal) return reject(refusal)
      const size = sizeOf(parcels)
      if (this.#mustWait && this.#unsentSize > 0 && this.#unsentSize + size > MOST_WAITING)
        return reject(new StoreError(`RabbitMQ: too much waits to be sent already${this.#state}`))
      const lateAt = this.options.clock.now() + this.options.timeoutMs
      const batch: Batch = { parcels, size, lateAt, receipts: [], left, resolve, reject }
      this.#batches.add(batch)
      this.#watch(batch)
      this.#unsent.push(batch)
      this.#unsentSize += size
      this.#sendWaiting()
    })
  }

  /** The connection is of no use any more. */
  end(why: unknown): void {
    if (!this.#alive) return
    this.#alive = false
    this.#why ??= why
    this.#cancelWatch?.()
    for (const batch of this.#batches) this.#fail(batch, this.#unconfirmed(why))
    this.connection.close().catch(() => {}) // it has ended already, most often
    this.onEnd(why)
  }

  get #mustWait(): boolean {
    return !this.#channel || this.#blocked !== undefined || this.#sentSize > MOST_SENT
  }

  /** What keeps messages from being answered for, as far as is known. */
  get #state(): string {
    return this.#blocked === undefined ? '' : `: the broker blocks publishers: ${this.#blocked}`
  }

  #unconfirmed(cause: unknown): StoreError {
    return new StoreError(`RabbitMQ: the connection ended before the broker confirmed: ${messageOf(cause)}`, { cause })
  }

  #refusal(parcels: readonly Parcel[]): InvalidPayloadError | undefined {
    const tooLarge = parcels.find(({ body }) => body.length > this.#mostBytes)
    if (!tooLarge) return undefined
    const limit = `it takes at most ${this.#mostBytes} (max_message_size)`
    return new InvalidPayloadError(`RabbitMQ will never take a message of ${tooLarge.body.length} bytes: ${limit}`)
  }

  #publishOn(channel: AmqpConfirmChannel, why: () => unknown): void {
    // A return comes before the confirm of the same message: that alone would call it stored.
    channel.on('return', ({ properties }: AmqpMessage) => this.#returned.add(String(properties.correlationId)))
    channel.on('close', () => {
      this.#channel = undefined
      queueMicrotask(() => this.#lost(why())) // by then the connection has said so if it ended
    })
    this.#channel = channel
    this.#sendWaiting()
  }

  #sendWaiting(): void {
    while (!this.#mustWait) {
      const batch = this.#unsent.shift()
      if (!batch) return
      this.#unsentSize -= batch.size
      this.#send(batch)
    }
  }

  #send(batch: Batch): void {
    const channel = this.#channel
    if (!channel) return
    batch.left = batch.parcels.length
    try {
      for (const [i, parcel] of batch.parcels.entries()) {
        this.#sentSize += parcel.body.length + OVERHEAD
        this.#sendOne(parcel, channel, (receipt) => {
          if (channel !== this.#channel) return // what it said when it ended
          this.#sentSize -= parcel.body.length + OVERHEAD
          batch.receipts[i] = receipt
          if (--batch.left === 0 && this.#batches.delete(batch)) batch.resolve(batch.receipts)
          if (this.#unsentSize > 0) this.#sendWaiting()
        })
      }
    } catch (error) {
      this.#fail(batch, this.#unconfirmed(this.explain(error)))
    }
  }

  #sendOne(
    { exchange, routingKey, body, properties }: Parcel,
    channel: AmqpConfirmChannel,
    answered: (receipt: Receipt) => void,
  ): void {
    const correlationId = `${++this.#last}`
    const options = { persistent: true, mandatory: true, correlationId, ...properties }
    channel.publish(exchange, routingKey, body, options, (error) => {
      // A channel that ends fails its messages just before it says so; what it says then is why.
      if (error) queueMicrotask(() => answered('refused'))
      else answered(this.#returned.delete(correlationId) ? 'unrouted' : 'stored')
    })
  }

  #fail(batch: Batch, error: Error): void {
    if (this.#batches.delete(batch)) batch.reject(error)
  }

  /** The channel of what is published has ended. */
  #lost(why: unknown): void {
    if (!this.#alive) return
    this.#mostBytes = sizeLimitIn(why) ?? this.#mostBytes
    let isTooLarge = false
    this.#unsent = new Fifo()
    this.#unsentSize = this.#sentSize = 0
    this.#returned.clear()
    for (const batch of this.#batches) {
      const refusal = this.#refusal(batch.parcels)
      if (refusal) {
        isTooLarge = true
        this.#fail(batch, refusal)
      } else {
        // The broker has dropped what came after the message that is too large, and does not say what it has of those before.
        this.#unsent.push(batch)
        this.#unsentSize += batch.size
      }
    }
    const reserve = this.#reserve
    this.#reserve = undefined
    if (isTooLarge && reserve) {
      let next: unknown
      reserve.on('error', (error: unknown) => (next = error))
      this.#publishOn(reserve, () => next)
    } else this.end(why ?? new StoreError('RabbitMQ: the channel was closed'))
  }

  /** One timer for all. */
  #watch(oldest: Batch): void {
    const { clock, timeoutMs } = this.options
    this.#cancelWatch ??= clock.setTimer(() => {
      this.#cancelWatch = undefined
      for (const batch of this.#batches) {
        if (batch.lateAt > clock.now()) return this.#watch(batch)
        this.#fail(batch, new StoreError(`RabbitMQ: no confirm in ${timeoutMs} ms${this.#state}`))
        if (this.#unsent.first !== batch) continue
        this.#unsent.shift()
        this.#unsentSize -= batch.size
      }
    }, oldest.lateAt - clock.now())
  }
}
