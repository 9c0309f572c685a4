import { InvalidOptionError, isHoldfastError } from '../kernel/errors.js'
import {
  checkDatabase,
  queryRows,
  sqlFailed,
  toSqlText,
  transaction,
  type SqlDatabase,
  type SqlQueryable,
} from '../kernel/postgres.js'
import { migrate, sqlIdentifier } from '../kernel/postgres-schema.js'
import type { Checkpoints, SubscriptionLease, Parked } from './checkpoints.js'
import { FencedError } from './errors.js'
import { steps } from './postgres.sql.js'

/** Where {@link PostgresCheckpoints} keep their tables. */
export interface PostgresCheckpointsOptions {
  /** Schema of the tables. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
}

/**
 * Checkpoints in PostgreSQL: `pg` Pool, `pg` Client or PGlite. Put them into the database that the handlers write to: what
 * is written with `context.tx` commits with the checkpoint or not at all, wherever the log is. The server's clock counts.
 */
export class PostgresCheckpoints implements Checkpoints<SqlQueryable> {
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string

  /** @throws InvalidOptionError for what is no database, or a schema name that PostgreSQL can't take. */
  constructor(db: SqlDatabase, { schema = 'holdfast' }: PostgresCheckpointsOptions = {}) {
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
  }

  /** As the store's: makes or updates the same tables. Needed only where there is no store. @throws StoreError. */
  async migrate(): Promise<void> {
    await migrate(this.#db, this.#schema, 'event-sourcing', steps(this.#s))
  }

  async acquire(name: string, owner: string, ttlMs: number): Promise<SubscriptionLease | undefined> {
    const [row] = await queryRows(
      this.#db,
      `insert into ${this.#s}.es_subscriptions as s (name, owner, epoch, until)
       values (${this.#s}.es_key($1), $2, 1, clock_timestamp() + $3::float8 * interval '1 millisecond')
       on conflict (name) do update set owner = excluded.owner, epoch = s.epoch + (s.owner <> excluded.owner)::int, until = excluded.until
       where s.owner = excluded.owner or s.until <= clock_timestamp()
       returning s.epoch, s.pos::text as pos`,
      [toSqlText(name), toSqlText(owner), ttlMs],
    )
    return row && { epoch: Number(row['epoch']), position: positionOf(row['pos']) }
  }

  async position(name: string): Promise<number | undefined> {
    const [row] = await queryRows(
      this.#db,
      `select pos::text as pos from ${this.#s}.es_subscriptions where name = ${this.#s}.es_key($1)`,
      [toSqlText(name)],
    )
    return positionOf(row?.['pos'])
  }

  async commit(
    name: string,
    epoch: number,
    from: number | undefined,
    to: number,
    work: (tx: SqlQueryable) => Promise<void>,
  ): Promise<void> {
    let thrown: { readonly error: unknown } | undefined
    try {
      await transaction(this.#db, async (tx) => {
        try {
          await work(tx)
        } catch (error) {
          thrown = { error }
          throw error
        }
        // Last, so that a paused owner does not lock its successor out; a stale one is rolled back with its work.
        await this.move(tx, name, epoch, from, to)
      })
    } catch (error) {
      if (thrown) throw thrown.error
      if (isSpoilt(error)) throw new InvalidOptionError(SWALLOWED, { cause: error }) // again would be the same again
      throw isHoldfastError(error) ? error : sqlFailed(error)
    }
  }

  async park(name: string, epoch: number, from: number | undefined, event: Parked): Promise<void> {
    await this.commit(name, epoch, from, event.position, async (tx) => {
      await queryRows(
        tx,
        `insert into ${this.#s}.es_parked (name, pos, parked) values (${this.#s}.es_key($1), $2, $3)`,
        [toSqlText(name), event.position, JSON.stringify(event)],
      )
    })
  }

  async parked(name: string): Promise<readonly Parked[]> {
    const rows = await queryRows(
      this.#db,
      `select parked::text as parked from ${this.#s}.es_parked where name = ${this.#s}.es_key($1) order by pos`,
      [toSqlText(name)],
    )
    return rows.map((row) => JSON.parse(row['parked'] as string) as Parked)
  }

  async release(name: string, epoch: number): Promise<void> {
    await queryRows(
      this.#db,
      `update ${this.#s}.es_subscriptions set owner = '', until = '-infinity' where name = ${this.#s}.es_key($1) and epoch = $2`,
      [toSqlText(name), epoch],
    )
  }

  /** @internal Moves the checkpoint in a transaction. @throws FencedError as {@link commit}. */
  async move(tx: SqlQueryable, name: string, epoch: number, from: number | undefined, to: number): Promise<void> {
    const moved = await queryRows(
      tx,
      `update ${this.#s}.es_subscriptions set pos = $4
       where name = ${this.#s}.es_key($1) and epoch = $2 and pos is not distinct from $3::bigint returning 1`,
      [toSqlText(name), epoch, from ?? null, to],
    )
    if (moved.length === 0) throw new FencedError(name)
  }

  /** @internal Where it stands; until the transaction ends it moves no more, and nobody begins it. */
  async hold(tx: SqlQueryable, name: string): Promise<number> {
    const [row] = await queryRows(
      tx,
      `insert into ${this.#s}.es_subscriptions as s (name, owner, epoch, until) values (${this.#s}.es_key($1), '', 0, '-infinity')
       on conflict (name) do update set epoch = s.epoch returning s.pos::text as pos`,
      [toSqlText(name)],
    )
    return positionOf(row?.['pos']) ?? 0
  }

  /** @internal Sends the owner away. */
  async fence(tx: SqlQueryable, name: string): Promise<void> {
    await queryRows(
      tx,
      `update ${this.#s}.es_subscriptions set owner = '', epoch = epoch + 1, until = '-infinity' where name = ${this.#s}.es_key($1)`,
      [toSqlText(name)],
    )
  }

  /** @internal Lets the name begin anew. */
  async forget(tx: SqlQueryable, name: string): Promise<void> {
    const key = `where name = ${this.#s}.es_key($1)`
    await queryRows(
      tx,
      `update ${this.#s}.es_subscriptions set pos = null, owner = '', epoch = epoch + 1, until = '-infinity' ${key}`,
      [toSqlText(name)],
    )
    await queryRows(tx, `delete from ${this.#s}.es_parked ${key}`, [toSqlText(name)])
  }
}

const positionOf = (pos: unknown): number | undefined => (typeof pos === 'string' ? Number(pos) : undefined)

const SWALLOWED =
  'handler: a statement failed in its transaction and the error was not let out, so nothing can be committed'

/** Whether a statement was refused because an earlier one in its transaction had failed. */
const isSpoilt = (error: unknown): boolean =>
  isHoldfastError(error) && (error.cause as { code?: unknown } | undefined)?.code === '25P02'
