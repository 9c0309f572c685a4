import { messageOf } from '../kernel/errors.js'
import type { Checkpoints, Parked } from './checkpoints.js'
import type { Event, Recorded } from './event.js'
import type { Page } from './store.js'
import type { Handler } from './subscription.js'

/** How a page came out. Interrupted: the signal aborted, or part of the page is to be delivered again. */
export type Outcome<E extends Event> =
  | { readonly kind: 'done' | 'interrupted' }
  | { readonly kind: 'failed'; readonly event: Recorded<E>; readonly error: unknown; readonly attempt: number }

/**
 * Takes pages to a handler and moves the checkpoint, under one lease. After a failure the events before the failed one
 * are committed, and that one is tried alone: so nothing that was handled is handled again because of another event.
 */
export class Delivery<E extends Event, Tx> {
  /** The event that failed last, and how often. */
  #failing: { readonly position: number; readonly attempts: number } | undefined

  constructor(
    private readonly checkpoints: Checkpoints<Tx>,
    private readonly name: string,
    private readonly handler: Handler<E, Tx>,
    private readonly epoch: number,
    private readonly signal: AbortSignal,
    /** What is committed under this lease's name. */
    public position: number,
  ) {}

  async deliver(page: Page<E>): Promise<Outcome<E>> {
    const { events, to } = this.#part(page)
    let handled = 0
    let inTransaction = true
    let outcome: Outcome<E> = { kind: 'done' }
    const work = async (tx: Tx): Promise<void> => {
      inTransaction = tx !== undefined
      for (const event of events) {
        const attempt = this.#failing?.position === event.position ? this.#failing.attempts + 1 : 1
        if (this.signal.aborted) outcome = { kind: 'interrupted' }
        else {
          try {
            // oxlint-disable-next-line no-await-in-loop -- one event after the other
            await this.handler(event, { tx, attempt, signal: this.signal })
            handled++
            continue
          } catch (error) {
            outcome = this.signal.aborted ? { kind: 'interrupted' } : { kind: 'failed', event, error, attempt }
          }
        }
        throw UNDONE // so that the transaction is rolled back
      }
    }
    try {
      await this.#commit(to, work)
      if (this.#failing && to >= this.#failing.position) this.#failing = undefined
    } catch (error) {
      if (error !== UNDONE) throw error
      const last = events[handled - 1]
      if (!inTransaction && last) await this.#commit(last.position, async () => {})
    }
    const ended = outcome as Outcome<E>
    if (ended.kind !== 'failed') return ended
    const rolledBack = inTransaction && handled > 0 // with what stood before it: that goes first, and this try counts for nothing
    this.#failing = { position: ended.event.position, attempts: rolledBack ? ended.attempt - 1 : ended.attempt }
    return rolledBack ? { kind: 'interrupted' } : ended
  }

  /** Passes by the event that failed last: everything before it is committed. */
  async park({ position, streamId, version }: Recorded<E>, attempts: number, error: unknown): Promise<Parked> {
    const parked = { position, streamId, version, attempts, error: messageOf(error) }
    await this.checkpoints.park(this.name, this.epoch, this.position, parked)
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
    await this.checkpoints.commit(this.name, this.epoch, this.position, to, work)
    this.position = to
  }
}

const UNDONE = Symbol('undone')
