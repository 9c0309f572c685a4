import { checkMethods } from './check.js'
import { systemClock } from './clock.js'
import { messageOf } from './errors.js'
import { queryRows, shortName, type SqlQueryable } from './postgres.js'
import { reportError } from './report.js'

/** What we call of a `pg` Client that listens. */
export interface SqlListener extends SqlQueryable {
  /** As Node's EventEmitter: calls `listener` for each message of any channel. */
  on(event: 'notification', listener: (message: SqlNotification) => void): unknown
  /** Ends that. */
  removeListener(event: 'notification', listener: (message: SqlNotification) => void): unknown
}

/** A message of PostgreSQL, as `pg` gives it. */
export interface SqlNotification {
  /** Where it was sent. */
  readonly channel: string
  /** What was sent; empty when there is nothing. */
  readonly payload?: string | undefined
}

/** Shortest time between two messages: NOTIFY takes a lock of the whole server when it commits. */
const PAUSE_MS = 20
/** PostgreSQL takes messages of less than 8,000 bytes. */
const LONGEST = 7_900

/** Waits between tries to listen: each twice the last. */
const FIRST_WAIT_MS = 100
const LONGEST_WAIT_MS = 30_000

/** More of them at a time say no more than that there was too much. */
const MOST_MESSAGES = 8

/** The notes in as few messages as hold them; `['']`: there are none, or too many. */
function messagesOf(notes: readonly string[]): readonly string[] {
  const messages: string[][] = [[]]
  let bytes = 0
  for (const note of notes) {
    const more = Buffer.byteLength(JSON.stringify(note)) + 1
    if (more > LONGEST) return ['']
    if (bytes + more > LONGEST) {
      messages.push([])
      bytes = 0
    }
    bytes += more
    messages.at(-1)?.push(note)
  }
  return notes.length === 0 || messages.length > MOST_MESSAGES ? [''] : messages.map((each) => JSON.stringify(each))
}

/** What {@link messagesOf} made; `undefined` of a message that somebody else has sent: it must not end the process. */
function notesOf(message: string): readonly string[] | undefined {
  try {
    const notes: unknown = JSON.parse(message)
    return Array.isArray(notes) && notes.every((note) => typeof note === 'string') ? notes : undefined
  } catch {
    return undefined
  }
}

/** Tells other processes that something has changed, and hears it from them. Nothing depends on it: who polls misses nothing. */
export class Herald {
  readonly #channel: string
  #toldAt = -Infinity
  #due = false
  #notes: string[] = []
  #cancel = (): void => {}
  #listening: { cancel(): void } | undefined

  constructor(
    private readonly db: SqlQueryable,
    private readonly listener: SqlListener | undefined,
    private readonly tells: boolean,
    /** Any string: those hear each other who have the same. */
    channel: string,
    /** @param notes what was told, in its order; `undefined`: too much for a message */
    private readonly heard: (notes: readonly string[] | undefined) => void,
  ) {
    if (listener !== undefined) checkMethods('listener', listener, ['query', 'on', 'removeListener'])
    this.#channel = shortName(channel)
  }

  /** At once, or soon when it was told a moment ago. */
  tell(...notes: string[]): void {
    if (!this.tells) return
    this.#notes.push(...notes)
    if (this.#due) return
    this.#due = true
    const waitMs = Math.max(0, this.#toldAt + PAUSE_MS - systemClock.now())
    if (waitMs > 0) this.#cancel = systemClock.setTimer(() => this.#notify(), waitMs)
    else this.#notify()
  }

  /** From now on; again: no change. */
  listen(): void {
    if (!this.listener || this.#listening) return
    this.#listening = { cancel: () => {} }
    this.listener.on('notification', this.#hear)
    this.#subscribe(this.listener, this.#listening, FIRST_WAIT_MS)
  }

  /** Hears no more; what was yet to be told is told now. */
  stop(): void {
    this.#cancel()
    if (this.#due) this.#notify()
    if (!this.listener || !this.#listening) return
    this.#listening.cancel()
    this.#listening = undefined
    this.listener.removeListener('notification', this.#hear)
    queryRows(this.listener, `unlisten ${this.#channel}`).catch(() => {}) // a connection that is gone does not listen either
  }

  readonly #hear = ({ channel, payload }: SqlNotification): void => {
    if (channel === this.#channel) this.heard(payload ? notesOf(payload) : undefined)
  }

  #notify(): void {
    this.#due = false
    this.#toldAt = systemClock.now()
    const messages = messagesOf(this.#notes)
    this.#notes = []
    const statement = 'select pg_notify($1, message) from unnest($2::text[]) as message'
    queryRows(this.db, statement, [this.#channel, messages]).catch((error: unknown) => reportFailed(statement, error))
  }

  /** Until it has worked; only the first failure is reported. */
  #subscribe(listener: SqlListener, listening: { cancel(): void }, waitMs: number): void {
    const statement = `listen ${this.#channel}`
    const isFirst = waitMs === FIRST_WAIT_MS
    queryRows(listener, statement).then(
      () => {
        if (!isFirst && this.#listening === listening) this.heard(undefined) // what was told meanwhile
      },
      (error: unknown) => {
        if (this.#listening !== listening) return
        if (isFirst) reportFailed(statement, error)
        const again = (): void => this.#subscribe(listener, listening, Math.min(2 * waitMs, LONGEST_WAIT_MS))
        listening.cancel = systemClock.setTimer(again, waitMs)
      },
    )
  }
}

const reportFailed = (statement: string, error: unknown): void =>
  reportError(new Error(`${statement}: ${messageOf(error)}`))
