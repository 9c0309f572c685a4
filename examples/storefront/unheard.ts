import type { Pool } from 'pg'
import type { SqlQueryable } from 'holdfast'
import type { MessageOf } from 'holdfast/messaging'
import type { ShopMessages } from './shop-messages.js'
import { inTransaction, makeTables, SCHEMA } from './transaction.js'

type Message = Pick<MessageOf<ShopMessages>, 'id' | 'type' | 'key' | 'data'>

/** The wait doubles each time, but so many times at most: not more than some minutes. */
const DOUBLINGS = 6
/** So many are said again in one look, twice as many in the next when those were heard at once, and so on. */
const FEW = 3
const MOST = 500

/**
 * What was said, for each service that has not handled it yet: `select * from storefront.unheard`. A row comes with the transaction that
 * says it and goes with the one that handles it. So whatever becomes of the broker between them, nothing is forgotten: what is here for
 * long is said again, under the same id, by which the inboxes know what they have handled.
 */
export class Unheard {
  #budget = FEW
  /** Ids of what was said again at the last look. */
  #again: readonly string[] = []

  /** @param patienceMs after so many milliseconds a message is said again */
  constructor(
    private readonly pool: Pool,
    private readonly patienceMs: number,
  ) {}

  migrate(): Promise<void> {
    return makeTables(
      this.pool,
      `create table if not exists ${SCHEMA}.unheard (
         id text, service text, message json not null, no bigint generated always as identity,
         said int not null default 1, again_at timestamptz not null, primary key (id, service))`,
      `create index if not exists unheard_again_at on ${SCHEMA}.unheard (again_at)`,
    )
  }

  /** Notes in the transaction that says it who should hear it. */
  async note(tx: SqlQueryable, message: Message, services: readonly string[]): Promise<void> {
    if (services.length === 0) return
    await tx.query(
      `insert into ${SCHEMA}.unheard (id, service, message, again_at)
       select $1, service, $2, clock_timestamp() + $4::float8 * interval '1 ms' from unnest($3::text[]) service`,
      [message.id, JSON.stringify(message), services, this.patienceMs],
    )
  }

  /** Strikes it out in the transaction that handles it. */
  async heard(tx: SqlQueryable, service: string, id: string): Promise<void> {
    await tx.query(`delete from ${SCHEMA}.unheard where id = $1 and service = $2`, [id, service])
  }

  /**
   * Says again what nobody has heard for too long. What another shop is just looking at is left to it. Services that have only fallen behind
   * do not hear at once what is said again either: they are told but a few, or what is said twice would keep them from catching up.
   */
  async sayAgain(put: (tx: SqlQueryable, messages: readonly Message[]) => Promise<void>): Promise<void> {
    await inTransaction(this.pool, async (tx) => {
      const open = await tx.query(`select 1 from ${SCHEMA}.unheard where id = any($1) limit 1`, [this.#again])
      const heard = this.#again.length > 0 && open.rows.length === 0
      this.#budget = heard ? Math.min(MOST, 2 * this.#budget) : FEW
      const { rows } = await tx.query(
        `update ${SCHEMA}.unheard u set said = u.said + 1,
           again_at = clock_timestamp() + $1::float8 * 2 ^ least(u.said, ${DOUBLINGS}) * interval '1 ms'
         from (select id, service from ${SCHEMA}.unheard where again_at <= clock_timestamp()
               order by again_at limit $2 for update skip locked) late
         where u.id = late.id and u.service = late.service returning u.no, u.message`,
        [this.patienceMs, this.#budget],
      )
      const late = (rows as { no: string; message: Message }[]).toSorted((a, b) => Number(a.no) - Number(b.no))
      const messages = new Map(late.map(({ message }) => [message.id, message])) // once for all who have not heard it
      this.#again = [...messages.keys()]
      if (messages.size > 0) await put(tx, [...messages.values()])
    })
  }
}
