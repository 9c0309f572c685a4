import type { Pool } from 'pg'
import { expect } from 'vitest'

interface Counts {
  readonly placed: number
  readonly shipped: number
  readonly cancelled: number
}

/** What the log itself says of every order. */
export async function ordersOf(pool: Pool): Promise<Counts> {
  const { rows } = await pool.query<{ shipped: boolean; cancelled: boolean; n: number }>(
    `select shipped, cancelled, count(*)::int as n from (
       select stream, bool_or(type = 'OrderShipped') as shipped, bool_or(type = 'OrderCancelled') as cancelled
       from storefront.es_events group by stream) s group by 1, 2`,
  )
  const of = (shipped: boolean, cancelled: boolean): number =>
    rows.find((row) => row.shipped === shipped && row.cancelled === cancelled)?.n ?? 0
  expect(of(true, true)).toBe(0)
  return { placed: of(false, false), shipped: of(true, false), cancelled: of(false, true) }
}

/** How many rows there are. @param query a table, with `where` if need be */
export const countOf = async (pool: Pool, query: string): Promise<number> =>
  (await pool.query<{ n: number }>(`select count(*)::int as n from ${query}`)).rows[0]?.n ?? NaN

/** Charges, reservations and parcels that stand: as many as orders are shipped, when all is in its place. */
export const heldIn = (pool: Pool): Promise<number[]> =>
  Promise.all(
    [
      `storefront_payment.charges where state = 'charged'`,
      'storefront.reservations where not released',
      'storefront.parcels where not withdrawn',
    ].map((what) => countOf(pool, what)),
  )
