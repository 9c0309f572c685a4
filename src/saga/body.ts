import type { SqlQueryable, SqlResult } from '../kernel/postgres.js'

/** What a body hands to {@link BodyContext.emit}. */
export interface EmittedEvent {
  /** What happened; subscriptions choose by it. Not empty. */
  readonly type: string
  /** Anything the codec can store. */
  readonly data: unknown
  /** Messages of one key keep their order, where the bus can. */
  readonly key?: string | undefined
  /** What stands beside the data; `correlationId` is the saga unless given here. @defaultValue none */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** What every body of a saga is given. Take what you need by name: some of it is made when it is first read, and a spread copy lacks it. */
export interface BodyContext<Input, Results> {
  /** The id given to `run`. */
  readonly sagaId: string
  /** Where the node stands: names from the top joined by `/`; within a name `/` is `~1` and `~` is `~0`. */
  readonly path: string
  /** A copy of the saga's input, as it was stored. */
  readonly input: Input
  /** Copies of what earlier nodes of this and the outer scopes gave, by name. A parallel block gives an object of its branches. */
  readonly results: Results
  /** Idempotency key of this body: the same over all its attempts and crashes; run and compensation have one each. */
  readonly key: string
  /** The `key` of this node's `run`; in `run` itself the same as `key`. */
  readonly runKey: string
  /**
   * Grows with each change of owner. A callee that keeps the highest it has seen of this saga may refuse a smaller one. Integer ≥ 1; a new
   * saga under an old id begins at 1 again.
   */
  readonly fence: number
  /** Which start of this body this is, from 1; starts that a crash cut short count too. */
  readonly attempt: number
  /**
   * Aborts when the body should stop: its time is up, the saga turned back, this process is no longer the owner. Stop and
   * throw; a body that goes on for longer than `graceMs` is no longer listened to.
   */
  readonly signal: AbortSignal
  /**
   * Publishes `event` if this attempt succeeds: it is stored with the step's result in one write and published after it, at least
   * once, with an id that stays the same.
   * @throws InvalidOptionError when the orchestrator has no `bus`, or the event is none; InvalidPayloadError when `data` can't be stored.
   */
  emit(event: EmittedEvent): void
}

/** What `run` is given. */
export interface RunContext<Input, Results> extends BodyContext<Input, Results> {}

/** What `compensate` is given. */
export interface CompensateContext<Input, Results, Result> extends BodyContext<Input, Results> {
  /** `'unknown'`: the run timed out, was cut short or crashed, so it may or may not have had its effect. */
  readonly outcome: 'done' | 'unknown'
  /** What `run` gave; `undefined` when the outcome is `'unknown'`. */
  readonly result: Result | undefined
}

/** A transaction of the database that sagas are stored in. Whatever takes a connection with `query` takes it: the event store's `append`, an outbox. */
export interface SagaTransaction extends SqlQueryable {
  /** Runs one statement, `$1` standing for the first of `params`. `rowCount`: the rows that it gave, or changed. */
  query(text: string, params?: unknown[]): Promise<SqlResult & { readonly rowCount: number }>
}

/** The transaction that a body shares with the record of its end. */
export interface InTransaction {
  /** Is of no use any more once the body has ended, or its time is up. */
  readonly tx: SagaTransaction
}

/** A `run` whose types the builder has checked. */
export type RunBody = (context: RunContext<unknown, unknown>) => unknown
/** A `compensate` whose types the builder has checked. */
export type CompensateBody = (context: CompensateContext<unknown, unknown, unknown>) => unknown
