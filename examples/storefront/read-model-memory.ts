import { MemoryProjector, type EventStore, type MemoryTransaction, type Projection } from 'holdfast/event-sourcing'
import type { OrderEvent } from './order.js'
import { orderEvents, takeIn, type OrderFilter, type OrdersReadModel, type OrderView } from './read-model.js'

const projection: Projection<OrderEvent, MemoryTransaction> = {
  name: 'orders',
  on: orderEvents,
  project(events, { tx, name }) {
    const orders = tx.table<OrderView>(name('orders'))
    const counts = tx.table<number>(name('order_counts'))
    for (const event of events) takeIn(event, orders, counts)
  },
}

/** The read model in this process's memory: gone with it, and made anew from the log at the next start. */
export class MemoryOrders implements OrdersReadModel {
  readonly #projector: MemoryProjector<OrderEvent>

  constructor(store: EventStore<OrderEvent>) {
    this.#projector = new MemoryProjector(store)
  }

  run() {
    return this.#projector.run(projection, { pollMs: 100 })
  }

  async find(orderId: string) {
    return this.#orders.get(orderId)
  }

  async list({ limit, status, userId, after }: OrderFilter) {
    const found: OrderView[] = []
    const all = [...this.#orders.values()].toReversed()
    const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1 || all.length
    for (const order of all.slice(from)) {
      if (found.length === limit) break
      if ((status ?? order.status) === order.status && (userId ?? order.userId) === order.userId) found.push(order)
    }
    return found
  }

  async counts() {
    return { placed: 0, shipped: 0, cancelled: 0, ...Object.fromEntries(this.#projector.table<number>('order_counts')) }
  }

  get #orders() {
    return this.#projector.table<OrderView>('orders') // rows stay where they were put first: the newest is the last
  }
}
