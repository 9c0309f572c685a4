import type { Pool } from 'pg'
import type { BookCounts, Charge, PaymentBooks } from './payment-books.js'
import { makeTables } from './transaction.js'

/** The provider is somebody else's service: it shares the server with the shop at most. */
const SCHEMA = 'storefront_payment'

/** Books in PostgreSQL, which all providers on it share: `select * from storefront_payment.charges`. */
export class PostgresPaymentBooks implements PaymentBooks {
  constructor(private readonly pool: Pool) {}

  /** Makes the table. Harmless at every start, in many processes at the same time. */
  migrate(): Promise<void> {
    return makeTables(
      this.pool,
      `create schema if not exists ${SCHEMA}`,
      `create table if not exists ${SCHEMA}.charges (key text primary key, cents int not null, state text not null)`,
    )
  }

  async find(key: string): Promise<Charge | undefined> {
    const { rows } = await this.pool.query<Charge>(`select * from ${SCHEMA}.charges where key = $1`, [key])
    return rows[0]
  }

  /** What is there stays as it is, and comes back either way. */
  charge(key: string, cents: number): Promise<Charge> {
    return this.#write(`values ($1, $2, 'charged') on conflict (key) do update set state = charges.state`, [key, cents])
  }

  refund(key: string): Promise<Charge> {
    const state = `case charges.state when 'charged' then 'refunded' else charges.state end`
    return this.#write(`values ($1, 0, 'void') on conflict (key) do update set state = ${state}`, [key])
  }

  async counts(): Promise<BookCounts> {
    const { rows } = await this.pool.query<{ state: Charge['state']; n: number }>(
      `select state, count(*)::int as n from ${SCHEMA}.charges group by state`,
    )
    const of = (state: Charge['state']): number => rows.find((row) => row.state === state)?.n ?? 0
    return { charged: of('charged'), refunded: of('refunded'), void: of('void') }
  }

  async #write(values: string, params: unknown[]): Promise<Charge> {
    const { rows } = await this.pool.query<Charge>(`insert into ${SCHEMA}.charges ${values} returning *`, params)
    return rows[0] as Charge
  }
}
