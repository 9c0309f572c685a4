import type { Event, Recorded } from './event.js'
import type { Query } from './store.js'
import type { Subscription, SubscriptionOptions } from './subscription.js'

/** What a projection is given beside the events. */
export interface Context<Tx> {
  /** The transaction in which the checkpoint moves: what is written in it is committed with it, or not at all. */
  readonly tx: Tx
  /**
   * Whether this revision is not the live one: side effects (mails, messages) are the live one's, so leave them out. Of what
   * is committed, each event is projected with `false` exactly once, by whichever revision is live; so a side effect written in `tx`
   * (an outbox) happens once, any other at least once.
   */
  readonly replaying: boolean
  /** Which try of these events it is, from 1. */
  readonly attempt: number
  /** Aborts when the work should stop: `stop()` was called, or another owner took over. */
  readonly signal: AbortSignal
  /** What `table` is called in this revision, ready for use in a statement: `"holdfast"."totals_v2"`. */
  readonly name: (table: string) => string
}

/** A read model: tables, and how events change them. */
export interface Projection<E extends Event, Tx> {
  /** Its own among all projections of a database. Any string that is not empty. */
  readonly name: string
  /** Of the tables and the code that fills them: a change of either is a new revision, made by `rebuild`. Integer ≥ 1. @defaultValue 1 */
  readonly revision?: number | undefined
  /** Which events it wants: their types, or a query. */
  readonly on: readonly E['type'][] | Query
  /** Makes the tables. Runs once per revision, however many processes start, in a transaction of its own. */
  setup?(context: Context<Tx>): Promise<void> | void
  /** Removes what `setup` made, when the revision is discarded. @defaultValue drops the tables that `setup` asked the name of */
  drop?(context: Context<Tx>): Promise<void> | void
  /**
   * Takes events into the read model, in order of position, at least one; the checkpoint moves in the same transaction. When it
   * throws, all is rolled back, and parts of the batch are tried until the one event is found that stands in the way.
   */
  project(events: readonly Recorded<E>[], context: Context<Tx>): Promise<void> | void
}

/** How a projection runs. `batch` is the most events per transaction. @defaultValue of `batch`: 1_000 */
export type ProjectionOptions = Omit<SubscriptionOptions, 'query' | 'partitions'>

/** How far a rebuild has come. */
export interface RebuildProgress {
  /** Everything up to here is in the new tables. */
  readonly position: number
  /** Where the log ends. */
  readonly head: number
  /** Positions per second since the rebuild was called here. */
  readonly perSecond: number
}

/** A revision that is built beside the live one. */
export interface Rebuild {
  /** Its work. When it ends, the rebuild stands still, and goes on with the next call of `rebuild` or `run`. */
  readonly subscription: Subscription
  /** How far it has come. */
  progress(): Promise<RebuildProgress>
  /**
   * Waits until the new revision has all that the live one has, and makes it the live one in one step: who reads by the
   * stable name sees the old tables or the new, never some of each. The old ones stay, and are kept up to date by whoever still
   * runs them: `rebuild` of the old revision and `activate` is the way back. Again, also from elsewhere at the same time: no effect.
   * @throws ClosedError when the subscription ended before, or `activate` of another revision was called since; the reason of `signal`. It
   * may still be switched then, if another process builds the same revision.
   */
  activate(options?: { readonly signal?: AbortSignal | undefined }): Promise<void>
  /**
   * Ends it and removes its tables and checkpoint. Whoever else builds it ends with NotFoundError.
   * @throws InvalidOptionError when it is the live revision: nothing was removed.
   */
  discard(): Promise<void>
}

/** Keeps read models. */
export interface Projector<E extends Event, Tx> {
  /**
   * Projects events in the transaction that appends them, by this process: when it throws, nothing is recorded. Every process that
   * appends has to call it. It is of the live revision, the first of its name: else every append fails with InvalidOptionError, for what
   * another one writes nobody would see.
   * @throws InvalidOptionError when the store has no inline projections, or one of this name is inline already. So do `run` and
   * `rebuild` of that name: they would project the same events once more.
   */
  inline<P extends E>(projection: Projection<P, Tx>): void
  /**
   * Projects what is there and what comes, exactly once, and starts at once. In whatever process: one works, the others stand
   * by. A revision that is not the live one is kept beside it, as by `rebuild`; the first of a name is live.
   * @throws InvalidOptionError when an option is out of its range, or the projection is inline here.
   */
  run<P extends E>(projection: Projection<P, Tx>, options?: ProjectionOptions): Subscription
  /** Begins, or goes on, to build another revision beside the live one. @throws InvalidOptionError as `run`. */
  rebuild<P extends E>(projection: Projection<P, Tx>, options?: ProjectionOptions): Promise<Rebuild>
  /** What the live revision of `name` has taken in; 0 before its first event. It is what {@link Subscription.reached} speaks of. */
  position(name: string): Promise<number>
}
