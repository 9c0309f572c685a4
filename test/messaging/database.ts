import { setTimeout as sleep } from 'node:timers/promises'
import type { SqlDatabase, SqlQueryable } from '../../src/kernel/postgres.js'
import { randomId } from '../../src/kernel/random.js'
import { PostgresInbox, PostgresOutbox, type PostgresOutboxOptions } from '../../src/messaging/postgres.js'
import type { Harness } from '../conformance/inbox.js'

export { openPool } from '../support/postgres.js'

/** An inbox in a fresh schema, and a table of effects beside it. */
export async function openInbox(
  db: SqlDatabase,
  options: { retainMs?: number } = {},
): Promise<Harness<SqlQueryable> & { inbox: PostgresInbox; schema: string }> {
  const schema = `inbox_${randomId()}`
  const inbox = new PostgresInbox(db, { schema, ...options })
  await inbox.migrate()
  await db.query(`create table "${schema}".effects (effect text)`)
  return {
    inbox,
    schema,
    write: async (tx, effect) => void (await tx.query(`insert into "${schema}".effects values ($1)`, [effect])),
    effects: async () => {
      const { rows } = await db.query(`select effect from "${schema}".effects`)
      return (rows as { effect: string }[]).map(({ effect }) => effect)
    },
    advance: (ms) => sleep(ms),
    close: async () => void (await db.query(`drop schema "${schema}" cascade`)),
  }
}

/** An outbox in a fresh schema. */
export async function openOutbox(
  db: SqlDatabase,
  options: PostgresOutboxOptions = {},
): Promise<{ outbox: PostgresOutbox; schema: string; drop(): Promise<void> }> {
  const schema = options.schema ?? `outbox_${randomId()}`
  const outbox = new PostgresOutbox(db, { ...options, schema })
  await outbox.migrate()
  return { outbox, schema, drop: async () => void (await db.query(`drop schema "${schema}" cascade`)) }
}
