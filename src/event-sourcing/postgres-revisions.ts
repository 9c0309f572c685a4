import { invalid } from '../kernel/check.js'
import { StoreError, isHoldfastError } from '../kernel/errors.js'
import {
  fromSqlText,
  queryRows,
  sqlFailed,
  toSqlText,
  transaction,
  type SqlDatabase,
  type SqlQueryable,
  type SqlRow,
} from '../kernel/postgres.js'
import { READ_COMMITTED, sqlIdentifier } from '../kernel/postgres-schema.js'
import type { PostgresCheckpoints } from './postgres-checkpoints.js'
import { checkpointOf, type RevisionId, type Revisions, type Standing } from './revisions.js'

/** Who waits longer for a lock gives way: long before PostgreSQL looks for deadlocks, in which a reader might be the victim. */
const LOCK_TIMEOUT = `set local lock_timeout = '200ms'`

/** What is done in a transaction; `users` runs the part of it that is the user's. */
type Work<T> = (tx: SqlQueryable, users: <U>(part: Promise<U>) => Promise<U>) => Promise<T>

/** Revisions in PostgreSQL: a row that says which is live, and views under the stable names. */
export class PostgresRevisions implements Revisions<SqlQueryable> {
  /** The schema, quoted. */
  readonly #s: string
  #attempts = 0

  constructor(
    private readonly db: SqlDatabase,
    private readonly schema: string,
    readonly checkpoints: PostgresCheckpoints,
  ) {
    this.#s = sqlIdentifier('schema', schema)
  }

  enlist(tx: unknown): SqlQueryable {
    return tx as SqlQueryable
  }

  tableName(table: string, { revision }: RevisionId): string {
    return `${this.#s}.${sqlIdentifier('table', `${table}_v${revision}`)}`
  }

