import { checkBoolean, checkInteger, checkMethods, checkString, invalid } from '../kernel/check.js'
import { systemClock } from '../kernel/clock.js'
import { NotFoundError } from '../kernel/errors.js'
import {
  checkDatabase,
  fromSqlText,
  queryRows,
  toSqlText,
  type SqlDatabase,
  type SqlQueryable,
} from '../kernel/postgres.js'
import { Herald, type SqlListener } from '../kernel/postgres-herald.js'
import { migrate, sqlIdentifier } from '../kernel/postgres-schema.js'
import type { RecordedFailure } from './dead-letters.js'
import type { EventBus } from './event-bus.js'
import { completeMessage, type MessageOf, type OutgoingMessage, type OutgoingMessageOf } from './message.js'
import { MOST_IN_BATCH, outboxStatements, outboxSteps, USUAL_PARTITIONS } from './postgres-outbox.sql.js'
import { storedOf } from './postgres-outbox-rows.js'
import type { OutboxRelay, OutboxStats, RelayOptions } from './postgres-relay-options.js'
import { PostgresRelay } from './postgres-relay.js'
import { sealMessage, showMessage } from './stored-message.js'

/** Where a {@link PostgresOutbox} keeps its tables, and how its relays hear of new messages. */
export interface PostgresOutboxOptions {
  /** Schema of the tables. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
  /**
   * Into how many parts relays share the messages, by key: each part has one owner. Integer in [1, 1000], set once and for all by the
   * first `migrate()`. @defaultValue what the first `migrate()` said, 8 if it said nothing
   */
  readonly partitions?: number | undefined
  /**
   * A connected `pg` Client that does nothing else: with it, relays hear at once of what others put (LISTEN). Stays the caller's.
   * @defaultValue none: relays look every `pollMs` of theirs
   */
  readonly listener?: SqlListener | undefined
  /** Whether the listeners of others are told (NOTIFY, at most every 20 ms). @defaultValue whether there is a `listener` */
  readonly notify?: boolean | undefined
  /**
   * Whether the relay's statements are prepared once for each connection of a `pg` Pool. `false` behind a pooler that knows no prepared
   * statements. @defaultValue true
   */
  readonly prepare?: boolean | undefined
}

/** A message that the bus has refused for good, and why. */
export interface ParkedMessage<M = unknown> {
  /** The message's id. */
  readonly id: string
  /** As it was put; with `undefined` as data where what is stored can't be read, which `reason` says. */
  readonly message: M
  /** What the bus said. */
  readonly reason: RecordedFailure
  /** When it was parked, by the server's clock. */
  readonly parkedAt: Date
}

/** The messages that the bus has refused for good: kept until someone requeues or drops them. */
export interface ParkedMessages<Messages extends object = Record<string, unknown>> {
  /** The first `limit` of them, the longest parked first. @param limit integer ≥ 1. @defaultValue 100 */
  list(limit?: number): Promise<ParkedMessage<MessageOf<Messages>>[]>
  /** Puts the message again, behind all that wait. @throws NotFoundError when none with this message id is parked: nothing changed. */
  requeue(id: string): Promise<void>
  /** Forgets the message for good. @throws NotFoundError when none with this message id is parked: nothing changed. */
  drop(id: string): Promise<void>
}

/**
 * Messages that are written in the transaction of what they tell of, in PostgreSQL ≥ 12, and published after it: all of a committed one, none
 * of one that was rolled back, at least once, and those of one key in the order of the commits. `pg` Pool (best), `pg` Client, or PGlite.
 */
export class PostgresOutbox<Messages extends object = Record<string, unknown>> {
  /** The messages that the bus has refused for good. */
  readonly parked: ParkedMessages<Messages>
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string
  readonly #partitions: number | undefined
  readonly #sql: ReturnType<typeof outboxStatements>
  readonly #herald: Herald
  readonly #prepare: boolean
  readonly #relays = new Set<PostgresRelay>()

  /** @throws InvalidOptionError for what is no database, or an option that is wrong. */
  constructor(db: SqlDatabase, options: PostgresOutboxOptions = {}) {
    const { schema = 'holdfast', partitions, listener, notify = listener !== undefined, prepare = true } = options
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
    this.#partitions = partitions === undefined ? undefined : checkInteger('partitions', partitions, 1, 1_000)
    this.#sql = outboxStatements(this.#s)
    this.#prepare = checkBoolean('prepare', prepare) && 'totalCount' in this.#db
    const heard = (): void => this.#wake()
    this.#herald = new Herald(this.#db, listener, checkBoolean('notify', notify), `outbox ${schema}`, heard)
    this.parked = {
      list: (limit = 100) => this.#listParked(limit),
      requeue: (id) => this.#onParked(this.#sql.requeue, id).then(() => this.#told()),
      drop: (id) => this.#onParked(this.#sql.drop, id),
    }
  }

