import { StoreError, type SqlDatabase, type SqlQueryable } from 'holdfast'
import type { EventStore, Projection } from 'holdfast/event-sourcing'
import { PostgresProjector } from 'holdfast/event-sourcing/postgres'
import type { OrderEvent } from './order.js'
import { orderEvents, orderIdOf, takeIn, type OrderFilter, type OrdersReadModel, type OrderView } from './read-model.js'

/** Where the tables are, whichever database they are in: `select * from storefront_read.orders`. */
const SCHEMA = 'storefront_read'

/** How long a shop that was killed keeps the next one waiting. */
const LEASE_MS = 3_000

/** What is asked for is a column, the rest is as it is shown. Customers write any character: `json` keeps it, `jsonb` would not. */
const projection: Projection<OrderEvent, SqlQueryable> = {
  name: 'orders',
  on: orderEvents,

  async setup({ tx, name }) {
    await tx.query(
      `create table ${name('orders')} (id text primary key, placed_pos bigint not null, version int not null,
         status text not null, user_id text not null, cents int not null, data json not null)`,
    )
    await tx.query(`create index on ${name('orders')} (placed_pos)`)
    await tx.query(`create index on ${name('orders')} (status, placed_pos)`)
    await tx.query(`create index on ${name('orders')} (user_id, placed_pos)`)
    await tx.query(`create table ${name('order_counts')} (status text primary key, n int not null)`)
  },

  // One statement reads the orders of the whole batch, one writes them; the checkpoint moves in the same transaction.
  async project(events, { tx, name }) {
    const known = await tx.query(`select id, placed_pos, data from ${name('orders')} where id = any($1)`, [
      [...new Set(events.map(orderIdOf))],
    ])
    const rows = known.rows as { id: string; placed_pos: unknown; data: OrderView }[]
    const orders = new Map(rows.map(({ id, data }) => [id, revived(data)]))
    const placed = new Map(rows.map((row) => [row.id, row.placed_pos]))
    const counts = new Map<string, number>()
    for (const event of events) {
      if (event.type === 'OrderPlaced') placed.set(orderIdOf(event), event.position)
      takeIn(event, orders, counts)
    }
    const all = [...orders.values()]
    await tx.query(
      `insert into ${name('orders')}
       select * from unnest($1::text[], $2::bigint[], $3::int[], $4::text[], $5::text[], $6::int[], $7::json[])
       on conflict (id) do update set version = excluded.version, status = excluded.status, data = excluded.data`,
      [
        all.map(({ id }) => id),
        all.map(({ id }) => placed.get(id)),
        all.map(({ version }) => version),
        all.map(({ status }) => status),
        all.map(({ userId }) => userId),
        all.map(({ cents }) => cents),
        all.map((order) => JSON.stringify(order)),
      ],
    )
    await tx.query(
      `insert into ${name('order_counts')} as c select * from unnest($1::text[], $2::int[])
       on conflict (status) do update set n = c.n + excluded.n`,
      [[...counts.keys()], [...counts.values()]],
    )
  },
}

/** The read model in a database of its own, beside the log's or elsewhere. It survives the process, and goes on where it stopped. */
export class PostgresOrders implements OrdersReadModel {
  readonly #projector: PostgresProjector<OrderEvent>

  constructor(
    store: EventStore<OrderEvent>,
    private readonly db: SqlDatabase,
  ) {
    this.#projector = new PostgresProjector(store, db, { schema: SCHEMA })
  }

  /** Makes the tables of the projector; those of the projection are made when it first runs. */
  async migrate(): Promise<void> {
    await this.#projector.migrate()
  }

  /** What it has taken in. */
  position(): Promise<number> {
    return this.#projector.position(projection.name)
  }

  run() {
    return this.#projector.run(projection, { pollMs: 100, leaseMs: LEASE_MS })
  }

  async find(orderId: string) {
    const [row] = await this.#query<{ data: OrderView }>(`select data from ${SCHEMA}.orders where id = $1`, [orderId])
    return row && revived(row.data)
  }

  async list({ limit, status, userId, after }: OrderFilter) {
    const rows = await this.#query<{ data: OrderView }>(
      `select data from ${SCHEMA}.orders where ($1::text is null or status = $1) and ($2::text is null or user_id = $2)
         and ($3::text is null or placed_pos < (select placed_pos from ${SCHEMA}.orders where id = $3))
       order by placed_pos desc limit $4`,
      [status, userId, after, Number.isFinite(limit) ? limit : null],
    )
    return rows.map(({ data }) => revived(data))
  }

  async counts() {
    const rows = await this.#query<{ status: string; n: number }>(`select status, n from ${SCHEMA}.order_counts`)
    return { placed: 0, shipped: 0, cancelled: 0, ...Object.fromEntries(rows.map(({ status, n }) => [status, n])) }
  }

  async #query<Row>(text: string, params: unknown[] = []): Promise<Row[]> {
    try {
      return (await this.db.query(text, params)).rows as Row[]
    } catch (cause) {
      if ((cause as { code?: unknown }).code === '42P01') return [] // no such table: it has not begun yet
      throw new StoreError('the read model does not answer', { cause })
    }
  }
}

const revived = (order: OrderView): OrderView => ({
  ...order,
  placedAt: new Date(order.placedAt),
  changedAt: new Date(order.changedAt),
})
