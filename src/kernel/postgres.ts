import { createHash } from 'node:crypto'
import { invalid } from './check.js'
import { messageOf, StoreError } from './errors.js'

/** A row as both `pg` and PGlite give it. */
export type SqlRow = Record<string, unknown>

/** The values of a row, in the order of its columns. */
export type SqlValues = readonly unknown[]

/** The answer to one statement. */
export interface SqlResult {
  /** In the order the server gave them; empty when the statement gives none. */
  readonly rows: unknown[]
}

/** Something that runs SQL. */
export interface SqlQueryable {
  /** Runs one statement, `$1` standing for the first of `params`. Rejects with what the driver throws. */
  query(text: string, params?: unknown[]): Promise<SqlResult>
}

/** One connection of a pool. */
export interface SqlPoolClient extends SqlQueryable {
  /** Gives it back; with an error, it is closed instead. */
  release(error?: Error | boolean): void
  /** As Node's EventEmitter. `pg` tells of a connection that dies by `'error'`, which ends the process if nobody listens. */
  on?(event: 'error', listener: (error: Error) => void): unknown
  /** The reverse of `on`. */
  removeListener?(event: 'error', listener: (error: Error) => void): unknown
}

/** What we call of a `pg` Pool. */
export interface SqlPool extends SqlQueryable {
  /** Takes one connection out of the pool, waiting until there is one. */
  connect(): Promise<SqlPoolClient>
  /** How many connections it has. This is how a pool is told from a single client. */
  readonly totalCount: number
}

/** What we call of PGlite. */
export interface SqlEmbedded extends SqlQueryable {
  /** Runs `work` in a transaction: committed when it resolves, rolled back when it rejects. */
  transaction<T>(work: (tx: SqlQueryable) => Promise<T>): Promise<T>
}

/** A database of the user's: `pg` Pool or Client, or PGlite, already made. It is never closed by this library. */
export type SqlDatabase = SqlPool | SqlEmbedded | SqlQueryable

/** `db` if it can be one. @throws InvalidOptionError otherwise. */
export function checkDatabase<D extends SqlDatabase>(db: D): D {
  if (typeof (db as D | null | undefined)?.query === 'function') return db
  return invalid('db', 'a pg Pool or Client, or PGlite', db)
}

/**
 * Runs one statement. On a single connection statements and transactions take turns: one that is not given the
 * transaction waits for its end. @param prepare parses it once for each connection of a `pg` Pool. @throws StoreError with what the driver threw as `cause`: it may or may not have run.
 */
export async function queryRows(
  on: SqlQueryable,
  text: string,
  params: unknown[] = [],
  prepare: boolean = false,
): Promise<SqlRow[]> {
  const plain = (): Promise<SqlResult> => on.query(text, params)
  const prepared = (): Promise<SqlResult> => {
    const query = { name: nameOf(text), text, values: params }
    return (on as SqlQueryable & Preparing).query(query).catch(unlessElsewhere(plain))
  }
  const run = prepare ? prepared : plain
  try {
    return (await (isSingle(on) ? inTurn(on, run) : run())).rows as SqlRow[]
  } catch (error) {
    throw sqlFailed(error)
  }
}

/** {@link queryRows}, each row as its values, in the order of the columns: `pg` is told not to make objects when it prepares. */
export async function queryValues(
  on: SqlQueryable,
  text: string,
  params: unknown[],
  prepare: boolean,
): Promise<SqlValues[]> {
  if (!prepare) return (await queryRows(on, text, params)).map((row) => Object.values(row))
  try {
    const driver = on as SqlQueryable & Preparing
    const form = { text, values: params, rowMode: 'array' } as const
    const prepared = driver.query({ name: nameOf(text), ...form })
    return (await prepared.catch(unlessElsewhere(() => driver.query(form)))).rows as unknown[][]
  } catch (error) {
    throw sqlFailed(error)
  }
}

/** `pg`, as it takes statements that are to be prepared. */
interface Preparing {
  query(config: {
    readonly name?: string
    readonly text: string
    readonly values: unknown[]
    readonly rowMode?: 'array'
  }): Promise<SqlResult>
}

/**
 * What the server says when its prepared statements are not those that the driver knows of (after DISCARD ALL, or behind a pooler that
 * gives each transaction another connection): no such statement, or it is there already. Nothing has run then.
 */
const PREPARED_ELSEWHERE = new Set<unknown>(['26000', '42P05'])
const unlessElsewhere =
  (plain: () => Promise<SqlResult>) =>
  (error: unknown): Promise<SqlResult> => {
    if (PREPARED_ELSEWHERE.has((error as { code?: unknown } | null)?.code)) return plain()
    throw error
  }

/** A name for a text of any length, fit for whatever has one on the server: the same for the same text, in every process. */
export const shortName = (text: string): string =>
  `holdfast_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`

const names = new Map<string, string>()

/** The name of a prepared statement: the same text has the same one in every process, so that a pooler in between can share it. */
function nameOf(text: string): string {
  let name = names.get(text)
  if (name === undefined) {
    name = shortName(text)
    names.set(text, name)
  }
  return name
}

/** What a driver threw, as this library's error. */
export const sqlFailed = (cause: unknown): StoreError => new StoreError(`PostgreSQL: ${messageOf(cause)}`, { cause })

/** The last turn taken on a single connection, so that two transactions never share it. */
const lastOn = new WeakMap<SqlQueryable, Promise<unknown>>()

