import { MemoryEventBus, type DeliveryContext, type EventBus, type MessageOf } from 'holdfast/messaging'
import { exponential } from 'holdfast/resilience'
import { reasonOf, type Basket, type Checkout, type CheckoutsView, type Services } from './checkout.js'
import { CheckoutTrails } from './checkout-trail.js'
import { OrderRefusal, type CancelReason } from './order.js'
import { PaymentUncertain } from './payment-client.js'

interface Failed {
  readonly orderId: string
  readonly reason: CancelReason
  readonly detail: string
}

/** Everything the services say to each other. A message tells what happened; whoever cares does the next thing. */
export interface ShopMessages {
  'order.accepted': Basket
  'payment.completed': Basket
  /** `unknown`: nobody can say whether the money moved. */
  'payment.failed': Failed & { readonly unknown: boolean }
  'inventory.reserved': Basket
  'inventory.failed': Failed
  'shipping.booked': { readonly orderId: string; readonly tracking: string }
  'shipping.failed': Failed
  'order.shipped': { readonly orderId: string }
  'order.cancelled': { readonly orderId: string }
  'payment.refunded': { readonly orderId: string }
  'inventory.released': { readonly orderId: string }
  'shipping.withdrawn': { readonly orderId: string }
}

type MessageType = keyof ShopMessages

/** A message that can't be handled now is handled later, however often it takes: no order is left half-way. */
const untilItWorks = { attempts: 1_000_000, backoff: exponential({ initialMs: 200, maxMs: 2_000, jitter: 'equal' }) }

/**
 * Checkout without a conductor: order → payment → inventory → shipping, each service listening to the one before. When one
 * fails the order is cancelled, and the services that hear of it undo what they did. Money is taken first here, so that
 * empty shelves show a refund; the orchestrated checkout does it the other way round.
 */
export class ChoreographedCheckout implements Checkout {
  readonly kind = 'choreographed'
  readonly #trails = new CheckoutTrails(this.kind, ['payment', 'stock', 'shipping'])

  private constructor(
    private readonly services: Services,
    private readonly bus: EventBus<ShopMessages>,
  ) {}

