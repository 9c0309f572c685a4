import { jsonCodec } from '../kernel/codec.js'
import { checkDatabase, queryRows, toSqlText, type SqlDatabase } from '../kernel/postgres.js'
import { migrate, sqlIdentifier } from '../kernel/postgres-schema.js'
import { steps } from './postgres.sql.js'
import type { Snapshot, SnapshotStore } from './snapshots.js'

/** Where {@link PostgresSnapshots} keep their tables. */
export interface PostgresSnapshotsOptions {
  /** Schema of the tables. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
}

/** Snapshots in PostgreSQL: `pg` Pool, `pg` Client or PGlite. May be another database than the log's. */
export class PostgresSnapshots implements SnapshotStore {
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string

  /** @throws InvalidOptionError for what is no database, or a schema name that PostgreSQL can't take. */
  constructor(db: SqlDatabase, { schema = 'holdfast' }: PostgresSnapshotsOptions = {}) {
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
  }

  /** As the event store's: makes or updates the same tables. Needed only where there is no store. @throws StoreError. */
  async migrate(): Promise<void> {
    await migrate(this.#db, this.#schema, 'event-sourcing', steps(this.#s))
  }

  async get(stream: string, revision: number, maxVersion?: number): Promise<Snapshot | undefined> {
    const [row] = await queryRows(
      this.#db,
      `select version, state::text as state from ${this.#s}.es_snapshots
       where stream = ${this.#s}.es_key($1) and revision = $2 and version <= $3 order by version desc limit 1`,
      [toSqlText(stream), revision, Math.min(maxVersion ?? MOST, MOST)],
    )
    return row && { version: Number(row['version']), state: jsonCodec.decode(row['state'] as string) }
  }

  async put(stream: string, revision: number, version: number, state: unknown): Promise<void> {
    await queryRows(
      this.#db,
      `insert into ${this.#s}.es_snapshots (stream, revision, version, state) values (${this.#s}.es_key($1), $2, $3, $4)
       on conflict (stream, revision, version) do update set state = excluded.state`,
      [toSqlText(stream), revision, version, jsonCodec.encode(state)],
    )
  }

  async drop(stream: string): Promise<void> {
    await queryRows(this.#db, `delete from ${this.#s}.es_snapshots where stream = ${this.#s}.es_key($1)`, [
      toSqlText(stream),
    ])
  }
}

/** PostgreSQL's largest `int`. */
const MOST = 2 ** 31 - 1
