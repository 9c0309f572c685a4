import type { Clock } from '../kernel/clock.js'
import { ClosedError, messageOf, StoreError } from '../kernel/errors.js'
import type { AmqpChannel, AmqpConfirmChannel, AmqpConnection, AmqpMessage } from './rabbitmq-client.js'

/** What became of a message that the broker has answered for. `'refused'`: a queue was full or gone; others may have it. */
export type Receipt = 'stored' | 'refused' | 'unrouted'

/** Longest wait between two tries to connect. */
const LONGEST_PAUSE_MS = 5_000

/** What a link needs. */
export interface LinkOptions {
  readonly connect: () => Promise<AmqpConnection>
  /** Declares what every session needs. */
  readonly prepare: (channel: AmqpChannel) => Promise<unknown>
  readonly onChange: (error: unknown) => void
  readonly clock: Clock
  readonly timeoutMs: number
}

/** Rejects with a StoreError when `promise` takes longer. */
export function inTime<T>(
  promise: Promise<T>,
  { clock, timeoutMs }: Pick<LinkOptions, 'clock' | 'timeoutMs'>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = (): void => reject(new StoreError(`RabbitMQ: no answer in ${timeoutMs} ms`))
    const cancel = clock.setTimer(late, timeoutMs, { keepAlive: true })
    promise.then(resolve, reject).finally(cancel)
  })
}

/** Ends a channel. Resolves also when its connection ends meanwhile: amqplib's own promise then never settles. Never rejects. */
export function endChannel(channel: Pick<AmqpChannel, 'on' | 'close'>): Promise<void> {
  return new Promise((resolve) => {
    channel.on('close', () => resolve())
    channel.close().then(resolve, () => resolve()) // the broker ends it when it refuses something
  })
}

/** A message on its way. */
export interface Parcel {
  readonly exchange: string
  readonly routingKey: string
  readonly body: Buffer
  /** AMQP properties of its own. */
  readonly properties?: object | undefined
}

/** Messages that were sent by one call and have not all been answered for. */
interface Batch {
  /** By the monotonic clock. */
  readonly lateAt: number
  fail(error: StoreError): void
}

/** One connection, from its beginning to its end. */
export class Session {
  /** The oldest first. */
  readonly #batches = new Set<Batch>()
  /** Numbers of messages that came back, as no queue takes them. */
  readonly #returned = new Set<string>()
  #last = 0
  #cancelWatch: (() => void) | undefined
  alive = true

  constructor(
    readonly connection: AmqpConnection,
    private readonly channel: AmqpConfirmChannel,
    private readonly options: LinkOptions,
  ) {
    // A return comes before the confirm of the same message: that alone would call it stored.
    channel.on('return', ({ properties }: AmqpMessage) => this.#returned.add(String(properties.correlationId)))
  }

  /**
   * Sends messages, at once: calls keep their order. @returns what the broker says of each
   * @throws StoreError when it does not answer for all of them: any may be stored.
   */
  publish(parcels: readonly Parcel[]): Promise<readonly Receipt[]> {
    return new Promise((resolve, reject) => {
      const receipts: Receipt[] = []
      let left = parcels.length
      if (left === 0) return resolve(receipts)
      if (!this.alive) return reject(lost(undefined))
      const batch: Batch = {
        lateAt: this.options.clock.now() + this.options.timeoutMs,
        fail: (error) => {
          if (this.#batches.delete(batch)) reject(error)
        },
      }
      this.#batches.add(batch)
      this.#watch(batch)
      const answered = (i: number, receipt: Receipt): void => {
        receipts[i] = receipt
        if (--left === 0 && this.#batches.delete(batch)) resolve(receipts)
      }
      try {
        for (const [i, parcel] of parcels.entries()) this.#send(parcel, (receipt) => answered(i, receipt))
      } catch (error) {
        batch.fail(lost(error))
      }
    })
  }

  /** The connection is of no use any more. */
  end(why: unknown): void {
    if (!this.alive) return
    this.alive = false
    this.#cancelWatch?.()
    for (const batch of this.#batches) batch.fail(lost(why))
    this.connection.close().catch(() => {}) // it has ended already, most often
  }

  #send({ exchange, routingKey, body, properties }: Parcel, answered: (receipt: Receipt) => void): void {
    const correlationId = `${++this.#last}`
    const options = { persistent: true, mandatory: true, correlationId, ...properties }
    this.channel.publish(exchange, routingKey, body, options, (error) => {
      // A channel that ends fails its messages just before it says so; what it says then is why.
      if (error) queueMicrotask(() => answered('refused'))
      else answered(this.#returned.delete(correlationId) ? 'unrouted' : 'stored')
    })
  }

  /** One timer for all. */
  #watch(oldest: Batch): void {
    const { clock, timeoutMs } = this.options
    this.#cancelWatch ??= clock.setTimer(() => {
      this.#cancelWatch = undefined
      for (const batch of this.#batches) {
        if (batch.lateAt > clock.now()) return this.#watch(batch)
        batch.fail(new StoreError(`RabbitMQ: no confirm in ${timeoutMs} ms`))
      }
    }, oldest.lateAt - clock.now())
  }
}

const lost = (cause: unknown): StoreError =>
  new StoreError(`RabbitMQ: the connection ended before the broker confirmed: ${messageOf(cause)}`, { cause })

/** Keeps a connection: makes it when it is needed, and again, with growing waits, when it was lost. */
export class Link {
  #session: Session | undefined
  #opening: Promise<Session> | undefined
  #closed = false
  readonly #locks = new Map<string, Promise<unknown>>()
  /** What ends the pauses that are under way. */
  readonly #pauses = new Set<() => void>()

