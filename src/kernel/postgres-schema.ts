import { invalid } from './check.js'
import { sqlFailed, transaction, type SqlDatabase, type SqlQueryable, type SqlRow } from './postgres.js'

/** `name` as an SQL identifier, also in a body quoted by $holdfast$. @throws InvalidOptionError for what PostgreSQL can't take as one, or would cut. */
export function sqlIdentifier(option: string, name: string): string {
  if (typeof name !== 'string' || name === '' || /\0|\$holdfast\$/.test(name) || Buffer.byteLength(name) > 63)
    return invalid(option, 'a name of 1 to 63 bytes without \\0 and $holdfast$', name)
  return `"${name.replaceAll('"', '""')}"`
}

/** `text` as an SQL literal. Not for what comes from outside: that is a parameter. */
export const sqlLiteral = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The first statement of a transaction that waits for others, and must see what they did, whatever the role's default is. */
export const READ_COMMITTED = 'set transaction isolation level read committed'

/**
 * Brings `component`'s tables in `schema` (made if it is missing) up to date, in one transaction: all of it or nothing.
 * Several processes at once take turns; what is up to date is left alone.
 * @param steps step `i` leads from version `i` to `i + 1`: single statements, in order. Only ever add to the end.
 * @throws StoreError: nothing was changed, unless the connection broke at the very end.
 */
export async function migrate(
  db: SqlDatabase,
  schema: string,
  component: string,
  steps: readonly (readonly string[])[],
): Promise<void> {
  const quoted = sqlIdentifier('schema', schema)
  const versions = `${quoted}.holdfast_versions`
  const work = async (tx: SqlQueryable): Promise<void> => {
    await tx.query(READ_COMMITTED)
    // "if not exists" alone is no protection: two that create the same thing at once collide in the catalogue.
    await tx.query(`select pg_advisory_xact_lock(hashtext('holdfast.migrate'), hashtext($1))`, [schema])
    const known = await tx.query('select 1 from pg_namespace where nspname = $1', [schema])
    if (known.rows.length === 0) await tx.query(`create schema ${quoted}`)
    // Asked for first: "if not exists" is refused to those who may not create, though there is nothing to do.
    const table = await tx.query('select to_regclass($1) as found', [versions])
    if ((table.rows[0] as SqlRow)['found'] === null)
      await tx.query(`create table ${versions} (component text primary key, version int not null)`)
    const { rows } = await tx.query(`select version from ${versions} where component = $1`, [component])
    const version = Number((rows[0] as SqlRow | undefined)?.['version'] ?? 0)
    if (version >= steps.length) return
    // oxlint-disable-next-line no-await-in-loop -- in order
    for (const statement of steps.slice(version).flat()) await tx.query(statement)
    await tx.query(
      `insert into ${versions} values ($1, $2) on conflict (component) do update set version = excluded.version`,
      [component, steps.length],
    )
  }
  try {
    await transaction(db, work)
  } catch (error) {
    throw sqlFailed(error)
  }
}
