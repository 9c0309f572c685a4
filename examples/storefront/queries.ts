import { NotFoundError } from 'holdfast'
import type { CacheManager } from 'holdfast/cache'
import { QueryBus, type ReadModel } from 'holdfast/cqrs'
import type { EventStore, Recorded, Repository } from 'holdfast/event-sourcing'
import type { Order, OrderEvent, Placed } from './order.js'
import type { PaymentClient } from './payment-client.js'
import type { Charge } from './payment-books.js'
import type { OrderFilter, OrderView, OrdersView } from './read-model.js'

/** An order's past. With a version: as it was then. */
export interface History {
  readonly id: string
  readonly version: number
  /** The state that the events lead to. */
  readonly state: OrderState
  readonly events: readonly HistoryEvent[]
}

type HistoryEvent = Pick<Recorded<OrderEvent>, 'version' | 'type' | 'data' | 'recordedAt'>

/** An order as its events have left it: the write model's state. */
export type OrderState = Partial<Placed> &
  Pick<Order, 'status' | 'checkout' | 'stock' | 'payment' | 'tracking' | 'cancelRequested' | 'reason'>

/** Every state that an order has been in, oldest first, each with the event that led to it. */
export interface Versions {
  readonly id: string
  readonly versions: readonly (HistoryEvent & { readonly state: OrderState })[]
}

/** Everything that can be asked. */
export interface ShopQueries {
  GetOrder: { in: { orderId: string }; out: OrderView }
  ListOrders: { in: OrderFilter; out: readonly OrderView[] }
  GetHistory: { in: { orderId: string; version?: number | undefined }; out: History }
  GetVersions: { in: { orderId: string }; out: Versions }
  GetReceipt: { in: { orderId: string }; out: Charge }
}

/** What the cache holds: an order view per id. */
export type OrderCache = Record<string, OrderView>

interface Sources {
  readonly view: OrdersView
  readonly cache: CacheManager<OrderCache>
  readonly store: EventStore<OrderEvent>
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
    cache.getOrSet(orderId, async () => (await view.find(orderId)) ?? unknown(orderId), { ttlMs: 60_000 })

  const eventsOf = async (orderId: string, toVersion?: number): Promise<HistoryEvent[]> => {
    const events: HistoryEvent[] = []
    for await (const event of store.read(orders.stream(orderId), { toVersion })) {
      const { version, type, data, recordedAt } = event
      events.push({ version, type, data, recordedAt })
    }
    return events
  }

  bus.on('GetOrder', ({ orderId }) => find(orderId))

  bus.on('ListOrders', (filter) => view.list(filter))

  bus.on('GetHistory', async ({ orderId, version }) => {
    const { state, version: reached, exists } = await orders.load(orderId, { version })
    if (!exists) return unknown(orderId)
    return { id: orderId, version: reached, state: stateOf(state), events: await eventsOf(orderId, reached) }
  })

  bus.on('GetVersions', async ({ orderId }) => {
    const events = await eventsOf(orderId)
    const states = new Map<number, OrderState>()
    for await (const { version, state } of orders.states(orderId)) states.set(version, stateOf(state))
    if (events.length === 0) return unknown(orderId)
    // What has happened between the two readings has a state, and no event yet: it is left for the next time.
    return {
      id: orderId,
      versions: events.map((event) => ({ ...event, state: states.get(event.version) as OrderState })),
    }
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

function stateOf({ placed, status, checkout, stock, payment, tracking, cancelRequested, reason }: Order): OrderState {
  return { ...placed, status, checkout, stock, payment, tracking, cancelRequested, reason }
}

function unknown(orderId: string): never {
  throw new NotFoundError(`there is no order ${orderId}`)
}
