import { systemClock } from '../kernel/clock.js'
import { checkDatabase, type SqlDatabase, type SqlQueryable } from '../kernel/postgres.js'
import { migrate, sqlIdentifier } from '../kernel/postgres-schema.js'
import type { Event } from './event.js'
import { PostgresCheckpoints } from './postgres-checkpoints.js'
import { PostgresRevisions } from './postgres-revisions.js'
import type { Projection, ProjectionOptions, Projector, Rebuild } from './projection.js'
import { Projections } from './projections.js'
import { projectionSteps } from './projections.sql.js'
import type { EventStore } from './store.js'
import type { Subscription } from './subscription.js'

/** Where a {@link PostgresProjector} keeps its tables. */
export interface PostgresProjectorOptions {
  /** Schema of the checkpoints, of what `context.name` gives, and of the views that readers use. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
}

/**
 * Read models in PostgreSQL: `pg` Pool, `pg` Client or PGlite; the log may be elsewhere. Readers use the views that
 * have the tables' names without a revision: `select … from holdfast.totals`.
 */
export class PostgresProjector<E extends Event = Event> implements Projector<E, SqlQueryable> {
  readonly #db: SqlDatabase
  readonly #schema: string
  readonly #checkpoints: PostgresCheckpoints
  readonly #projections: Projections<E, SqlQueryable>

  /** @throws InvalidOptionError for what is no database, or a schema name that PostgreSQL can't take. */
  constructor(store: EventStore<E>, db: SqlDatabase, { schema = 'holdfast' }: PostgresProjectorOptions = {}) {
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#checkpoints = new PostgresCheckpoints(db, { schema })
    this.#projections = new Projections(store, new PostgresRevisions(db, schema, this.#checkpoints), systemClock)
  }

  /**
   * Makes the schema and the tables of checkpoints and revisions, or brings them up to date. Needed once; harmless at every
   * start, in many processes at the same time. @throws StoreError: nothing was changed.
   */
  async migrate(): Promise<void> {
    await this.#checkpoints.migrate()
    await migrate(this.#db, this.#schema, 'projections', projectionSteps(sqlIdentifier('schema', this.#schema)))
  }

  inline<P extends E>(projection: Projection<P, SqlQueryable>): void {
    this.#projections.inline(projection)
  }

  run<P extends E>(projection: Projection<P, SqlQueryable>, options?: ProjectionOptions): Subscription {
    return this.#projections.run(projection, options)
  }

  rebuild<P extends E>(projection: Projection<P, SqlQueryable>, options?: ProjectionOptions): Promise<Rebuild> {
    return this.#projections.rebuild(projection, options)
  }

  position(name: string): Promise<number> {
    return this.#projections.position(name)
  }
}
