import { NotFoundError } from 'holdfast'
import type { CacheManager } from 'holdfast/cache'
import { QueryBus, type ReadModel } from 'holdfast/cqrs'
import type { EventStore, Recorded, Repository } from 'holdfast/event-sourcing'
import type { Order, OrderEvent } from './order.js'
import type { PaymentClient } from './payment-client.js'
import type { Charge } from './payment-provider.js'
import type { OrderView, OrdersView } from './read-model.js'

/** An order's past. With a version: as it was then. */
export interface History {
  readonly id: string
  readonly version: number
  /** The state that the events lead to. */
  readonly state: Pick<Order, 'status' | 'stock' | 'payment' | 'tracking' | 'reason'>
  readonly events: readonly Pick<Recorded<OrderEvent>, 'version' | 'type' | 'data' | 'recordedAt'>[]
}

/** Everything that can be asked. */
export interface ShopQueries {
  GetOrder: { in: { orderId: string }; out: OrderView }
  ListOrders: {
    in: { limit: number; status?: OrderView['status'] | undefined; userId?: string | undefined }
    out: readonly OrderView[]
  }
  GetHistory: { in: { orderId: string; version?: number | undefined }; out: History }
  GetReceipt: { in: { orderId: string }; out: Charge }
}

/** What the cache holds: an order view per id. */
export type OrderCache = Record<string, OrderView>

interface Sources {
  readonly view: OrdersView
  readonly cache: CacheManager<OrderCache>
  readonly store: EventStore
  readonly orders: Repository<Order, never, OrderEvent>
  readonly payments: PaymentClient
}

/**
 * The read side. Answers come from the read model, never from the write model: a query may lag behind the last command by
 * a moment, and one that must not says so with `atLeast`.
 */
export function createQueries(sources: Sources, readModel: ReadModel): QueryBus<ShopQueries> {
  const { view, cache, store, orders, payments } = sources
  const bus = new QueryBus<ShopQueries>({ readModel })

  // Cache-aside: look there, else ask the read model and remember. Whoever changes the view deletes the entry (shop.ts).
  const find = (orderId: string): Promise<OrderView> =>
    cache.getOrSet(orderId, () => view.find(orderId) ?? unknown(orderId), { ttlMs: 60_000 })

  bus.on('GetOrder', ({ orderId }) => find(orderId))

  bus.on('ListOrders', (filter) => view.list(filter))

  bus.on('GetHistory', async ({ orderId, version }) => {
    const { state, version: reached, exists } = await orders.load(orderId, { version })
    if (!exists) return unknown(orderId)
    const { status, stock, payment, tracking, reason } = state
    const events: History['events'][number][] = []
    for await (const event of store.read<OrderEvent>(orders.stream(orderId), { toVersion: reached })) {
      const { version: at, type, data, recordedAt } = event
      events.push({ version: at, type, data, recordedAt })
    }
    return { id: orderId, version: reached, state: { status, stock, payment, tracking, reason }, events }
  })

  bus.on('GetReceipt', async ({ orderId }, { signal }) => {
    const { payment } = await find(orderId)
    // Asks the provider itself, through the circuit breaker: an open one answers 503 at once, with the time to come back.
    const charge = payment === 'none' ? undefined : await payments.receipt(orderId, signal)
    if (!charge) throw new NotFoundError(`order ${orderId} is not paid`)
    return charge
  })
  return bus
}

function unknown(orderId: string): never {
  throw new NotFoundError(`there is no order ${orderId}`)
}
