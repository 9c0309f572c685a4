import type { Recorded } from 'holdfast/event-sourcing'
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

/** The read model: orders as they are asked for, made from the events and from nothing else. It could be made anew at any time. */
export class OrdersView {
  readonly #orders = new Map<string, OrderView>()
  readonly count = { placed: 0, shipped: 0, cancelled: 0 }

  find(orderId: string): OrderView | undefined {
    return this.#orders.get(orderId)
  }

  /** The newest first. */
  list({
    limit,
    status,
    userId,
  }: {
    readonly limit: number
    readonly status?: string | undefined
    readonly userId?: string | undefined
  }): OrderView[] {
    const found: OrderView[] = []
    for (const order of [...this.#orders.values()].toReversed()) {
      if (found.length === limit) break
      if ((status ?? order.status) === order.status && (userId ?? order.userId) === order.userId) found.push(order)
    }
    return found
  }

  /** Takes in one event. @returns the order as it is now */
  apply(event: Recorded<OrderEvent>): OrderView | undefined {
    const id = event.streamId.slice('order-'.length)
    const before = this.#orders.get(id)
    const after = next(before, event, id)
    if (!after) return undefined
    if (before) this.count[before.status]--
    this.count[after.status]++
    this.#orders.set(id, after)
    return after
  }
}

function next(before: OrderView | undefined, event: Recorded<OrderEvent>, id: string): OrderView | undefined {
  const { version, recordedAt } = event
  if (before && version <= before.version) return before // brought again: nothing new
  if (event.type === 'OrderPlaced') {
    const order = { ...event.data, id, version, status: 'placed', stock: 'none', payment: 'none' } as const
    return { ...order, placedAt: recordedAt, changedAt: recordedAt }
  }
  return before && { ...before, ...changes(event), version, changedAt: recordedAt }
}

function changes(event: Exclude<OrderEvent, { type: 'OrderPlaced' }>): Partial<OrderView> {
  switch (event.type) {
    case 'OrderAccepted':
      return { checkout: event.data.checkout }
    case 'StockReserved':
      return { stock: 'reserved' }
    case 'PaymentReceived':
      return { payment: 'received' }
    case 'OrderShipped':
      return { status: 'shipped', tracking: event.data.tracking }
    case 'CancelRequested':
      return {}
    case 'OrderCancelled':
      return { status: 'cancelled', ...event.data }
    case 'StockReleased':
      return { stock: 'released' }
    case 'PaymentRefunded':
      return { payment: 'refunded' }
  }
}
