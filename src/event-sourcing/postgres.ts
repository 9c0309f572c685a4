import { checkBoolean, checkInteger, checkString, invalid } from '../kernel/check.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, CorruptDataError, NotFoundError } from '../kernel/errors.js'
import {
  checkDatabase,
  fromSqlText,
  queryRows,
  queryValues,
  toSqlText,
  type SqlDatabase,
  type SqlQueryable,
  type SqlRow,
  type SqlValues,
} from '../kernel/postgres.js'
import { migrate, sqlIdentifier } from '../kernel/postgres-schema.js'
import { orAbort } from '../kernel/signal.js'
import { MOST_MISSED, StreamClosedError, TombstonedError, VersionConflictError } from './errors.js'
import type { Event, Recorded } from './event.js'
import { INLINE, InlineFailure, type InlineProject } from './inline.js'
import { Herald, type SqlListener } from '../kernel/postgres-herald.js'
import { PostgresAppends } from './postgres-appends.js'
import { appendedOf, eventOf, LAST_VERSION, queryCondition, textsOf, type EventTexts } from './postgres-rows.js'
import { lastPosition } from './postgres-append.sql.js'
import { EVENT_COLUMNS, steps, streamColumn } from './postgres.sql.js'
import { readAllPages } from './read-all.js'
import {
  appendRequests,
  isAsExpected,
  isRepeat,
  missedAfter,
  pageBounds,
  readBounds,
  type AppendRequest,
} from './request.js'
import type {
  Append,
  Appended,
  AppendOptions,
  EventStore,
  Page,
  PageOptions,
  Query,
  ReadAllOptions,
  ReadOptions,
  StreamInfo,
} from './store.js'

export type { SqlListener } from '../kernel/postgres-herald.js'
export { PostgresCheckpoints, type PostgresCheckpointsOptions } from './postgres-checkpoints.js'
export { PostgresSnapshots, type PostgresSnapshotsOptions } from './postgres-snapshots.js'
export { PostgresSubjectKeys, type PostgresSubjectKeysOptions } from './postgres-subject-keys.js'
export { PostgresProjector, type PostgresProjectorOptions } from './postgres-projector.js'

/** Where a {@link PostgresEventStore} keeps its tables. */
export interface PostgresEventStoreOptions {
  /** Schema of the tables. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
  /**
   * A connected `pg` Client that does nothing else: with it, `wake` hears at once of what other processes append (LISTEN). Stays the
   * caller's. @defaultValue none: what others append is found by polling
   */
  readonly listener?: SqlListener | undefined
  /** Whether other processes' listeners are told of appends (NOTIFY, at most every 20 ms). @defaultValue whether there is a `listener` */
  readonly notify?: boolean | undefined
  /**
   * Whether statements that come again and again are prepared once for each connection of a `pg` Pool. `false` behind a pooler that
   * knows no prepared statements (PgBouncer before 1.21 in transaction mode). @defaultValue true
   */
  readonly prepare?: boolean | undefined
}

/** Events fetched at a time when a stream is read. */
const CHUNK = 2_000
const STATES = ['live', 'archived', 'tombstoned'] as const

/**
 * The log in PostgreSQL ≥ 12: `pg` Pool (best: appends run side by side), `pg` Client, or PGlite. One round trip per
 * append. `tx` is whatever has `query` inside the caller's transaction: a `pg` client after BEGIN, PGlite's transaction.
 * Such a transaction holds back the readers of the whole log, from its first append until it ends: keep it short.
 * Read the log from the primary: a standby does not show what is still being written.
 */
export class PostgresEventStore<E extends Event = Event> implements EventStore<E> {
  declare readonly __event?: EventStore<E>['__event']
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string
  readonly #events = new Emitter<{ appended: void }>()
  readonly #appends: PostgresAppends
  /** Whether statements are prepared; only a pool can. */
  readonly #prepare: boolean
  readonly #herald: Herald
  /** The newest position of which it is known that nothing before it may still commit. */
  #settled = -1
  #closed = false

