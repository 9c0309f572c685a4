import type { Pool } from 'pg'
import type { SqlQueryable } from 'holdfast'
import { skus, type Item } from './catalogue.js'
import { DELIVERY, LOW, OutOfStock, StockRoomLocked, type StockRoom } from './inventory.js'
import { inTransaction, makeTables, SCHEMA } from './transaction.js'

/** A stock room in PostgreSQL, shared by all processes of the shop: `select * from storefront.stock`. */
export class PostgresInventory implements StockRoom {
  empty = false
  locked = false

  constructor(private readonly pool: Pool) {}

  /** Makes the tables and fills the shelves. */
  migrate(): Promise<void> {
    return makeTables(
      this.pool,
      `create table if not exists ${SCHEMA}.stock (sku text primary key, available int not null)`,
      `create table if not exists ${SCHEMA}.reservations
         (order_id text primary key, items json not null, released boolean not null)`,
      `insert into ${SCHEMA}.stock select unnest('{${skus.join()}}'::text[]), ${DELIVERY} on conflict do nothing`,
    )
  }

  get held(): Promise<number> {
    const counted = this.pool.query<{ n: number }>(
      `select count(*)::int as n from ${SCHEMA}.reservations where not released`,
    )
    return counted.then(({ rows }) => rows[0]?.n ?? 0)
  }

  async reserve(orderId: string, items: readonly Item[], tx?: SqlQueryable): Promise<void> {
    if (!tx) return inTransaction(this.pool, (own) => this.reserve(orderId, items, own))
    await tx.query('savepoint shelves')
    try {
      await this.#take(orderId, items, tx)
    } catch (error) {
      if (error instanceof OutOfStock) await tx.query('rollback to savepoint shelves') // nothing was set aside, and the rest goes on
      throw error
    }
  }

  async release(orderId: string, tx?: SqlQueryable): Promise<boolean> {
    if (this.locked) throw new StockRoomLocked('the stock room is locked')
    if (!tx) return inTransaction(this.pool, (own) => this.release(orderId, own))
    // First, because it waits for whoever is just setting things aside: what follows sees them.
    const never = await tx.query(
      `insert into ${SCHEMA}.reservations values ($1, '[]', true) on conflict do nothing returning 1`,
      [orderId],
    )
    if (never.rows.length > 0) return false
    const { rows } = await tx.query(
      `select items, released from ${SCHEMA}.reservations where order_id = $1 for update`,
      [orderId],
    )
    const { items, released } = rows[0] as { readonly items: Item[]; readonly released: boolean }
    if (released) return items.length > 0
    await tx.query(`update ${SCHEMA}.reservations set released = true where order_id = $1`, [orderId])
    for (const { sku, quantity } of items.toSorted((a, b) => (a.sku < b.sku ? -1 : 1))) {
      // oxlint-disable-next-line no-await-in-loop -- see #take
      await tx.query(`update ${SCHEMA}.stock set available = available + $2::int where sku = $1`, [sku, quantity])
    }
    return true
  }

  async #take(orderId: string, items: readonly Item[], tx: SqlQueryable): Promise<void> {
    const made = await tx.query(
      `insert into ${SCHEMA}.reservations values ($1, $2, false) on conflict do nothing returning 1`,
      [orderId, JSON.stringify(items)],
    )
    if (made.rows.length === 0) {
      const known = await tx.query(`select released from ${SCHEMA}.reservations where order_id = $1`, [orderId])
      if ((known.rows[0] as { released: boolean }).released) throw new OutOfStock('the order was cancelled meanwhile')
      return
    }
    // in the order of their names, so that no two orders wait for each other
    for (const { sku, quantity } of items.toSorted((a, b) => (a.sku < b.sku ? -1 : 1))) {
      // oxlint-disable-next-line no-await-in-loop -- as above
      const taken = await tx.query(
        `update ${SCHEMA}.stock
         set available = available - $2::int + case when available - $2::int < ${LOW} then ${DELIVERY} else 0 end
         where sku = $1 and available >= $2::int and not $3::boolean returning 1`,
        [sku, quantity, this.empty],
      )
      if (taken.rows.length === 0) throw new OutOfStock(`no ${sku} left`)
    }
  }
}
