import { messageOf } from '../kernel/errors.js'
import type { Checkpoints, Parked } from './checkpoints.js'
import { isRefusedAtItsEnd, type Course, type Outcome, type Step } from './course.js'
import type { Event, Recorded } from './event.js'
import type { Pages } from './pages.js'
import type { Page } from './store.js'
import type { Handler } from './subscription.js'

/** Under what a course commits. */
export interface Commits<Tx> {
  readonly checkpoints: Checkpoints<Tx>
  readonly name: string
  readonly epoch: number
  readonly signal: AbortSignal
}

/**
 * Takes pages to a handler and moves the checkpoint, under one lease. After a failure the events before the failed one
 * are committed, and that one is tried alone: so nothing that was handled is handled again because of another event.
 */
export class Delivery<E extends Event, Tx> implements Course<E> {
  /** The event that failed last, and how often. */
  #failing: { readonly position: number; readonly attempts: number } | undefined

  constructor(
    private readonly pages: Pages<E>,
    private readonly commits: Commits<Tx>,
    private readonly handler: Handler<E, Tx>,
    public position: number,
  ) {}

  async step(): Promise<Step<E>> {
    const page = await this.pages.after(this.position)
    if (page.next <= this.position) return { kind: 'idle', head: page.head }
    return { ...(await this.#deliver(page)), head: page.head }
  }

  async #deliver(page: Page<E>): Promise<Outcome<E>> {
    const { events, to } = this.#part(page)
    const { signal } = this.commits
    let handled = 0
    let inTransaction = true
    let outcome: Outcome<E> = { kind: 'done' }
    const work = async (tx: Tx): Promise<void> => {
      inTransaction = tx !== undefined
      for (const event of events) {
        const attempt = this.#failing?.position === event.position ? this.#failing.attempts + 1 : 1
        if (signal.aborted) outcome = { kind: 'interrupted' }
        else {
          try {
            // oxlint-disable-next-line no-await-in-loop -- one event after the other
            await this.handler(event, { tx, attempt, signal })
            handled++
            continue
          } catch (error) {
            outcome = signal.aborted ? { kind: 'interrupted' } : { kind: 'failed', event, error, attempt }
          }
        }
        throw UNDONE // so that the transaction is rolled back
      }
    }
    try {
      await this.#commit(to, work)
      if (this.#failing && to >= this.#failing.position) this.#failing = undefined
    } catch (error) {
      if (error !== UNDONE) return this.#refused(events, error)
      const last = events[handled - 1]
      if (!inTransaction && last) await this.#commit(last.position, async () => {})
    }
    const ended = outcome as Outcome<E>
    if (ended.kind !== 'failed') return ended
    const rolledBack = inTransaction && handled > 0 // with what stood before it: that goes first, and this try counts for nothing
    this.#failing = { position: ended.event.position, attempts: rolledBack ? ended.attempt - 1 : ended.attempt }
    return rolledBack ? { kind: 'interrupted' } : ended
  }

  /** A commit failed. When what the handlers have written is to blame, the events are tried one by one until it is known which. */
  #refused([first, second]: readonly Recorded<E>[], error: unknown): Outcome<E> {
    if (!first || !isRefusedAtItsEnd(error)) throw error
    const attempt = this.#failing?.position === first.position ? this.#failing.attempts + 1 : 1
    this.#failing = { position: first.position, attempts: second ? 0 : attempt }
    return second ? { kind: 'interrupted' } : { kind: 'failed', event: first, error, attempt }
  }

  async park({ position, streamId, version }: Recorded<E>, attempts: number, error: unknown): Promise<Parked> {
    const parked = { position, streamId, version, attempts, error: messageOf(error) }
    await this.commits.checkpoints.park(this.commits.name, this.commits.epoch, this.position, parked)
    this.position = position
    this.#failing = undefined
    return parked
  }

  /** The part of a page that goes into one commit: all of it, or what stands before a failed event, or that one alone. */
  #part({ events, next }: Page<E>): { events: readonly Recorded<E>[]; to: number } {
    const failing = this.#failing?.position
    if (failing === undefined || !events.some((event) => event.position === failing)) return { events, to: next }
    const before = events.filter((event) => event.position < failing)
    const part = before.length > 0 ? before : events.slice(0, 1)
    return { events: part, to: part.at(-1)?.position ?? next }
  }

  async #commit(to: number, work: (tx: Tx) => Promise<void>): Promise<void> {
    await this.commits.checkpoints.commit(this.commits.name, this.commits.epoch, this.position, to, work)
    this.position = to
  }
}

const UNDONE = Symbol('undone')
