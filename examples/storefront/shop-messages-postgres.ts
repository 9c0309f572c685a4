import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import type { SqlQueryable } from 'holdfast'
import type { EventBus } from 'holdfast/messaging'
import { PostgresInbox, PostgresOutbox, type OutboxRelay, type SqlListener } from 'holdfast/messaging/postgres'
import {
  messageOf,
  serveOn,
  type Conversation,
  type Handlers,
  type Say,
  type ShopMessages,
  type Work,
} from './shop-messages.js'
import { inTransaction, makeTables, SCHEMA } from './transaction.js'

/** After so long others publish what a process that vanished has left. */
const LEASE_MS = 3_000
/** Messages of a service in hand at once: as many as a database serves well. */
const CONCURRENCY = 16

/**
 * Talk that survives: a service's own rows, its answer (outbox) and the fact that it has handled the message (inbox) are one transaction,
 * and a relay takes what was committed to the bus. A process that is killed leaves nothing half-said: either its transaction is there, or
 * the message comes again, to this service in another process.
 */
export class LastingTalk implements Conversation {
  readonly lasts = true
  readonly #outbox: PostgresOutbox<ShopMessages>
  readonly #inbox: PostgresInbox
  #relay: OutboxRelay | undefined

  /** @param bus is closed with it */
  constructor(
    private readonly pool: Pool,
    private readonly bus: EventBus<ShopMessages>,
    listener?: SqlListener,
  ) {
    this.#outbox = new PostgresOutbox(pool, { schema: SCHEMA, listener })
    this.#inbox = new PostgresInbox(pool, { schema: SCHEMA })
  }

  /** Makes the tables. Harmless at every start, in many processes at the same time. */
  async migrate(): Promise<void> {
    await this.#outbox.migrate()
    await this.#inbox.migrate()
  }

  begin(work: Work): Promise<void> {
    return inTransaction(this.pool, async (tx) => void (await work(this.#sayIn(tx), tx)))
  }

  serve(group: string, handlers: Handlers): Promise<void> {
    return serveOn(this.bus, { group, handlers, concurrency: CONCURRENCY }, (id) => async (work) => {
      await this.#inbox.once(group, id, async (tx) => void (await work(this.#sayIn(tx), tx)))
    })
  }

  ready(): void {
    this.#relay ??= this.#outbox.relay(this.bus, { leaseMs: LEASE_MS, graceMs: 1_000 })
  }

  async close(): Promise<void> {
    await this.#relay?.close() // what is written from now on others publish, or the next start
    await this.bus.close()
  }

  #sayIn(tx: SqlQueryable): Say {
    return (type, data) => this.#outbox.put(tx, messageOf(type, data))
  }
}

/** A name for this log and no other: messages that speak of the orders of one must not reach the shops of another. */
export async function nameOfLog(pool: Pool): Promise<string> {
  await makeTables(
    pool,
    `create table if not exists ${SCHEMA}.log_name (one boolean primary key default true check (one), name text not null)`,
    `insert into ${SCHEMA}.log_name (name) values ('${randomUUID()}') on conflict do nothing`,
  )
  const { rows } = await pool.query<{ name: string }>(`select name from ${SCHEMA}.log_name`)
  return rows[0]!.name
}
