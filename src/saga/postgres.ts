import { checkBoolean, checkNumber, checkPositive } from '../kernel/check.js'
import { systemClock } from '../kernel/clock.js'
import type { Unsubscribe } from '../kernel/emitter.js'
import { isHoldfastError, StoreError } from '../kernel/errors.js'
import {
  checkDatabase,
  fromSqlText,
  queryRows,
  sqlFailed,
  toSqlKey,
  toSqlText,
  transaction,
  type SqlDatabase,
  type SqlQueryable,
  type SqlResult,
  type SqlRow,
} from '../kernel/postgres.js'
import { Herald, type SqlListener } from '../kernel/postgres-herald.js'
import { migrate, READ_COMMITTED, sqlIdentifier } from '../kernel/postgres-schema.js'
import type { SagaTransaction } from './body.js'
import { Grouped } from './grouped.js'
import { SAGA_STATUSES } from './journal.js'
import { commitParams, createParams, moveParams } from './postgres-params.js'
import { kindOf, sagaOf, summaryOf } from './postgres-rows.js'
import { statements, steps } from './postgres.sql.js'
import type {
  ClaimRequest,
  Claims,
  Created,
  Delivered,
  Fenced,
  Lease,
  Moved,
  NewMessage,
  NewSaga,
  Renewed,
  SagaMove,
  SagaQuery,
  SagaStore,
  SagaSummary,
  SagaWake,
  StoredSaga,
  Transition,
} from './store.js'
import { allWritten, batches, fresh, readClaimed, written, type Written } from './stored.js'
import { Wakes } from './wakes.js'

export type { SqlListener, SqlNotification } from '../kernel/postgres-herald.js'

/** Where a {@link PostgresSagaStore} keeps its tables, and how it hears of changes. */
export interface PostgresSagaStoreOptions {
  /** Schema of the tables. 1 to 63 bytes. @defaultValue 'holdfast' */
  readonly schema?: string | undefined
  /**
   * A connected `pg` Client that does nothing else: with it, orchestrators hear at once of what others did (LISTEN). Stays the
   * caller's. @defaultValue none: orchestrators ask every `pollMs` of theirs
   */
  readonly listener?: SqlListener | undefined
  /** Whether the listeners of others are told (NOTIFY, at most every 20 ms). @defaultValue whether there is a `listener` */
  readonly notify?: boolean | undefined
  /** How often orchestrators look by themselves, for what a listener has missed, in milliseconds. > 0. @defaultValue 1_000 */
  readonly pollMs?: number | undefined
  /** How long completed and compensated sagas are kept, in milliseconds, ≥ 0; then their ids are free again. @defaultValue 604_800_000, a week */
  readonly retainMs?: number | undefined
  /**
   * Whether statements are prepared once for each connection of a `pg` Pool. `false` behind a pooler that knows no prepared statements.
   * @defaultValue true
   */
  readonly prepare?: boolean | undefined
}

/** Longest time between two searches for sagas that are kept no longer. */
const SWEEP_MS = 60_000
const LARGEST_SWEEP = 1_000
/** In one statement, unless it is of a single saga: transitions, and characters of their records or of inputs. */
const MOST = { count: 1_000, size: 8_000_000 }

/**
 * Sagas in PostgreSQL ≥ 12: `pg` Pool (best), `pg` Client, or PGlite. The transitions that an orchestrator writes at one moment travel in one
 * statement, and so do sagas that are created at one moment. `.transaction` steps get a transaction of this database; on a single connection
 * (`pg` Client, PGlite) everything else waits for its end.
 */
