import { checkFunction, checkNumber, checkString } from '../kernel/check.js'
import { systemClock } from '../kernel/clock.js'
import { isHoldfastError } from '../kernel/errors.js'
import {
  checkDatabase,
  queryRows,
  sqlFailed,
  toSqlKey,
  transaction,
  type SqlDatabase,
  type SqlQueryable,
  type SqlRow,
} from '../kernel/postgres.js'
import { migrate, READ_COMMITTED, sqlIdentifier } from '../kernel/postgres-schema.js'
import type { Inbox } from './inbox.js'

/** Where a {@link PostgresInbox} keeps its table, and for how long. */
export interface PostgresInboxOptions {
  /** Schema of the table. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
  /**
   * How long a message is remembered, in milliseconds, ≥ 0: longer than a broker may take to deliver it again, dead letters that are
   * requeued included. @defaultValue 604_800_000, a week
   */
  readonly retainMs?: number | undefined
}

/** Longest time between two searches for what is remembered no longer. */
const SWEEP_MS = 60_000
const LARGEST_SWEEP = 10_000

const steps = (s: string): readonly (readonly string[])[] => [
  [
    // one row a message of a group, in the order of time: the second index only ever grows at its end
    `create table ${s}.inbox (grp text collate "C", id text collate "C", at timestamptz not null default clock_timestamp(), primary key (grp, id))`,
    `create index inbox_at on ${s}.inbox (at)`,
  ],
]

/**
 * What groups have handled, in PostgreSQL ≥ 12: `pg` Pool (best), `pg` Client, or PGlite. On a single connection transactions take turns.
 * A call that finds its message under way elsewhere waits for that transaction on a connection of its own.
 */
export class PostgresInbox implements Inbox<SqlQueryable> {
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string
  readonly #retainMs: number
  #sweptAt = -Infinity

  /** @throws InvalidOptionError for what is no database, or an option that is wrong. */
  constructor(db: SqlDatabase, { schema = 'holdfast', retainMs = 604_800_000 }: PostgresInboxOptions = {}) {
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
    this.#retainMs = checkNumber('retainMs', retainMs, 0)
  }

  /**
   * Makes the schema and its table, or brings them up to date. Needed once; harmless at every start, in many processes
   * at the same time. @throws StoreError: nothing was changed.
   */
  async migrate(): Promise<void> {
    await migrate(this.#db, this.#schema, 'inbox', steps(this.#s))
  }

  /** {@link Inbox.once}: two round trips beside those of `work`. */
  async once(group: string, id: string, work: (tx: SqlQueryable) => Promise<void>): Promise<boolean> {
    checkFunction('work', work)
    const fresh = await this.#remember(group, [id], (tx) => work(tx))
    return fresh.length > 0
  }

  /**
   * {@link once} for many messages in one transaction: `work` is called with those that have not been handled for this group, in
   * their order, if there are any. All of them count, or none.
   * @returns the ids that `work` was given
   * @throws as {@link once}
   */
  async onceEach(
    group: string,
    ids: readonly string[],
    work: (tx: SqlQueryable, ids: readonly string[]) => Promise<void>,
  ): Promise<readonly string[]> {
    checkFunction('work', work)
    if (ids.length === 0) return []
    return this.#remember(group, ids, work)
  }

  async #remember(
    group: string,
    ids: readonly string[],
    work: (tx: SqlQueryable, ids: readonly string[]) => Promise<void>,
  ): Promise<readonly string[]> {
    checkString('group', group)
    const byKey = new Map<string, string>()
    for (const id of ids) {
      const key = toSqlKey(checkString('id', id))
      if (!byKey.has(key)) byKey.set(key, id)
    }
    // In one order, so that two that remember the same messages never wait for each other in a circle.
    const keys = [...byKey.keys()].toSorted()
    const insert = this.#insert(toSqlKey(group), keys)
    let thrown: { readonly error: unknown } | undefined
    let fresh: readonly string[] = []
    try {
      await transaction(
        this.#db,
        async (tx, begun) => {
          if (!begun) await tx.query(READ_COMMITTED)
          const { rows } = begun ?? (await tx.query(insert))
          const own = new Set((rows as SqlRow[]).map((row) => row['id']))
          fresh = [...byKey].flatMap(([key, id]) => (own.has(key) ? [id] : []))
          if (fresh.length === 0) return
          try {
            await work(tx, fresh)
          } catch (error) {
            thrown = { error }
            throw error
          }
        },
        undefined,
        // a snapshot for each statement, whatever the role's default is: who has waited for another sees what it did
        `begin isolation level read committed; ${insert}`,
      )
    } catch (error) {
      if (thrown) throw thrown.error
      throw isHoldfastError(error) ? error : sqlFailed(error)
    }
    this.#sweep()
    return fresh
  }

  /** Text without parameters, so that it can travel with the statement before it. */
  #insert(group: string, keys: readonly string[]): string {
    const rows = keys.map((key) => `(${literal(group)},${literal(key)})`)
    return `insert into ${this.#s}.inbox (grp, id) values ${rows.join()} on conflict do nothing returning id`
  }

  /** Beside the calls, not in their way; what fails here is tried again. */
  #sweep(): void {
    const now = systemClock.now()
    if (now - this.#sweptAt < Math.min(SWEEP_MS, Math.max(1_000, this.#retainMs))) return
    this.#sweptAt = now
    const sweep = `delete from ${this.#s}.inbox where ctid = any (array(
      select ctid from ${this.#s}.inbox where at < clock_timestamp() - $1 * interval '1 millisecond'
      order by at limit ${LARGEST_SWEEP} for update skip locked)) returning 1`
    queryRows(this.#db, sweep, [this.#retainMs]).then(
      (rows) => {
        if (rows.length === LARGEST_SWEEP) this.#sweptAt = -Infinity
      },
      () => {},
    )
  }
}

/** Any text as a literal, also where backslashes stand for themselves. */
const literal = (text: string): string => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