  /** @throws InvalidOptionError for what is no database, or a schema name that PostgreSQL can't take. */
  constructor(db: SqlDatabase, options: PostgresEventStoreOptions = {}) {
    const { schema = 'holdfast', listener, notify = listener !== undefined, prepare = true } = options
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
    const ring = (): void => this.#events.emit('appended', undefined)
    this.#herald = new Herald(this.#db, listener, checkBoolean('notify', notify), schema, ring)
    const told = (): void => {
      ring()
      this.#herald.tell()
    }
    this.#prepare = checkBoolean('prepare', prepare) && 'totalCount' in this.#db
    this.#appends = new PostgresAppends(this.#db, this.#s, told, this.#prepare)
  }

  /**
   * Makes the schema and its tables, or brings them up to date. Needed once; harmless at every start, in many processes
   * at the same time. @throws StoreError: nothing was changed.
   */
  async migrate(): Promise<void> {
    this.#checkUsable()
    await migrate(this.#db, this.#schema, 'event-sourcing', steps(this.#s))
  }

  async append<T extends E>(
    stream: string,
    events: readonly T[],
    { expectedVersion, unless, ...options }: AppendOptions & Pick<Append, 'expectedVersion' | 'unless'> = {},
  ): Promise<Appended<T>> {
    checkString('stream', stream)
    const [appended] = await this.appendAll<T>([{ stream, events, expectedVersion, unless }], options)
    return appended as Appended<T>
  }

  async appendAll<T extends E>(
    appends: readonly Append<T>[],
    options: AppendOptions = {},
  ): Promise<readonly Appended<T>[]> {
    const { signal, tx } = options
    const on = this.#queryable(tx)
    signal?.throwIfAborted()
    const requests = appendRequests(appends, options)
    const texts = requests.map(textsOf)
    return orAbort(this.#appendAll<T>(on, requests, texts, options), signal)
  }

  async #appendAll<T extends E>(
    on: SqlQueryable,
    requests: readonly AppendRequest[],
    texts: readonly (readonly EventTexts[])[],
    options: AppendOptions,
  ): Promise<readonly Appended<T>[]> {
    const { idempotencyKey: key, tx } = options
    const rows = await this.#appends.send(requests, texts, options).catch((error: unknown) => {
      throw error instanceof InlineFailure ? error.thrown : error
    })
    const [first] = rows
    if (first?.['status'] === 'refused') throw await this.#refusal(on, requests, first)
    if (first?.['status'] === 'duplicate') {
      const results = (await this.recall<T>(key as string, { tx })) ?? []
      if (!isRepeat(results, requests)) return invalid('idempotencyKey', 'one that was not used for other streams', key)
      return results
    }
    return appendedOf<T>(requests, rows)
  }

  /** @internal */
  [INLINE](on: readonly string[] | Query, project: InlineProject<SqlQueryable>, ready?: () => Promise<unknown>): void {
    this.#appends.inline.add(on, project, ready)
  }

  /** Why an append was refused. */
  async #refusal(on: SqlQueryable, requests: readonly AppendRequest[], row: SqlRow): Promise<Error> {
    const of = Number(row['of_stream'])
    const request = requests[Math.abs(of) - 1] as AppendRequest
    const { unless } = request
    if (of > 0 || !unless)
      return this.#streamRefusal(on, request, Number(row['version']), STATES[Number(row['pos'])] ?? 'live')
    // The conditions are looked at first; what stands in the way of a stream is told first, as by every store.
    for (const each of requests) {
      if (!each.named) continue
      // oxlint-disable-next-line no-await-in-loop -- on one connection, one after the other anyway
      const { version = 0, state = 'live' } = (await this.#info(on, each.stream)) ?? {}
      if (state !== 'live' || !isAsExpected(version, each.expected))
        return this.#streamRefusal(on, each, version, state) // oxlint-disable-line no-await-in-loop
    }
    const to = Number(row['pos'])
    if (to < unless.after) return beyond(unless.after, to)
    const missed = await this.#between<E>(on, unless.after, to, MOST_MISSED, unless.query)
    return new VersionConflictError(undefined, unless.after, to, missed, unless.query)
  }

  /** Why a stream takes no append. */
  async #streamRefusal(
    on: SqlQueryable,
    { stream, expected }: AppendRequest,
    actual: number,
    state: StreamInfo['state'],
  ): Promise<Error> {
    if (state === 'tombstoned') return new TombstonedError(stream)
    if (isAsExpected(actual, expected)) return new StreamClosedError(stream, 'is archived')
    const after = missedAfter(expected) ?? actual
    const missed =
      after < actual ? await this.#slice(on, stream, { from: after + 1, to: actual, limit: MOST_MISSED }) : []
    return new VersionConflictError(stream, expected, actual, missed)
  }

  async recall<T extends E = E>(
    idempotencyKey: string,
    { tx }: { readonly tx?: unknown } = {},
  ): Promise<readonly Appended<T>[] | undefined> {
    const on = this.#queryable(tx)
    const rows = await this.#ask(
      on,
      `select r.name, r.count, r.version, r.position::text as position
       from ${this.#s}.es_keys k, unnest(k.names, k.counts, k.versions, k.positions) with ordinality as r (name, count, version, position, o)
       where k.key = ${this.#s}.es_key($1) order by r.o`,
      [toSqlText(checkString('idempotencyKey', idempotencyKey))],
    )
    if (rows.length === 0) return undefined
    const results: Appended<T>[] = []
    for (const row of rows) {
      const stream = fromSqlText(row['name'] as string)
      const version = Number(row['version'])
      const bounds = { from: version - Number(row['count']) + 1, to: version }
      // oxlint-disable-next-line no-await-in-loop -- on one connection, one after the other anyway
      const events = await this.#slice<T>(on, stream, bounds)
      results.push({ stream, version, position: Number(row['position']), duplicate: true, events })
    }
    return results
  }

  async *read<T extends E = E>(
    stream: string,
    { tx, signal, ...options }: ReadOptions = {},
  ): AsyncGenerator<Recorded<T>, void, undefined> {
    const { from, to, until, backward, limit } = readBounds(options)
    const on = this.#queryable(tx)
    checkString('stream', stream)
    let left = limit
    let bounds = { from, to, until, backward }
    let whole = false
    while (left > 0) {
      signal?.throwIfAborted()
      const size = Math.min(left, CHUNK)
      // oxlint-disable-next-line no-await-in-loop -- each part starts where the last one ended
      const events = await orAbort(this.#slice<T>(on, stream, { ...bounds, limit: size }), signal)
      for (const event of events) {
        signal?.throwIfAborted()
        yield event
      }
      const last = events.at(-1)
      whole = last !== undefined && left === limit // one statement has read it all
      if (!last || events.length < size) break
      left -= events.length
      bounds = backward ? { ...bounds, to: last.version - 1 } : { ...bounds, from: last.version + 1 }
    }
    if (!whole && (await this.#info(on, stream))?.state === 'tombstoned') throw new TombstonedError(stream)
  }

  async #slice<T extends Event>(
    on: SqlQueryable,
    stream: string,
    bounds: { from: number; to: number; until?: number; backward?: boolean; limit?: number },
  ): Promise<Recorded<T>[]> {
    const { from, to, until = Infinity, backward = false, limit = LAST_VERSION } = bounds
    const params: unknown[] = [toSqlText(stream), Math.min(from, LAST_VERSION), Math.min(to, LAST_VERSION), limit]
    // No event is older than 1970, and PostgreSQL's dates do not go back as far as JavaScript's.
    if (until < Infinity) params.push(Math.max(0, until))
    const rows = await this.#values(
      on,
      `select ${EVENT_COLUMNS} from ${this.#s}.es_events e
       where e.stream = ${this.#s}.es_key($1) and e.version >= $2 and e.version <= $3
       ${until < Infinity ? `and e.at <= timestamptz 'epoch' + $5::float8 * interval '1 millisecond'` : ''}
       order by e.version ${backward ? 'desc' : 'asc'} limit $4`,
      params,
    )
    return rows.map((row) => eventOf<T>(row, stream))
  }

  async readPage<T extends E = E>(options: PageOptions = {}): Promise<Page<T>> {
    const { after, limit, query } = pageBounds(options)
    const on = this.#queryable()
    // The locks, which take most of the time, are looked at only where a position was drawn since they held back none.
    const [horizon] = await this.#ask(
      on,
      `select l.last::text as last,
         (case when l.last <> $1 then (select h.o_head from ${this.#s}.es_horizon() h) else l.last end)::text as head
       from (${lastPosition(this.#s)}) as l (last)`,
      [this.#settled],
    )
    const head = Number(horizon?.['head'])
    this.#settled = head
    const last = Number(horizon?.['last'])
    if (after > last) throw beyond(after, last)
    if (after >= head) return { events: [], next: after, head }
    // A statement of its own: it must see what was committed when the horizon was found.
    const events = await this.#between<T>(on, after, head, limit, query)
    return { events, next: events.length === limit ? (events.at(-1)?.position ?? head) : head, head }
  }

  /** Events above position `after`, up to `to`. */
  async #between<T extends E>(
    on: SqlQueryable,
    after: number,
    to: number,
    limit: number,
    query: Query | undefined,
  ): Promise<Recorded<T>[]> {
    const params: unknown[] = [after, to, limit]
    const condition = query ? `and ${queryCondition(this.#s, query, params)}` : ''
    const rows = await this.#values(
      on,
      // Picked first: what the columns take to be made is spent on no other rows, whatever order the server finds them in.
      `select ${EVENT_COLUMNS}, ${streamColumn(this.#s)} from (
         select * from ${this.#s}.es_events e where e.pos > $1 and e.pos <= $2 ${condition} order by e.pos limit $3
       ) e order by e.pos`,
      params,
      !query, // no two queries need be alike
    )
    return rows.map((row) => eventOf<T>(row))
  }

  readAll<T extends E = E>(options: ReadAllOptions = {}): AsyncGenerator<Recorded<T>, void, undefined> {
    return readAllPages<T>((page) => this.readPage(page), options)
  }

  /** Tells of appends through this object, and with a `listener` of those by other processes that `notify`. */
  wake(fn: () => void): Unsubscribe {
    this.#checkUsable()
    this.#herald.listen()
    return this.#events.on('appended', fn)
  }

  async info(stream: string, { tx }: { readonly tx?: unknown } = {}): Promise<StreamInfo | undefined> {
    return this.#info(this.#queryable(tx), checkString('stream', stream))
  }

  async #info(on: SqlQueryable, stream: string): Promise<StreamInfo | undefined> {
    const [row] = await this.#ask(
      on,
      `select version, first, state from ${this.#s}.es_streams where stream = ${this.#s}.es_key($1)`,
      [toSqlText(stream)],
    )
    const state = STATES[Number(row?.['state'])]
    return row && state && { version: Number(row['version']), first: Number(row['first']), state }
  }

  async truncate(stream: string, before: number): Promise<void> {
    await this.#remove(stream, checkInteger('before', before, 0), null)
  }

  async archive(stream: string): Promise<void> {
    await this.#remove(stream, 0, 1)
  }

  async tombstone(stream: string): Promise<void> {
    await this.#remove(stream, LAST_VERSION, 2)
  }

  async #remove(stream: string, before: number, state: number | null): Promise<void> {
    const params = [toSqlText(checkString('stream', stream)), before, state]
    const [row] = await queryRows(this.#queryable(), `select ${this.#s}.es_remove($1, $2, $3) as was`, params)
    const was = row?.['was'] ?? undefined
    if (was === undefined) throw new NotFoundError(`stream ${JSON.stringify(stream)} does not exist`)
    if (Number(was) === 2 && state !== 2) throw new TombstonedError(stream)
  }

  async close(): Promise<void> {
    this.#herald.stop()
    this.#closed = true
  }

  /** As {@link #ask}, each row as its values. */
  #values(on: SqlQueryable, text: string, params: unknown[], often: boolean = true): Promise<SqlValues[]> {
    return queryValues(on, text, params, often && this.#prepare && on === this.#db)
  }

  /** @param often whether the same statement comes again and again */
  #ask(on: SqlQueryable, text: string, params: unknown[] = [], often: boolean = true): Promise<SqlRow[]> {
    return queryRows(on, text, params, often && this.#prepare && on === this.#db)
  }

  #queryable(tx?: unknown): SqlQueryable {
    this.#checkUsable()
    if (tx === undefined) return this.#db
    if (typeof (tx as SqlQueryable | null)?.query === 'function') return tx as SqlQueryable
    return invalid('tx', 'an object with a query method', tx)
  }

  #checkUsable(): void {
    if (this.#closed) throw new ClosedError('the event store is closed')
  }
}

const beyond = (after: number, last: number): CorruptDataError =>
  new CorruptDataError(`position ${after} is beyond the end of the log, ${last}`)
