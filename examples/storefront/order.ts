import { Aggregate, type Event } from 'holdfast/event-sourcing'
import { priceOf, type Item } from './catalogue.js'

/** Why an order was cancelled: for programs. The event's `detail` is for people. */
export const cancelReasons = [
  'customer',
  'out-of-stock',
  'payment-declined',
  'payment-unavailable',
  'undeliverable',
] as const
export type CancelReason = (typeof cancelReasons)[number]

/** What an order is made of. */
export interface Placed {
  readonly userId: string
  readonly items: readonly Item[]
  readonly shipTo: string
  readonly cents: number
}

/** Everything that can have happened to an order, in the words of the shop. Facts: never changed, never taken back. */
export type OrderEvent =
  | Event<'OrderPlaced', Placed>
  | Event<'OrderAccepted', { readonly checkout: string }>
  | Event<'StockReserved', Record<string, never>>
  | Event<'PaymentReceived', Record<string, never>>
  | Event<'OrderShipped', { readonly tracking: string }>
  | Event<'CancelRequested', { readonly detail: string }>
  | Event<'OrderCancelled', { readonly reason: CancelReason; readonly detail: string }>
  | Event<'StockReleased', Record<string, never>>
  | Event<'PaymentRefunded', Record<string, never>>

/** The order can't do what it was told, as it stands. Nothing was changed. */
export class OrderRefusal extends Error {
  override readonly name = 'OrderRefusal'

  constructor(
    readonly code: 'ORDER_CANCELLED' | 'ORDER_SHIPPED' | 'ORDER_EXISTS' | 'ORDER_TAKEN',
    message: string,
  ) {
    super(message)
  }
}

/**
 * The write model: decides, and says what happened. Services report what they did, and may do so twice: the second time
 * raises nothing. An order ends once: it is shipped or cancelled, whichever comes first, and stays so.
 */
export class Order extends Aggregate<OrderEvent> {
  status: 'new' | 'placed' | 'shipped' | 'cancelled' = 'new'
  placed: Placed | undefined
  checkout: string | undefined
  stock: 'none' | 'reserved' | 'released' = 'none'
  payment: 'none' | 'received' | 'refunded' = 'none'
  tracking: string | undefined
  cancelRequested: string | undefined
  reason: CancelReason | undefined

  /** @throws OrderRefusal when there is such an order already. */
  place(order: Omit<Placed, 'cents'>): void {
    if (this.status !== 'new') throw new OrderRefusal('ORDER_EXISTS', `order ${this.id} exists`)
    const { userId, items, shipTo } = order
    this.raise({ type: 'OrderPlaced', data: { userId, items, shipTo, cents: priceOf(items) } })
  }

  /** The checkout has begun, of the kind named. @throws OrderRefusal when the order is cancelled, or has one of another kind. */
  accept(checkout: string): void {
    this.#mustNotBeCancelled()
    if (this.checkout && this.checkout !== checkout)
      throw new OrderRefusal('ORDER_TAKEN', `the checkout of order ${this.id} is ${this.checkout}`)
    if (!this.checkout) this.raise({ type: 'OrderAccepted', data: { checkout } })
  }

  /** Stock was set aside: true also if the order was cancelled meanwhile. */
  recordStock(): void {
    if (this.stock === 'none') this.raise({ type: 'StockReserved', data: {} })
  }

  /** Money came: true also if the order was cancelled meanwhile. */
  recordPayment(): void {
    if (this.payment === 'none') this.raise({ type: 'PaymentReceived', data: {} })
  }

  /** @throws OrderRefusal when it is cancelled, or about to be: the parcel must be withdrawn. */
  ship(tracking: string): void {
    this.#mustNotBeCancelled()
    if (this.status !== 'shipped') this.raise({ type: 'OrderShipped', data: { tracking } })
  }

  /** The customer wants it no more: from now on it can't be shipped. @throws OrderRefusal when it is shipped or cancelled. */
  requestCancel(detail: string): void {
    this.#mustNotBeShipped()
    if (this.status === 'cancelled') throw new OrderRefusal('ORDER_CANCELLED', `order ${this.id} is cancelled`)
    if (this.cancelRequested === undefined) this.raise({ type: 'CancelRequested', data: { detail } })
  }

  /** @throws OrderRefusal when it is shipped: too late. */
  cancel(reason: CancelReason, detail: string): void {
    this.#mustNotBeShipped()
    if (this.status !== 'placed') return
    const asked = this.cancelRequested
    const data = asked === undefined ? { reason, detail } : { reason: 'customer' as const, detail: asked }
    this.raise({ type: 'OrderCancelled', data })
  }

  recordRelease(): void {
    if (this.stock === 'reserved') this.raise({ type: 'StockReleased', data: {} })
  }

  recordRefund(): void {
    if (this.payment === 'received') this.raise({ type: 'PaymentRefunded', data: {} })
  }

  protected apply(event: OrderEvent): void {
    switch (event.type) {
      case 'OrderPlaced':
        this.status = 'placed'
        this.placed = event.data
        break
      case 'OrderAccepted':
        this.checkout = event.data.checkout
        break
      case 'StockReserved':
        this.stock = 'reserved'
        break
      case 'PaymentReceived':
        this.payment = 'received'
        break
      case 'OrderShipped':
        this.status = 'shipped'
        this.tracking = event.data.tracking
        break
      case 'CancelRequested':
        this.cancelRequested = event.data.detail
        break
      case 'OrderCancelled':
        this.status = 'cancelled'
        this.reason = event.data.reason
        break
      case 'StockReleased':
        this.stock = 'released'
        break
      case 'PaymentRefunded':
        this.payment = 'refunded'
        break
    }
  }

  #mustNotBeCancelled(): void {
    if (this.status !== 'cancelled' && this.cancelRequested === undefined) return
    throw new OrderRefusal('ORDER_CANCELLED', `order ${this.id} is cancelled`)
  }

  #mustNotBeShipped(): void {
    if (this.status === 'shipped') throw new OrderRefusal('ORDER_SHIPPED', `order ${this.id} is shipped`)
  }
}
