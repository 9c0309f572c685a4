import { checkMethods } from '../kernel/check.js'
import { systemClock } from '../kernel/clock.js'
import { messageOf } from '../kernel/errors.js'
import { queryRows, shortName, type SqlQueryable } from '../kernel/postgres.js'
import { reportError } from '../kernel/report.js'

/** What we call of a `pg` Client that listens. */
export interface SqlListener extends SqlQueryable {
  /** As Node's EventEmitter: calls `listener` for each message of any channel. */
  on(event: 'notification', listener: (message: { readonly channel: string }) => void): unknown
  /** Ends that. */
  removeListener(event: 'notification', listener: (message: { readonly channel: string }) => void): unknown
}

/** Shortest time between two messages: NOTIFY takes a lock of the whole server when it commits. */
const PAUSE_MS = 20

/** Tells other processes that something was appended, and hears it from them. Nothing depends on it: who polls misses nothing. */
export class Herald {
  readonly #channel: string
  #toldAt = -Infinity
  #due = false
  #cancel = (): void => {}
  #listening = false

  constructor(
    private readonly db: SqlQueryable,
    private readonly listener: SqlListener | undefined,
    private readonly tells: boolean,
    schema: string,
    private readonly heard: () => void,
  ) {
    if (listener !== undefined) checkMethods('listener', listener, ['query', 'on', 'removeListener'])
    this.#channel = shortName(schema)
  }

  /** At once, or soon when it was told a moment ago. */
  tell(): void {
    if (!this.tells || this.#due) return
    this.#due = true
    const waitMs = Math.max(0, this.#toldAt + PAUSE_MS - systemClock.now())
    if (waitMs > 0) this.#cancel = systemClock.setTimer(() => this.#notify(), waitMs)
    else this.#notify()
  }

  /** From now on; again: no change. */
  listen(): void {
    if (!this.listener || this.#listening) return
    this.#listening = true
    this.listener.on('notification', this.#hear)
    this.#ask(this.listener, `listen ${this.#channel}`)
  }

  stop(): void {
    this.#cancel()
    if (!this.listener || !this.#listening) return
    this.#listening = false
    this.listener.removeListener('notification', this.#hear)
    this.#ask(this.listener, `unlisten ${this.#channel}`)
  }

  readonly #hear = ({ channel }: { readonly channel: string }): void => {
    if (channel === this.#channel) this.heard()
  }

  #notify(): void {
    this.#due = false
    this.#toldAt = systemClock.now()
    this.#ask(this.db, `notify ${this.#channel}`)
  }

  #ask(on: SqlQueryable, statement: string): void {
    queryRows(on, statement).catch((error: unknown) => reportError(new Error(`${statement}: ${messageOf(error)}`)))
  }
}