  async setUp(id: RevisionId, setup: Parameters<Revisions<SqlQueryable>['setUp']>[1]): Promise<number> {
    const known = (await this.standing(id))?.generation
    if (known !== undefined) return known
    return this.#transaction(async (tx, users) => {
      // One after the other: two that create the same thing at once collide in the catalogue.
      await tx.query(`select pg_advisory_xact_lock(hashtext('holdfast.projections'), hashtext($1))`, [this.schema])
      await this.#query(
        tx,
        `insert into ${this.#s}.es_projections (name, live) values (NAME, $2) on conflict (name) do nothing`,
        [id.name, id.revision],
      )
      const before = await this.#standing(tx, id)
      if (before?.generation !== undefined) return before.generation
      const tables = new Set<string>()
      await users(
        setup(tx, (table) => {
          tables.add(table)
          return this.tableName(table, id)
        }),
      )
      await this.#checkFree(tx, id, [...tables])
      const [row] = await this.#query(
        tx,
        `with counted as (update ${this.#s}.es_projections set setups = setups + 1 where name = NAME returning setups)
         insert into ${this.#s}.es_revisions (name, revision, generation, tables)
         select NAME, $2, setups, $3 from counted returning generation`,
        [id.name, id.revision, JSON.stringify([...tables].map(toSqlText))],
      )
      if (before?.live === id.revision) await this.#show(tx, id, [...tables])
      return Number(row?.['generation'])
    })
  }

  /** @throws InvalidOptionError when another projection has a table of this name: there is one view for both. */
  async #checkFree(tx: SqlQueryable, { name }: RevisionId, tables: readonly string[]): Promise<void> {
    const [taken] = await this.#query(
      tx,
      `select t from ${this.#s}.es_revisions r, json_array_elements_text(r.tables::json) t
       where r.name <> NAME and t = any($2::text[]) limit 1`,
      [name, tables.map(toSqlText)],
    )
    if (taken) invalid('table', 'a name that no other projection has', fromSqlText(taken['t'] as string))
  }

  standing(id: RevisionId): Promise<Standing | undefined> {
    return this.#standing(this.db, id)
  }

  async #standing(on: SqlQueryable, { name, revision }: RevisionId, lock = ''): Promise<Standing | undefined> {
    const [row] = await this.#query(
      on,
      `select p.live, p.wanted = $2 as wanted, r.generation, (select c.pos::text from ${this.#s}.es_subscriptions c
         where c.name = ${this.#s}.es_key($3::text || p.live)) as mark
       from ${this.#s}.es_projections p left join ${this.#s}.es_revisions r on r.name = p.name and r.revision = $2
       where p.name = NAME ${lock}`,
      [name, revision, toSqlText(checkpointOf({ name, revision: 0 })).slice(0, -1)],
    )
    if (!row) return undefined
    const generation = row['generation'] === null ? undefined : Number(row['generation'])
    return { generation, live: Number(row['live']), mark: Number(row['mark'] ?? 0), wanted: row['wanted'] === true }
  }

  async want({ name, revision }: RevisionId): Promise<void> {
    await this.#query(this.db, `update ${this.#s}.es_projections set wanted = $2 where name = NAME and live <> $2`, [
      name,
      revision,
    ])
  }

  async switchTo(
    id: RevisionId,
    { epoch, position }: { readonly epoch: number; readonly position: number },
    drain: (tx: SqlQueryable, to: number, mayRead: boolean) => Promise<boolean>,
  ): Promise<number | undefined> {
    const mayRead = 'totalCount' in this.db
    return this.#giveWay(async (tx, users) => {
      await tx.query(LOCK_TIMEOUT)
      const { live, wanted = false } = (await this.#standing(tx, id, 'for update of p')) ?? {}
      if (!wanted || live === undefined) return undefined
      const old = { ...id, revision: live }
      const to = await this.checkpoints.hold(tx, checkpointOf(old)) // from here on the live one commits nothing
      if (to < position || !(await users(drain(tx, to, mayRead)))) throw GIVE_WAY
      await this.#show(tx, id, await this.#tables(tx, id), await this.#tables(tx, old))
      await this.#query(tx, `update ${this.#s}.es_projections set live = $2, wanted = null where name = NAME`, [
        id.name,
        id.revision,
      ])
      await this.checkpoints.fence(tx, checkpointOf(old))
      await this.checkpoints.move(tx, checkpointOf(id), epoch, position, to)
      return to
    })
  }

  async discard(id: RevisionId, drop: ((tx: SqlQueryable) => Promise<void>) | undefined): Promise<void> {
    const check = async (tx: SqlQueryable): Promise<boolean> => {
      const standing = await this.#standing(tx, id, 'for update of p')
      if (standing?.live === id.revision) return invalid('revision', 'one that is not live', id.revision)
      return standing?.generation !== undefined
    }
    const remove: Work<true> = async (tx, users) => {
      await tx.query(LOCK_TIMEOUT)
      if (!(await check(tx))) return true
      if (drop) await users(drop(tx))
      // oxlint-disable-next-line no-await-in-loop -- one connection
      else
        for (const table of await this.#tables(tx, id))
          await tx.query(`drop table if exists ${this.tableName(table, id)}`)
      await this.#query(tx, `delete from ${this.#s}.es_revisions where name = NAME and revision = $2`, [
        id.name,
        id.revision,
      ])
      await this.#query(tx, `update ${this.#s}.es_projections set wanted = null where name = NAME and wanted = $2`, [
        id.name,
        id.revision,
      ])
      await this.checkpoints.forget(tx, checkpointOf(id))
      return true
    }
    // Before the tables are locked: a transaction that writes to them still has to come to its end, and be refused.
    const known = await this.#transaction(async (tx) => {
      if (!(await check(tx))) return false
      await this.checkpoints.fence(tx, checkpointOf(id))
      return true
    })
    // oxlint-disable-next-line no-await-in-loop -- until the locks are there
    for (let done = !known; !done;) done = (await this.#giveWay(remove)) ?? false
  }

  /**
   * Lets readers of the stable names see this revision: all views in one statement. A view with the same columns, or more at
   * the end, is replaced, which keeps who may read it and what was built on it; another is made anew.
   *
   * A reader that holds one view and waits for another would stand in the way of who takes them in the opposite order. Each
   * attempt takes another order, so that one of them is the readers'.
   */
  async #show(
    tx: SqlQueryable,
    id: RevisionId,
    tables: readonly string[],
    before: readonly string[] = [],
  ): Promise<void> {
    const viewOf = (table: string): string => `${this.#s}.${sqlIdentifier('table', table)}`
    const shown = tables.map((table) => {
      const view = `view ${viewOf(table)}`
      const as = `as select * from ${this.tableName(table, id)}`
      return `begin create or replace ${view} ${as};
        exception when invalid_table_definition then drop ${view}; create ${view} ${as}; end;`
    })
    const gone = before.filter((table) => !tables.includes(table))
    const all = [...shown, ...gone.map((table) => `drop view if exists ${viewOf(table)};`)]
    const attempt = this.#attempts++
    const turned = all.map((_, i) => all[(i + (attempt >> 1)) % all.length])
    if (attempt % 2 === 1) turned.reverse()
    if (turned.length > 0) await tx.query(`do $holdfast$ begin ${turned.join('\n')} end $holdfast$`)
  }

  async #tables(tx: SqlQueryable, { name, revision }: RevisionId): Promise<readonly string[]> {
    const [row] = await this.#query(
      tx,
      `select tables from ${this.#s}.es_revisions where name = NAME and revision = $2`,
      [name, revision],
    )
    return (JSON.parse((row?.['tables'] as string | undefined) ?? '[]') as string[]).map(fromSqlText)
  }

  /** `NAME` stands for the first parameter, as it is kept. */
  #query(on: SqlQueryable, text: string, [name, ...params]: [string, ...unknown[]]): Promise<SqlRow[]> {
    return queryRows(on, text.replaceAll('NAME', `${this.#s}.es_key($1)`), [toSqlText(name), ...params])
  }

  /** @returns `undefined` when a lock was not to be had, and nothing was done. */
  async #giveWay<T>(work: Work<T>): Promise<T | undefined> {
    try {
      return await this.#transaction(work)
    } catch (error) {
      const cause = isHoldfastError(error, 'STORE_FAILED') ? error.cause : error
      if (error === GIVE_WAY || ['55P03', '40P01'].includes((cause as { code?: string } | undefined)?.code ?? ''))
        return undefined
      throw error
    }
  }

  /** What the user's part throws comes out as it is, what the driver throws as StoreError. */
  async #transaction<T>(work: Work<T>): Promise<T> {
    let thrown: { readonly error: unknown } | undefined
    const users = async <U>(part: Promise<U>): Promise<U> => {
      try {
        return await part
      } catch (error) {
        thrown = { error }
        throw error
      }
    }
    try {
      return await transaction(this.db, async (tx) => {
        await tx.query(READ_COMMITTED)
        return work(tx, users)
      })
    } catch (error) {
      if (thrown) throw thrown.error
      throw error === GIVE_WAY || isHoldfastError(error) ? error : sqlFailed(error)
    }
  }
}

const GIVE_WAY = new StoreError('the live revision has moved on')
