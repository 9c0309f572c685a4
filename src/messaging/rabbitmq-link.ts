import type { Clock } from '../kernel/clock.js'
import { ClosedError, StoreError } from '../kernel/errors.js'
import { codeOf, hangUp, inTime, mayPass, RESOURCE_LOCKED } from './rabbitmq-answers.js'
import type { AmqpChannel, AmqpConnection } from './rabbitmq-client.js'
import { Session } from './rabbitmq-session.js'

/** Longest wait between two tries to connect. */
const LONGEST_PAUSE_MS = 5_000

/** How long to wait for a lock that somebody holds before trying again. */
const LOCKED_MS = 20

/** What a link needs. */
export interface LinkOptions {
  readonly connect: () => Promise<AmqpConnection>
  /** Declares what every session needs. */
  readonly prepare: (channel: AmqpChannel) => Promise<unknown>
  /** There is a connection again, before anybody uses it. */
  readonly onReturn: () => void
  /** It was lost, or could not be made. */
  readonly onChange: (error: unknown) => void
  readonly clock: Clock
  readonly timeoutMs: number
}

/** Keeps a connection: makes it when it is needed, and again, with growing waits, when it was lost. */
export class Link {
  #session: Session | undefined
  #opening: Promise<Session> | undefined
  #closed = false
  /** There was a connection before. */
  #returns = false
  /** Why there is none. */
  #why: unknown
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
    return inTime(this.next(), this.options, () => this.#why)
  }

  /** The session that stands, or the next, however long that takes. */
  next(): Promise<Session> {
    if (this.#session) return Promise.resolve(this.#session)
    return (this.#opening ??= this.#open().finally(() => (this.#opening = undefined)))
  }

  /** {@link Session.use} of the session that stands, or the next. */
  async use<T>(work: (channel: AmqpChannel) => Promise<T>): Promise<T> {
    return (await this.session()).use(work)
  }

  /**
   * Runs `work` while nobody else, in any process, holds the lock of this name. The lock is a queue that belongs to the connection, so it
   * ends with its owner; and `work` is to use this connection alone.
   */
  async exclusively<T>(name: string, work: (session: Session) => Promise<T>): Promise<T> {
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
    hangUp(connection)
  }

  async #locked<T>(name: string, work: (session: Session) => Promise<T>): Promise<T> {
    const { clock, timeoutMs } = this.options
    const late = clock.now() + timeoutMs
    for (let pauseMs = LOCKED_MS; ; await this.pause(pauseMs)) {
      const session = await this.session()
      const remove = (): Promise<unknown> => session.use((channel) => channel.deleteQueue(name)).catch(() => {}) // it has ended with its connection
      try {
        await session.use((channel) => channel.assertQueue(name, { exclusive: true, durable: false }))
      } catch (error) {
        if (this.#closed || clock.now() > late || !mayPass(error)) throw error
        const isLocked = codeOf(error) === RESOURCE_LOCKED
        if (!isLocked) void remove() // it may be there all the same
        pauseMs = isLocked ? LOCKED_MS : Math.min(LONGEST_PAUSE_MS, pauseMs * 2)
        continue
      }
      try {
        return await work(session)
      } finally {
        await remove()
      }
    }
  }

  async #open(): Promise<Session> {
    for (let pauseMs = 50; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2)) {
      if (this.#closed) throw new ClosedError('the event bus is closed')
      try {
        return await this.#connect()
      } catch (error) {
        if (this.#closed) throw error
        this.#tell(error)
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
    const session = new Session(connection, this.options, (why) => {
      if (this.#session !== session) return // it never stood
      this.#session = undefined
      if (!this.#closed) this.#tell(why)
    })
    try {
      await session.open(this.options.prepare)
      if (this.#closed) throw new ClosedError('the event bus is closed')
      if (!session.alive) throw new StoreError('RabbitMQ: the connection ended as soon as it was made')
    } catch (error) {
      session.end(error)
      throw error
    }
    this.#session = session
    if (this.#returns) this.options.onReturn()
    this.#returns = true
    return session
  }

  #tell(why: unknown): void {
    this.#why = why
    this.options.onChange(why)
  }
}

/** The connections of a bus: a broker that blocks publishers does not hear, on a connection that publishes, that messages are done. */
export interface Lines {
  /** For all but publishing. */
  readonly link: Link
  /** For publishing. */
  readonly sender: Link
}