  /** @param bus what the services talk over; it is closed with the checkout */
  static async open(
    services: Services,
    bus: EventBus<ShopMessages> = new MemoryEventBus<ShopMessages>(),
  ): Promise<ChoreographedCheckout> {
    const checkout = new ChoreographedCheckout(services, bus)
    await Promise.all([checkout.#orders(), checkout.#payment(), checkout.#inventory(), checkout.#shipping()])
    await checkout.#watch()
    return checkout
  }

  async start(basket: Basket): Promise<void> {
    try {
      await this.services.commands.send('AcceptOrder', { orderId: basket.orderId, checkout: this.kind })
    } catch (error) {
      if (!(error instanceof OrderRefusal)) throw error
      return this.cancel(basket.orderId) // the customer was quicker
    }
    await this.#tell('order.accepted', basket)
  }

  async cancel(orderId: string): Promise<void> {
    await this.services.commands.send('CancelOrder', { orderId, reason: 'customer', detail: '' })
    await this.#tell('order.cancelled', { orderId })
  }

  view(limit: number): CheckoutsView {
    return this.#trails.view(limit)
  }

  async close(): Promise<void> {
    await this.bus.close()
  }

  /** Writes down what became of the order, and cancels it when a service says that it can't. */
  #orders(): Promise<void> {
    const { commands } = this.services
    const cancel = async ({ orderId, reason, detail }: Failed): Promise<void> => {
      try {
        await commands.send('CancelOrder', { orderId, reason, detail })
        await this.#tell('order.cancelled', { orderId })
      } catch (error) {
        if (!(error instanceof OrderRefusal)) throw error // shipped meanwhile: nothing to undo, and never will be
      }
    }
    return this.#serve('orders', {
      'payment.completed': ({ orderId }) => commands.send('RecordPayment', { orderId }),
      'inventory.reserved': ({ orderId }) => commands.send('RecordStock', { orderId }),
      'shipping.booked': async ({ orderId, tracking }) => {
        try {
          await commands.send('ShipOrder', { orderId, tracking })
          await this.#tell('order.shipped', { orderId })
        } catch (error) {
          if (!(error instanceof OrderRefusal)) throw error // cancelled meanwhile: shipping hears of that too
        }
      },
      'payment.failed': cancel,
      'inventory.failed': cancel,
      'shipping.failed': cancel,
      'payment.refunded': ({ orderId }) => commands.send('RecordRefund', { orderId }),
      'inventory.released': ({ orderId }) => commands.send('RecordRelease', { orderId }),
    })
  }

  #payment(): Promise<void> {
    const { payments } = this.services
    const toRefund = new Set<string>()
    return this.#serve('payment', {
      'order.accepted': async (basket, { signal }) => {
        const { orderId, cents } = basket
        try {
          await payments.charge(orderId, cents, signal)
        } catch (error) {
          const unknown = error instanceof PaymentUncertain
          if (unknown) toRefund.add(orderId)
          return this.#tell('payment.failed', { orderId, ...reasonOf(error), unknown })
        }
        toRefund.add(orderId)
        await this.#tell('payment.completed', basket)
      },
      'order.cancelled': async ({ orderId }, { signal }) => {
        if (!toRefund.has(orderId)) return
        await payments.refund(orderId, signal) // while it throws, the bus brings the message again
        await this.#tell('payment.refunded', { orderId })
        toRefund.delete(orderId)
      },
      'order.shipped': ({ orderId }) => toRefund.delete(orderId),
    })
  }

  #inventory(): Promise<void> {
    const { inventory } = this.services
    return this.#serve('inventory', {
      'payment.completed': async (basket) => {
        const { orderId, items } = basket
        try {
          await inventory.reserve(orderId, items)
        } catch (error) {
          return this.#tell('inventory.failed', { orderId, ...reasonOf(error) })
        }
        await this.#tell('inventory.reserved', basket)
      },
      'order.cancelled': async ({ orderId }) => {
        if (await inventory.release(orderId)) await this.#tell('inventory.released', { orderId })
      },
    })
  }

  #shipping(): Promise<void> {
    const { carrier } = this.services
    return this.#serve('shipping', {
      'inventory.reserved': async ({ orderId, shipTo }) => {
        let tracking: string
        try {
          tracking = carrier.book(orderId, shipTo)
        } catch (error) {
          return this.#tell('shipping.failed', { orderId, ...reasonOf(error) })
        }
        await this.#tell('shipping.booked', { orderId, tracking })
      },
      'order.cancelled': async ({ orderId }) => {
        if (carrier.withdraw(orderId)) await this.#tell('shipping.withdrawn', { orderId })
      },
    })
  }

  /** Follows the conversation for the page. */
  #watch(): Promise<void> {
    const trails = this.#trails
    return this.#serve('trails', {
      'order.accepted': ({ orderId }) => trails.begin(orderId),
      'payment.completed': ({ orderId }) => trails.mark(orderId, 'payment', 'done'),
      'payment.failed': ({ orderId, unknown }) => trails.mark(orderId, 'payment', unknown ? 'unknown' : 'failed'),
      'inventory.reserved': ({ orderId }) => trails.mark(orderId, 'stock', 'done'),
      'inventory.failed': ({ orderId }) => trails.mark(orderId, 'stock', 'failed'),
      'order.shipped': ({ orderId }) => trails.mark(orderId, 'shipping', 'done'),
      'shipping.failed': ({ orderId }) => trails.mark(orderId, 'shipping', 'failed'),
      'order.cancelled': ({ orderId }) => trails.turnBack(orderId),
      'payment.refunded': ({ orderId }) => trails.mark(orderId, 'payment', 'undone'),
      'inventory.released': ({ orderId }) => trails.mark(orderId, 'stock', 'undone'),
    })
  }

  async #tell<T extends MessageType>(type: T, data: ShopMessages[T]): Promise<void> {
    // The key keeps the messages about one order in their order. Those about others overtake.
    await this.bus.publish({ type, key: data.orderId, data } as unknown as MessageOf<ShopMessages>)
  }

  /** One service: a group of its own on the bus, a handler per message it cares for. */
  async #serve(
    group: string,
    handlers: { readonly [T in MessageType]?: (data: ShopMessages[T], context: DeliveryContext) => unknown },
  ): Promise<void> {
    await this.bus.subscribe({
      group,
      types: Object.keys(handlers) as MessageType[],
      concurrency: 64,
      retry: untilItWorks,
      graceMs: 1_000,
      handle: ({ type, data }, context) =>
        (handlers[type] as (data: unknown, context: DeliveryContext) => unknown)(data, context),
    })
  }
}
