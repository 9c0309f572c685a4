import type { Clock } from '../kernel/clock.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import type { Parked } from './checkpoints.js'
import type { Event, Recorded } from './event.js'
import type { Query } from './store.js'

/** What a handler is given beside the event. */
export interface HandlerContext<Tx = undefined> {
  /** The transaction in which the checkpoint moves: what is written in it is committed with it, or not at all. */
  readonly tx: Tx
  /** Which try of this event it is, from 1. Starts again in a new process. */
  readonly attempt: number
  /** Aborts when the work should stop: `stop()` was called, or another owner took over. */
  readonly signal: AbortSignal
}

/** Handles one event; the next one comes when it is done. */
export type Handler<E extends Event, Tx = undefined> = (
  event: Recorded<E>,
  context: HandlerContext<Tx>,
) => Promise<void> | void

/** How a subscription works. */
export interface SubscriptionOptions<E extends Event = Event> {
  /**
   * Where a name that has no checkpoint yet begins: at the first event, after the last, after a position, or at the first
   * event recorded at this moment or later (found by reading from the start). @defaultValue 'start'
   */
  readonly from?: 'start' | 'end' | number | Date | undefined
  /** Which events are handled. @defaultValue every event */
  readonly query?: Query | undefined
  /** Events per page and commit: the most that are repeated after a crash. Integer ≥ 1. @defaultValue 100 */
  readonly batch?: number | undefined
  /** Work in parts, shared out among all processes that run under this name. @defaultValue none: one process works at a time */
  readonly partitions?: Partitions<E> | undefined
  /** Milliseconds after which another process takes over from one that died. Renewed at a third. > 0. @defaultValue 10_000 */
  readonly leaseMs?: number | undefined
  /** What happens when a handler throws. @defaultValue 5 attempts, then 'stop' */
  readonly retry?: RetryRule | undefined
  /** Longest time between two looks, in milliseconds, when no hint comes. > 0. @defaultValue 500 */
  readonly pollMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/** Into which parts the work on a subscription is cut. The events of a part are handled in order, different parts side by side. */
export interface Partitions<E extends Event = Event> {
  /**
   * How many, each with a checkpoint `name#0`, `name#1`, … It stays for as long as the name: another number is refused. At most so many
   * processes share the work; each reads the whole log for every part it holds. Integer in [1, 1_024].
   */
  readonly count: number
  /** What must stay in order: events with the same key are in the same part. `(e) => e.streamId`. Must always say the same of an event. */
  by(event: Recorded<E>): string
}

/** What happens when a handler throws: other events wait meanwhile. */
export interface RetryRule {
  /** Tries per event, with 100 ms before the second, then twice as long each time, up to 5 s. Integer ≥ 1. @defaultValue 5 */
  readonly attempts?: number | undefined
  /**
   * What happens after the last try. `'stop'`: the subscription fails, its checkpoint stays before the event. `'park'`: the event is
   * noted (`checkpoints.parked(name)`) and passed by. @defaultValue 'stop'
   */
  readonly giveUp?: 'stop' | 'park' | undefined
}

/** What a subscription tells. */
export interface SubscriptionEvents {
  /** A handler threw (then with `event` and `attempt`), or a store failed; it will be tried again unless `failed` follows. */
  error: { readonly error: unknown; readonly event?: Recorded | undefined; readonly attempt: number }
  /** An event was passed by. */
  parked: Parked
  /** It has ended, by this error. Without a listener the error is reported as a warning of the process. */
  failed: { readonly error: unknown }
}

/** Work on every event of the log, in order of position. */
export interface Subscription {
  /** As given: the name of the checkpoint. */
  readonly name: string
  /** Everything up to here is done, as far as this process knows; with partitions: in the slowest of them. */
  readonly position: number
  /** `'standby'`: another owner works. `'live'`: it has seen the head of the log. */
  readonly state: 'standby' | 'catching-up' | 'live' | 'stopped' | 'failed'
  /** Positions between here and the head of the log: 0 when all is done, else at least the number of events to come. */
  lag(): Promise<number>
  /**
   * Resolves when everything up to `position` is done, here or (seen when looking next) by another owner.
   * @throws TimeoutError after `timeoutMs` milliseconds (≥ 0, default: never); ClosedError when the subscription has ended.
   */
  reached(position: number, timeoutMs?: number): Promise<void>
  /** Ends it when the event under way is handled, and gives the lease back. Again: the same. Never throws. */
  stop(): Promise<void>
  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof SubscriptionEvents>(name: K, listener: (event: SubscriptionEvents[K]) => unknown): Unsubscribe
  /** {@link stop}. */
  [Symbol.asyncDispose](): Promise<void>
}