/**
 * Runs `work` in a transaction of its own (READ COMMITTED, the server's default): committed when it resolves, rolled back
 * when it rejects. On a single `pg` Client transactions take turns; only this library may use that client meanwhile.
 * A statement that failed spoils the whole transaction, also when `work` has caught its error: then this rejects.
 * @param isBusy whether a statement is under way when `work` has rejected: then a pool's connection is closed, which rolls back as well,
 * instead of waiting for it
 * @param begin what begins it, also with more statements after it, in one round trip; `work` is given the last one's result. An embedded
 * database begins by itself: then there is none
 * @throws what `work` threw, after the roll-back; what the driver threw at COMMIT: then it may or may not be committed.
 */
export async function transaction<T>(
  db: SqlDatabase,
  work: (tx: SqlQueryable, begun: SqlResult | undefined) => Promise<T>,
  isBusy: () => boolean = () => false,
  begin: string = 'BEGIN',
): Promise<T> {
  if ('transaction' in db) {
    return db.transaction(async (tx) => {
      const result = await work(tx, undefined)
      await tx.query('SELECT') // fails in a spoilt transaction, for which COMMIT only rolls back and says nothing
      return result
    })
  }
  if (!('totalCount' in db)) {
    // An object of its own for the transaction's statements: the others wait for its end.
    const tx: SqlQueryable = { query: (text, params) => db.query(text, params) }
    return inTurn(db, () => commitOrRollBack(tx, work, () => {}, undefined, begin))
  }
  let broken: Error | undefined
  const onBroken = (error: Error): void => void (broken ??= error)
  const client = await connected(db, onBroken)
  try {
    return await commitOrRollBack(client, work, onBroken, isBusy, begin)
  } finally {
    client.release(broken)
    client.removeListener?.('error', onBroken) // after the release: now the pool listens
  }
}

/**
 * Runs `work` inside a transaction of the caller's: when it rejects, what it did is undone, and that transaction lives on. On one
 * transaction they take turns.
 */
export async function savepoint<T>(tx: SqlQueryable, work: (on: SqlQueryable) => Promise<T>): Promise<T> {
  const on: SqlQueryable = { query: (text, params) => tx.query(text, params) } // as in `transaction`
  return inTurn(tx, async () => {
    await on.query('SAVEPOINT holdfast')
    try {
      const result = await work(on)
      await on.query('RELEASE SAVEPOINT holdfast')
      return result
    } catch (error) {
      await on.query('ROLLBACK TO SAVEPOINT holdfast').catch(() => {})
      throw error
    }
  })
}

/** A connection of `db`. Somebody listens from the very moment in which it is taken: after `await` its death may have ended the process. */
function connected(db: SqlPool, onBroken: (error: Error) => void): Promise<SqlPoolClient> {
  return new Promise((resolve, reject) => {
    let isTaken = false
    const taken = (client: SqlPoolClient): void => {
      if (isTaken) return // it both calls back and gives a promise
      isTaken = true
      client.on?.('error', onBroken)
      resolve(client)
    }
    // `pg` calls back at once; what only looks like a pool of `pg` may give a promise all the same
    const callback = (error: Error | undefined, client: SqlPoolClient): void => (error ? reject(error) : taken(client))
    const connect = db.connect.bind(db) as (call: typeof callback) => Promise<SqlPoolClient> | undefined
    connect(callback)?.then(taken, reject)
  })
}

const isSingle = (on: SqlQueryable): boolean => !('transaction' in on) && !('totalCount' in on)

async function commitOrRollBack<T>(
  client: SqlQueryable,
  work: (tx: SqlQueryable, begun: SqlResult) => Promise<T>,
  onBroken: (error: Error) => void,
  isBusy: () => boolean = () => false,
  begin: string = 'BEGIN',
): Promise<T> {
  // A connection of which nobody knows whether a transaction is open on it must not be used again.
  const send = async (statement: string): Promise<SqlResult & { readonly command?: string }> => {
    try {
      return await client.query(statement)
    } catch (error) {
      onBroken(error as Error)
      throw error
    }
  }
  // of several statements `pg` gives a list of results
  const begun = [await send(begin)].flat().at(-1) as SqlResult
  let result: T
  try {
    result = await work(client, begun)
  } catch (error) {
    if (isBusy()) onBroken(error as Error)
    else await send('ROLLBACK').catch(() => {})
    throw error
  }
  if ((await send('COMMIT')).command === 'ROLLBACK') {
    const cause = Object.assign(new Error('a statement in the transaction had failed'), { code: '25P02' }) // what a statement would have been told
    throw new StoreError(`PostgreSQL: rolled back, because ${cause.message}`, { cause })
  }
  return result
}

async function inTurn<T>(client: SqlQueryable, work: () => Promise<T>): Promise<T> {
  const before = lastOn.get(client)
  const mine = (before ?? Promise.resolve()).then(work, work)
  lastOn.set(
    client,
    mine.catch(() => {}),
  )
  return mine
}

/** What PostgreSQL's `text` can't hold (NUL, lone surrogates), the backslash that stands for them, and a mark that PGlite drops at the start. */
const NOT_TEXT = /[\\\0\p{Surrogate}]|^\ufeff/u

/** Any string as one that `text` holds, one to one; most are what they are. */
export const toSqlText = (text: string): string =>
  NOT_TEXT.test(text)
    ? JSON.stringify(text)
        .slice(1, -1)
        .replace(/^\ufeff/, '\\ufeff')
    : text

/** The string that {@link toSqlText} was given. */
export const fromSqlText = (text: string): string => (text.includes('\\') ? (JSON.parse(`"${text}"`) as string) : text)

/** Longest text that is its own key: an index takes 2,700 bytes. */
const LONGEST_KEY = 600

/** Any string as one that an index holds: as {@link toSqlText}, or its digest if it is long. */
export function toSqlKey(text: string): string {
  const plain = toSqlText(text)
  if (plain.length <= LONGEST_KEY) return plain
  return `\\#${createHash('sha256').update(plain).digest('hex')}` // no other text has this mark
}
