import type { Pool } from 'pg'
import { StoreError, type SqlQueryable } from 'holdfast'

/** The schema that the log, the sagas and the services' tables are in, so that one transaction can change them all. */
export const SCHEMA = 'storefront'

/** Runs `work` in a transaction: committed when it resolves, rolled back when it rejects. @throws StoreError when no connection can be had */
export async function inTransaction<T>(pool: Pool, work: (tx: SqlQueryable) => Promise<T>): Promise<T> {
  const client = await pool.connect().catch((cause: unknown) => {
    throw new StoreError('the database does not answer', { cause })
  })
  let broken: Error | undefined
  const onError = (error: Error): void => void (broken ??= error) // cut: the next statement says so, and nobody else need
  client.on('error', onError)
  try {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch(onError)
    throw error
  } finally {
    client.removeListener('error', onError)
    client.release(broken)
  }
}

/** Makes tables by `statements`. Harmless at every start, in many processes at the same time. */
export async function makeTables(pool: Pool, ...statements: readonly string[]): Promise<void> {
  await inTransaction(pool, async (tx) => {
    await tx.query(`select pg_advisory_xact_lock(hashtext('storefront tables'))`)
    // oxlint-disable-next-line no-await-in-loop -- one after the other
    for (const statement of statements) await tx.query(statement)
  })
}