export class PostgresSagaStore implements SagaStore {
  /** There with a `listener` only. */
  readonly onWake?: (listener: (wake: SagaWake) => void) => Unsubscribe
  readonly #db: SqlDatabase
  readonly #schema: string
  /** The schema, quoted. */
  readonly #s: string
  readonly #sql: ReturnType<typeof statements>
  readonly #herald: Herald
  readonly #wakes: Wakes
  readonly #creates = new Grouped((sagas: readonly NewSaga[]) => this.#createAll(sagas), {
    size: MOST.size,
    sizeOf: ({ input }) => input.length,
  })
  readonly #prepare: boolean
  readonly #retainMs: number
  #sweptAt = -Infinity

  /** @throws InvalidOptionError for what is no database, or an option that is wrong. */
  constructor(db: SqlDatabase, options: PostgresSagaStoreOptions = {}) {
    const { schema = 'holdfast', listener, notify: tells = listener !== undefined, prepare = true } = options
    const { pollMs = 1_000, retainMs = 604_800_000 } = options
    this.#db = checkDatabase(db)
    this.#schema = schema
    this.#s = sqlIdentifier('schema', schema)
    this.#sql = statements(this.#s)
    this.#prepare = checkBoolean('prepare', prepare) && 'totalCount' in this.#db
    this.#retainMs = checkNumber('retainMs', retainMs, 0)
    const heard = (notes: readonly string[] | undefined): void => this.#hear(notes)
    this.#herald = new Herald(this.#db, listener, checkBoolean('notify', tells), `saga ${schema}`, heard)
    const [begin, end] = [() => this.#herald.listen(), () => this.#herald.stop()]
    this.#wakes = new Wakes(checkPositive('pollMs', pollMs), begin, end)
    if (listener) this.onWake = (call) => this.#wakes.listen(call)
  }

  /**
   * Makes the schema and its tables, or brings them up to date. Needed once; harmless at every start, in many processes
   * at the same time. @throws StoreError: nothing was changed; also when the database's encoding is not UTF8: some results could not be
   * stored, and their steps would run again and again.
   */
  async migrate(): Promise<void> {
    const [row] = await this.#ask('show server_encoding', [])
    const encoding = row?.['server_encoding']
    if (encoding !== 'UTF8' && encoding !== 'SQL_ASCII')
      throw new StoreError(`PostgreSQL: sagas need a database with the encoding UTF8, not ${String(encoding)}`)
    await migrate(this.#db, this.#schema, 'saga', steps(this.#s))
  }

  async create(newSaga: NewSaga): Promise<Created> {
    const { id, leaseMs, ...saga } = newSaga
    const key = toSqlKey(id)
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const now = await this.#creates.add(newSaga).catch((error: unknown) => this.#createAlone(newSaga, error))
      if (now !== undefined) {
        this.#told(id, leaseMs ?? 0)
        return { created: true, now, saga: { id, ...saga, ...fresh(now, leaseMs === null ? 0 : 1) } }
      }
      // oxlint-disable-next-line no-await-in-loop
      const [swept] = await this.#ask(this.#sql.sweep, [this.#retainMs, key])
      if (Number(swept?.['count']) > 0) continue
      // oxlint-disable-next-line no-await-in-loop
      const [old] = await this.#ask(this.#sql.read, [[key]])
      if (old) return { created: false, saga: sagaOf(old), now: Number(old['now']) }
    }
  }

  async claim({ known, limit, leaseMs }: ClaimRequest): Promise<Claims> {
    await this.#sweep()
    const definitions = [known.map(kindOf), known.map(({ hash }) => hash)]
    const taken = await this.#ask(this.#sql.claim, [...definitions, limit, leaseMs])
    const keys = taken
      .toSorted((a, b) => Number(a['wake_at']) - Number(b['wake_at']))
      .map((row) => row['key'] as string)
    const takenAs = new Map(taken.map((row) => [row['key'], row]))
    // A statement of its own: what their last owners wrote until a moment ago is seen by a new one only.
    const [sagas, next] = await Promise.all([
      keys.length === 0 ? [] : this.#ask(this.#sql.read, [keys]),
      this.#ask(this.#sql.next, definitions),
    ])
    const byKey = new Map(sagas.map((row) => [row['key'], row]))
    const dueIn = Number(next[0]?.['due_in'] ?? Infinity)
    return {
      ...readClaimed(keys, (key) => {
        const [row, mine] = [byKey.get(key), takenAs.get(key)]
        // between the statements its lease may have ended, and somebody else have taken it: the epoch that is read is theirs
        if (!row || row['epoch'] !== mine?.['epoch']) return undefined
        return { saga: sagaOf(row), expired: mine?.['expired'] === true }
      }),
      drifted: next.slice(1).map((row) => ({
        id: fromSqlText(row['id'] as string),
        name: fromSqlText(row['name'] as string),
        version: Number(row['version']),
      })),
      now: Number(sagas[0]?.['now'] ?? next[0]?.['now']),
      nextDueMs: keys.length === limit ? 0 : dueIn > 0 ? dueIn : LOCKED_MS,
    }
  }

  async renew(leases: readonly Lease[], leaseMs: number): Promise<readonly Renewed[]> {
    const keys = leases.map(({ id }) => toSqlKey(id))
    const rows = await this.#ask(this.#sql.renew, [keys, leases.map(({ epoch }) => epoch), leaseMs])
    const renewed = new Map(rows.map((row) => [row['key'], Number(row['last_message'])]))
    return keys.map((key) => {
      const lastMessage = renewed.get(key)
      return lastMessage === undefined ? 'fenced' : { lastMessage }
    })
  }

  async commit(transitions: readonly Transition[]): Promise<readonly Fenced[]> {
    const answers: Fenced[] = []
    for (const batch of batches(allWritten(transitions), ({ record }) => record.length, MOST)) {
      // oxlint-disable-next-line no-await-in-loop -- several of one saga go one after another
      const wrote = await this.#write(this.#db, batch)
      for (const one of wrote) this.#tell(one)
      answers.push(...wrote.map(({ answer }) => answer))
    }
    return answers
  }

  async transaction(
    work: (tx: SagaTransaction) => Promise<void>,
    record: () => Transition | undefined,
  ): Promise<Fenced> {
    let thrown: { readonly error: unknown } | undefined
    let underWay = 0
    let over = false
    const guarded = (on: SqlQueryable): SagaTransaction => ({
      query: async (text, params) => {
        if (over) throw new Error('the transaction is over: its body has ended, or its time was up')
        underWay++
        try {
          // what drivers give is more, and not what a result of a step can be
          const { rows, ...more } = (await on.query(text, params)) as SqlResult & Counted
          return { rows, rowCount: more.rowCount ?? more.affectedRows ?? rows.length }
        } finally {
          underWay--
        }
      },
    })
    try {
      const wrote = await transaction(
        this.#db,
        async (on) => {
          await on.query(READ_COMMITTED)
          try {
            await work(guarded(on))
          } catch (error) {
            thrown = { error }
            throw error
          } finally {
            over = true
          }
          await on.query('set constraints all immediate') // so that nothing but the connection can fail at the commit
          const transition = record()
          const [one] = transition ? await this.#write(on, [written(transition)]) : []
          if (one?.answer !== 'ok') throw FENCED
          return one
        },
        () => underWay > 0,
      )
      this.#tell(wrote) // not before the commit: who hears of it looks at once
      return wrote.answer
    } catch (error) {
      if (thrown) throw thrown.error
      if (error === FENCED) return 'fenced'
      throw isHoldfastError(error) ? error : sqlFailed(error)
    }
  }

  async move(move: SagaMove): Promise<Moved> {
    const [row] = await this.#ask(this.#sql.move, moveParams(move))
    if (!row) return 'fenced' // there is none
    const answer = row['answer'] as Moved
    if (row['moved'] === true) this.#told(move.id, 0)
    return answer
  }

  async deliver({ sagaId, kind, name, payload, dedupeId }: NewMessage): Promise<Delivered> {
    const dedupe = dedupeId === undefined ? null : toSqlKey(dedupeId)
    const [row] = await this.#ask(`select ${this.#s}.saga_deliver($1, $2, $3, $4, $5) as answer`, [
      ...[toSqlKey(sagaId), kind, toSqlText(name), payload, dedupe],
    ])
    const answer = row?.['answer'] as Delivered
    if (answer === 'delivered') this.#told(sagaId, 0)
    return answer
  }

  async read(id: string): Promise<StoredSaga | undefined> {
    const [row] = await this.#ask(this.#sql.read, [[toSqlKey(id)]])
    return row && sagaOf(row)
  }

  async list({ status, name, stuckForMs, after, limit }: SagaQuery): Promise<readonly SagaSummary[]> {
    const rows = await this.#ask(this.#sql.list, [
      status === undefined ? null : SAGA_STATUSES.indexOf(status),
      name === undefined ? null : toSqlText(name),
      stuckForMs ?? null,
      after === undefined ? null : toSqlKey(after),
      limit,
    ])
    return rows.map(summaryOf)
  }

  /** @returns when each was created; `undefined`: there was one of this id */
  async #createAll(sagas: readonly NewSaga[]): Promise<readonly (number | undefined)[]> {
    const keys = sagas.map(({ id }) => toSqlKey(id))
    const rows = await this.#ask(this.#sql.create, createParams(sagas, keys))
    const created = new Map(rows.map((row) => [row['key'] as string, Number(row['now'])]))
    return keys.map((key) => {
      const now = created.get(key)
      created.delete(key) // of several of one id the first was created
      return now
    })
  }

  /** The server refused a value that may be another one's. */
  async #createAlone(saga: NewSaga, error: unknown): Promise<number | undefined> {
    const { code } = ((error as Error).cause ?? {}) as { code?: unknown }
    if (typeof code !== 'string' || !DATA_EXCEPTION.test(code)) throw error
    return (await this.#createAll([saga]))[0]
  }

  /** @param looked whether they have been asked for just before */
  async #write(on: SqlQueryable, batch: readonly Written[], looked: boolean = false): Promise<readonly Wrote[]> {
    const rows = await queryRows(on, this.#sql.commit, commitParams(batch), this.#prepare && on === this.#db)
    const wrote = batch.map(({ id }): Wrote => ({ id, answer: 'fenced', dueInMs: undefined }))
    const unseen: number[] = []
    for (const row of rows) {
      const i = Number(row['o']) - 1
      const { id, transition } = batch[i]!
      if (row['ok'] !== true) {
        if (row['taken'] === true) unseen.push(i)
        continue
      }
      const isLetGo = 'dueAt' in transition.next && row['due_in'] !== null
      wrote[i] = { id, answer: 'ok', dueInMs: isLetGo ? Math.max(0, Number(row['due_in'])) : undefined }
    }
    if (unseen.length === 0 || looked) return wrote
    // What was written while it waited for the rows is seen by a new statement only, and may be the same, whose answer was lost.
    const again = await this.#write(
      on,
      unseen.map((i) => batch[i]!),
      true,
    )
    for (const [n, i] of unseen.entries()) wrote[i] = again[n]!
    return wrote
  }

  #tell({ id, dueInMs }: Wrote): void {
    if (dueInMs !== undefined) this.#told(id, dueInMs)
  }

  /** Says it here, and to others. */
  #told(id: string, dueInMs: number): void {
    this.#wakes.tell({ id, dueInMs })
    this.#herald.tell(`${dueInMs} ${id}`)
  }

  #hear(notes: readonly string[] | undefined): void {
    if (!notes) return this.#wakes.tell({ id: undefined, dueInMs: 0 })
    for (const note of notes) {
      const space = note.indexOf(' ')
      this.#wakes.tell({ id: note.slice(space + 1), dueInMs: Number(note.slice(0, space)) })
    }
  }

  async #sweep(): Promise<void> {
    const now = systemClock.now()
    if (now - this.#sweptAt < Math.min(SWEEP_MS, Math.max(1_000, this.#retainMs))) return
    this.#sweptAt = now
    const [row] = await this.#ask(this.#sql.sweep, [this.#retainMs, null])
    if (Number(row?.['count']) === LARGEST_SWEEP) this.#sweptAt = -Infinity
  }

  #ask(text: string, params: unknown[]): Promise<SqlRow[]> {
    return queryRows(this.#db, text, params, this.#prepare)
  }
}

/** How one transition was written. */
interface Wrote {
  readonly id: string
  readonly answer: Fenced
  /** Until the saga is due, which was let go; `undefined`: there is nothing to tell. */
  readonly dueInMs: number | undefined
}

/** How `pg` and PGlite count. */
interface Counted {
  readonly rowCount?: number | null
  readonly affectedRows?: number
}

const FENCED = new Error('fenced')
/** Of SQLSTATE: nothing has run. */
const DATA_EXCEPTION = /^22...$/
/** When to look again for a saga that is due while somebody has it locked. */
const LOCKED_MS = 100