  /**
   * Makes the schema and its tables, or brings them up to date. Needed once; harmless at every start, in many processes
   * at the same time.
   * @throws InvalidOptionError when the tables were made for another number of `partitions`. StoreError: nothing was changed.
   */
  async migrate(): Promise<void> {
    await migrate(this.#db, this.#schema, 'outbox', outboxSteps(this.#s, this.#partitions ?? USUAL_PARTITIONS))
    const [row] = await queryRows(this.#db, this.#sql.partitions)
    const count = Number(row?.['count'])
    if (this.#partitions !== undefined && this.#partitions !== count)
      invalid('partitions', `${count}, as this outbox has them`, this.#partitions)
  }

  /**
   * Writes one message, or several in their order, in a transaction of the caller's: they are published when it commits. Never waits
   * for others; of two transactions with one key, the later commit waits while the earlier one is written.
   * @param tx whatever runs its statements: a `pg` Client after BEGIN, the `tx` of PGlite, of a saga's `.transaction`, of an inbox
   * @throws InvalidOptionError when a message is malformed, InvalidPayloadError when its data can't be stored: none was written.
   * @throws what the driver threw: the transaction is spoilt.
   */
  async put(
    tx: SqlQueryable,
    messages: OutgoingMessageOf<Messages> | readonly OutgoingMessageOf<Messages>[],
  ): Promise<void> {
    checkMethods('tx', tx, ['query'])
    const given = (Array.isArray(messages) ? messages : [messages]) as readonly OutgoingMessage[]
    const rows = given.map((message) => sealMessage(completeMessage(message, systemClock)))
    for (let i = 0; i < rows.length; i += MOST_IN_BATCH) {
      const part = rows.slice(i, i + MOST_IN_BATCH)
      // oxlint-disable-next-line no-await-in-loop -- in order
      await tx.query(this.#sql.put, [
        part.map(({ id }) => toSqlText(id)),
        part.map(({ type }) => toSqlText(type)),
        part.map(({ key }) => (key === undefined ? null : toSqlText(key))),
        part.map(({ occurredAt }) => occurredAt),
        part.map(({ text }) => text),
      ])
    }
    if (rows.length > 0) this.#told()
  }

  /**
   * Begins to publish to `bus`, here; any number of processes may, they share the partitions. A relay that is gone is replaced
   * within `leaseMs`. Reports nothing by throwing: listen to its events.
   * @throws InvalidOptionError when an option is out of its range.
   */
  relay(bus: Pick<EventBus<Messages>, 'publish'>, options: RelayOptions = {}): OutboxRelay {
    checkMethods('bus', bus, ['publish'])
    const relay = new PostgresRelay(
      {
        ask: (statement, params = []) => queryRows(this.#db, this.#sql[statement], params, this.#prepare),
        publish: (messages) => bus.publish(messages as unknown as OutgoingMessageOf<Messages>[]),
        stats: () => this.stats(),
        left: () => {
          this.#relays.delete(relay)
          if (this.#relays.size === 0) this.#herald.stop()
        },
      },
      options,
    )
    this.#relays.add(relay)
    this.#herald.listen()
    relay.start()
    return relay
  }

  /** How much waits, and for how long. Counts rows: for a graph, not for each request. @throws StoreError */
  async stats(): Promise<OutboxStats> {
    const [row] = await queryRows(this.#db, this.#sql.stats)
    return {
      waiting: Number(row?.['waiting']),
      parked: Number(row?.['parked']),
      lagMs: Math.max(0, Number(row?.['lag_ms'] ?? 0)),
    }
  }

  async #listParked(limit: number): Promise<ParkedMessage<MessageOf<Messages>>[]> {
    const rows = await queryRows(this.#db, this.#sql.listParked, [checkInteger('limit', limit, 1)])
    return rows.map((row) => {
      const message = showMessage(storedOf(row, 'at')) as unknown as MessageOf<Messages>
      const reason = JSON.parse(row['reason'] as string) as RecordedFailure
      return { id: fromSqlText(row['id'] as string), message, reason, parkedAt: new Date(Number(row['parked_at'])) }
    })
  }

  async #onParked(statement: string, id: string): Promise<void> {
    const rows = await queryRows(this.#db, statement, [toSqlText(checkString('id', id))])
    if (rows.length === 0) throw new NotFoundError(`no message with id ${JSON.stringify(id)} is parked`)
  }

  /** Before the commit, that is: so whoever hears it looks a few times. */
  #told(): void {
    this.#wake()
    this.#herald.tell()
  }

  #wake(): void {
    for (const relay of this.#relays) relay.wake()
  }
}