  constructor(readonly options: LinkOptions) {}

  get closed(): boolean {
    return this.#closed
  }

  /** The session that stands now. */
  get now(): Session | undefined {
    return this.#session
  }

  /** The session that stands, or the next. @throws StoreError when there is none in time, ClosedError after {@link close}. */
  session(): Promise<Session> {
    if (this.#closed) return Promise.reject(new ClosedError('the event bus is closed'))
    if (this.#session) return Promise.resolve(this.#session)
    return inTime(this.next(), this.options)
  }

  /** The session that stands, or the next, however long that takes. */
  next(): Promise<Session> {
    if (this.#session) return Promise.resolve(this.#session)
    return (this.#opening ??= this.#open().finally(() => (this.#opening = undefined)))
  }

  /** A channel of the user's side errors: it is listened to, for an 'error' without listener ends the process. */
  async channel(): Promise<AmqpChannel> {
    const { connection } = await this.session()
    const channel = await inTime(connection.createChannel(), this.options)
    channel.on('error', () => {})
    return channel
  }

  /** Runs `work` with a channel that ends with it. @throws StoreError with what the broker said. */
  async use<T>(work: (channel: AmqpChannel) => Promise<T>): Promise<T> {
    let channel: AmqpChannel | undefined
    try {
      channel = await this.channel()
      return await inTime(work(channel), this.options)
    } catch (error) {
      throw asStoreError(error)
    } finally {
      if (channel) await inTime(endChannel(channel), this.options).catch(() => {})
    }
  }

  /**
   * Runs `work` while nobody else, in any process, holds the lock of this name. The lock is a queue that belongs to the connection, so it
   * ends with its owner.
   */
  async exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve()
    const mine = before.then(() => this.#locked(name, work))
    const quiet = mine.catch(() => {})
    this.#locks.set(name, quiet)
    try {
      return await mine
    } finally {
      if (this.#locks.get(name) === quiet) this.#locks.delete(name)
    }
  }

  /**
   * Waits before something is tried again, but not beyond {@link close}. Keeps the process alive, as a connection does: or one that only
   * subscribes would end as soon as its line is lost.
   */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        cancel()
        this.#pauses.delete(end)
        resolve()
      }
      const cancel = this.options.clock.setTimer(end, ms, { keepAlive: true })
      this.#pauses.add(end)
    })
  }

  /** Ends the connection. */
  async close(): Promise<void> {
    this.#closed = true
    for (const end of this.#pauses) end()
    const session = this.#session
    this.#session = undefined
    if (!session) return
    const { connection } = session
    const ended = new Promise<void>((resolve) => void connection.on('close', () => resolve())) // or close() never settles
    await inTime(Promise.race([connection.close(), ended]), this.options).catch(() => {})
    session.end(new ClosedError('the event bus was closed'))
  }

  async #locked<T>(name: string, work: () => Promise<T>): Promise<T> {
    const { clock, timeoutMs } = this.options
    const late = clock.now() + timeoutMs
    for (;;) {
      try {
        await this.use((channel) => channel.assertQueue(name, { exclusive: true, durable: false }))
        break
      } catch (error) {
        if (codeOf(error) !== RESOURCE_LOCKED || clock.now() > late) throw error
        await clock.sleep(20)
      }
    }
    try {
      return await work()
    } finally {
      await this.use((channel) => channel.deleteQueue(name)).catch(() => {}) // it has ended with its connection
    }
  }

  async #open(): Promise<Session> {
    for (let pauseMs = 50; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      if (this.#closed) throw new ClosedError('the event bus is closed')
      try {
        return await this.#connect()
      } catch (error) {
        if (this.#closed) throw error
        this.options.onChange(error)
        await this.pause(pauseMs)
      }
    }
  }

  async #connect(): Promise<Session> {
    const connecting = this.options.connect()
    const connection = await inTime(connecting, this.options).catch((error: unknown) => {
      connecting
        .then((late) => {
          late.on('error', () => {}) // without a listener it would end the process
          return late.close() // nobody waits for it any more
        })
        .catch(() => {})
      throw error
    })
    let session: Session | undefined
    let why: unknown = new StoreError('RabbitMQ: the connection was closed')
    const end = (error: unknown): void => {
      session?.end(error)
      if (!session || this.#session !== session) return
      this.#session = undefined
      if (!this.#closed) this.options.onChange(error)
    }
    connection.on('error', (error: unknown) => (why = error))
    connection.on('close', () => end(why))
    try {
      const channel = await inTime(connection.createConfirmChannel(), this.options)
      channel.on('error', (error: unknown) => (why = error))
      channel.on('close', () => end(why))
      await inTime(this.options.prepare(channel), this.options)
      session = new Session(connection, channel, this.options)
      if (this.#closed) throw new ClosedError('the event bus is closed')
      return (this.#session = session)
    } catch (error) {
      connection.close().catch(() => {})
      throw error
    }
  }
}

const RESOURCE_LOCKED = 405
/** The broker's reply code, which amqplib sets on its errors. */
export const codeOf = (error: unknown): unknown => {
  const { code, cause } = (error ?? {}) as { code?: unknown; cause?: { code?: unknown } }
  return typeof code === 'number' ? code : cause?.code
}

export const asStoreError = (error: unknown): Error =>
  error instanceof StoreError || error instanceof ClosedError || (error as { family?: unknown }).family !== undefined
    ? (error as Error)
    : new StoreError(`RabbitMQ: ${messageOf(error)}`, { cause: error })
