import type { Pool } from 'pg'
import type { SqlQueryable } from 'holdfast'
import { isOwed, type ChargeState, type PaymentNotes } from './payment-notes.js'
import { isNowhere, trackingOf, Undeliverable, VanBroken, type ParcelDesk } from './shipping.js'
import { makeTables, SCHEMA } from './transaction.js'

/** What the payment service remembers, in PostgreSQL: `select * from storefront.payments`. */
export class PostgresPaymentNotes implements PaymentNotes {
  constructor(private readonly pool: Pool) {}

  migrate(): Promise<void> {
    return makeTables(
      this.pool,
      `create table if not exists ${SCHEMA}.payments (order_id text primary key, state text not null, asks int not null)`,
    )
  }

  async begin(orderId: string): Promise<boolean> {
    const { rows } = await this.pool.query<{ state: ChargeState }>(
      `insert into ${SCHEMA}.payments values ($1, 'asked', 1)
       on conflict (order_id) do update set asks = payments.asks + 1 returning state`,
      [orderId],
    )
    return rows[0]?.state === 'asked'
  }

  async refuse(orderId: string, tx: SqlQueryable = this.pool): Promise<ChargeState> {
    const { rows } = await tx.query(
      `update ${SCHEMA}.payments set state = case asks when 1 then 'refused' else 'unknown' end
       where order_id = $1 returning state`,
      [orderId],
    )
    return (rows[0] as { readonly state: ChargeState }).state
  }

  async write(orderId: string, state: ChargeState, tx: SqlQueryable = this.pool): Promise<void> {
    await tx.query(`update ${SCHEMA}.payments set state = $2 where order_id = $1`, [orderId, state])
  }

  async owed(orderId: string): Promise<ChargeState | undefined> {
    const query = `select state from ${SCHEMA}.payments where order_id = $1`
    const { rows } = await this.pool.query<{ state: ChargeState }>(query, [orderId])
    return isOwed(rows[0]?.state) ? rows[0]?.state : undefined
  }
}

/** The carrier's booking desk, in PostgreSQL: `select * from storefront.parcels`. */
export class PostgresCarrier implements ParcelDesk {
  broken = false

  constructor(private readonly pool: Pool) {}

  migrate(): Promise<void> {
    return makeTables(
      this.pool,
      `create table if not exists ${SCHEMA}.parcels (order_id text primary key, tracking text, withdrawn boolean not null)`,
    )
  }

  get booked(): Promise<number> {
    const count = `select count(*)::int as n from ${SCHEMA}.parcels where not withdrawn`
    return this.pool.query<{ n: number }>(count).then(({ rows }) => rows[0]?.n ?? 0)
  }

  async book(orderId: string, shipTo: string, tx: SqlQueryable = this.pool): Promise<string> {
    if (isNowhere(shipTo)) throw new Undeliverable(`no parcels to ${shipTo}`)
    const { rows } = await tx.query(
      `insert into ${SCHEMA}.parcels values ($1, $2, false)
       on conflict (order_id) do update set tracking = parcels.tracking returning tracking, withdrawn`,
      [orderId, trackingOf(orderId)],
    )
    const parcel = rows[0] as { readonly tracking: string; readonly withdrawn: boolean }
    if (parcel.withdrawn) throw new Undeliverable('the order was cancelled meanwhile')
    return parcel.tracking
  }

  pickUp(): void {
    if (this.broken) throw new VanBroken('the van has broken down')
  }

  async withdraw(orderId: string, tx: SqlQueryable = this.pool): Promise<boolean> {
    const { rows } = await tx.query(
      `insert into ${SCHEMA}.parcels values ($1, null, true)
       on conflict (order_id) do update set withdrawn = true returning tracking`,
      [orderId],
    )
    return (rows[0] as { readonly tracking: string | null }).tracking !== null
  }
}
