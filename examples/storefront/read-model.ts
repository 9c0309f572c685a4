import type { Recorded, Subscription } from 'holdfast/event-sourcing'
import type { Item } from './catalogue.js'
import type { CancelReason, OrderEvent } from './order.js'

/** An order as the outside sees it. */
export interface OrderView {
  readonly id: string
  readonly version: number
  readonly userId: string
  readonly items: readonly Item[]
  readonly shipTo: string
  readonly cents: number
  readonly status: 'placed' | 'shipped' | 'cancelled'
  readonly checkout?: string
  readonly stock: 'none' | 'reserved' | 'released'
  readonly payment: 'none' | 'received' | 'refunded'
  readonly tracking?: string
  readonly reason?: CancelReason
  readonly detail?: string
  readonly placedAt: Date
  readonly changedAt: Date
}

/** How many orders there are of each status. */
export type OrderCounts = Readonly<Record<OrderView['status'], number>>

/** Which orders are wanted. */
export interface OrderFilter {
  /** At most; `Infinity`: all. */
  readonly limit: number
  readonly status?: OrderView['status'] | undefined
  readonly userId?: string | undefined
  /** Those that were placed before the order of this id: the next page. An id that is not known: none. */
  readonly after?: string | undefined
}

/** What can be asked of the read model, wherever it is. */
export interface OrdersView {
  find(orderId: string): Promise<OrderView | undefined>
  /** The newest first. */
  list(filter: OrderFilter): Promise<readonly OrderView[]>
  counts(): Promise<OrderCounts>
}

/**
 * Orders as they are asked for, made from the events and from nothing else: it could be made anew at any time. In memory
 * (`read-model-memory.ts`) or in a database of its own (`read-model-postgres.ts`); what is done with an event is the same, and here.
 */
export interface OrdersReadModel extends OrdersView {
  /** Begins to take in events, where it stopped, exactly once each. */
  run(): Subscription
}

/** What each event changes. */
const changes: {
  readonly [Type in OrderEvent['type']]: (data: Extract<OrderEvent, { type: Type }>['data']) => Partial<OrderView>
} = {
  OrderPlaced: (placed) => ({ ...placed, status: 'placed', stock: 'none', payment: 'none' }),
  OrderAccepted: ({ checkout }) => ({ checkout }),
  StockReserved: () => ({ stock: 'reserved' }),
  PaymentReceived: () => ({ payment: 'received' }),
  OrderShipped: ({ tracking }) => ({ status: 'shipped', tracking }),
  CancelRequested: () => ({}),
  OrderCancelled: ({ reason, detail }) => ({ status: 'cancelled', reason, detail }),
  StockReleased: () => ({ stock: 'released' }),
  PaymentRefunded: () => ({ payment: 'refunded' }),
}

/** The events that the read model takes in. */
export const orderEvents = Object.keys(changes) as OrderEvent['type'][]

/** The order that an event is about. */
export const orderIdOf = ({ streamId }: Recorded): string => streamId.slice('order-'.length)

interface Rows<V> {
  get(key: string): V | undefined
  set(key: string, value: V): unknown
}

/** Takes one event in. It counts what comes twice twice: that each comes once is what the projector is for. */
export function takeIn(event: Recorded<OrderEvent>, orders: Rows<OrderView>, counts: Rows<number>): void {
  const id = orderIdOf(event)
  const before = orders.get(id)
  if (!before && event.type !== 'OrderPlaced') return
  const { version, recordedAt } = event
  const change = (changes[event.type] as (data: OrderEvent['data']) => Partial<OrderView>)(event.data)
  const after = { placedAt: recordedAt, ...before, ...change, id, version, changedAt: recordedAt } as OrderView
  orders.set(id, after)
  if (before?.status === after.status) return
  if (before) counts.set(before.status, (counts.get(before.status) ?? 0) - 1)
  counts.set(after.status, (counts.get(after.status) ?? 0) + 1)
}
