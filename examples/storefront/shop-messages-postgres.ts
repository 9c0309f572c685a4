import { randomUUID } from 'node:crypto'
import type { Pool } from 'pg'
import type { SqlQueryable } from 'holdfast'
import type { EventBus, MessageOf } from 'holdfast/messaging'
import { PostgresInbox, PostgresOutbox, type OutboxRelay, type SqlListener } from 'holdfast/messaging/postgres'
import { Rounds } from './rounds.js'
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
import { Unheard } from './unheard.js'

/** After so long others publish what a process that vanished has left. */
const LEASE_MS = 3_000
/** Messages of a service in hand at once: as many as a database serves well. */
const CONCURRENCY = 16

/** How those who talk find each other. */
export interface LastingTalkOptions {
  /** What hears at once that something was said. @defaultValue none: relays look now and then */
  readonly listener?: SqlListener | undefined
  /** Milliseconds after which what nobody has handled is said again. @defaultValue 5_000 */
  readonly patienceMs?: number | undefined
}

/**
 * Talk that survives: a service's own rows, its answer (outbox) and the fact that it has handled the message (inbox) are one transaction,
 * and a relay takes what was committed to the bus. A process that is killed leaves nothing half-said: either its transaction is there, or
 * the message comes again, to this service in another process. A bus that forgets is told again.
 */
export class LastingTalk implements Conversation {
  readonly lasts = true
  readonly #outbox: PostgresOutbox<ShopMessages>
  readonly #inbox: PostgresInbox
  readonly #unheard: Unheard
  /** The services that care for a type. */
  readonly #listeners = new Map<string, string[]>()
  readonly #patienceMs: number
  #relay: OutboxRelay | undefined
  #rounds: Rounds | undefined

  /** @param bus is closed with it */
  constructor(
    private readonly pool: Pool,
    private readonly bus: EventBus<ShopMessages>,
    { listener, patienceMs = 5_000 }: LastingTalkOptions = {},
  ) {
    this.#outbox = new PostgresOutbox(pool, { schema: SCHEMA, listener })
    this.#inbox = new PostgresInbox(pool, { schema: SCHEMA })
    this.#unheard = new Unheard(pool, patienceMs)
    this.#patienceMs = patienceMs
  }

  /** Makes the tables. Harmless at every start, in many processes at the same time. */
  async migrate(): Promise<void> {
    await this.#outbox.migrate()
    await this.#inbox.migrate()
    await this.#unheard.migrate()
  }

  begin(work: Work): Promise<void> {
    return inTransaction(this.pool, async (tx) => void (await work(this.#sayIn(tx), tx)))
  }

  serve(group: string, handlers: Handlers): Promise<void> {
    for (const type of Object.keys(handlers)) {
      this.#listeners.set(type, [...(this.#listeners.get(type) ?? []), group])
    }
    return serveOn(this.bus, { group, handlers, concurrency: CONCURRENCY }, (id) => async (work) => {
      await this.#inbox.once(group, id, async (tx) => {
        await work(this.#sayIn(tx), tx)
        await this.#unheard.heard(tx, group, id)
      })
    })
  }

  ready(): void {
    const relay = (this.#relay ??= this.#outbox.relay(this.bus, { leaseMs: LEASE_MS, graceMs: 1_000 }))
    this.#rounds ??= new Rounds(() => this.#remind(relay), this.#patienceMs / 5)
  }

  async close(): Promise<void> {
    await this.#rounds?.close()
    await this.#relay?.close() // what is written from now on others publish, or the next start
    await this.bus.close()
  }

  /** What still waits for the bus to take it, the bus can't have forgotten. */
  async #remind(relay: OutboxRelay): Promise<void> {
    const { lagMs } = await relay.stats()
    if (lagMs > this.#patienceMs) return
    await this.#unheard.sayAgain((tx, messages) => this.#outbox.put(tx, messages as MessageOf<ShopMessages>[]))
  }

  #sayIn(tx: SqlQueryable): Say {
    return async (type, data) => {
      const message = { ...messageOf(type, data), id: randomUUID() }
      await this.#outbox.put(tx, message)
      await this.#unheard.note(tx, message, this.#listeners.get(type) ?? [])
    }
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
