import type { Recorded } from 'holdfast/event-sourcing'
import { reasonOf, type Basket, type Checkout, type CheckoutsView, type Services } from './checkout.js'
import { CheckoutTrails } from './checkout-trail.js'
import { OutOfStock } from './inventory.js'
import { OrderRefusal, type CancelReason, type OrderEvent } from './order.js'
import { PaymentUncertain } from './payment-client.js'
import { MemoryPaymentNotes } from './payment-notes.js'
import { orderIdOf } from './read-model.js'
import { Undeliverable } from './shipping.js'
import { Talk, type Conversation, type Failed, type Turn } from './shop-messages.js'

/** Which step it was that failed, by what became of the order. */
const failedSteps: Readonly<Partial<Record<CancelReason, string>>> = {
  'payment-declined': 'payment',
  'payment-unavailable': 'payment',
  'out-of-stock': 'stock',
  undeliverable: 'shipping',
}

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
    private readonly talk: Conversation,
  ) {}

  /** @param talk how the services talk; it is closed with the checkout. @defaultValue over a bus in memory */
  static async open(services: Services, talk: Conversation = new Talk()): Promise<ChoreographedCheckout> {
    const checkout = new ChoreographedCheckout(services, talk)
    await Promise.all([checkout.#orders(), checkout.#payment(), checkout.#inventory(), checkout.#shipping()])
    if (!talk.lasts) await checkout.#watch()
    talk.ready()
    return checkout
  }

  async start(basket: Basket): Promise<void> {
    const { orderId } = basket
    try {
      await this.talk.begin(async (say, tx) => {
        const { changed } = await this.services.commands.send('AcceptOrder', { orderId, checkout: this.kind, tx })
        // Where messages last, what was said before is not forgotten. In memory it may be: then it is said again.
        if (changed || !this.talk.lasts) await say('order.accepted', basket)
      })
    } catch (error) {
      if (!(error instanceof OrderRefusal)) throw error
      if (error.code !== 'ORDER_TAKEN') await this.cancel(orderId) // the customer was quicker
    }
  }

  cancel(orderId: string): Promise<void> {
    return this.talk.begin(async (say, tx) => {
      await this.services.commands.send('CancelOrder', { orderId, reason: 'customer', detail: '', tx })
      await say('order.cancelled', { orderId })
    })
  }

  view(limit: number): CheckoutsView {
    return this.#trails.view(limit)
  }

  /** Follows the log for the page where other processes hear some of the messages: there it can't listen, but orders say as much. */
  follow(event: Recorded<OrderEvent>): void {
    if (!this.talk.lasts) return
    const { type, data } = event
    const orderId = orderIdOf(event)
    const trails = this.#trails
    if (type === 'OrderAccepted' && data.checkout === this.kind) trails.begin(orderId)
    if (type === 'PaymentReceived') trails.mark(orderId, 'payment', 'done')
    if (type === 'StockReserved') trails.mark(orderId, 'stock', 'done')
    if (type === 'OrderShipped') trails.mark(orderId, 'shipping', 'done')
    if (type === 'StockReleased') trails.mark(orderId, 'stock', 'undone')
    if (type === 'PaymentRefunded') trails.mark(orderId, 'payment', 'undone')
    if (type !== 'OrderCancelled') return
    const failed = failedSteps[data.reason]
    if (failed) trails.mark(orderId, failed, 'failed')
    trails.turnBack(orderId)
  }

  async close(): Promise<void> {
    await this.talk.close()
  }

  /** Writes down what became of the order, and cancels it when a service says that it can't. */
  #orders(): Promise<void> {
    const { commands } = this.services
    const cancel = ({ orderId, reason, detail }: Failed, { once }: Turn): Promise<void> =>
      once(async (say, tx) => {
        try {
          await commands.send('CancelOrder', { orderId, reason, detail, tx })
        } catch (error) {
          if (error instanceof OrderRefusal) return // shipped meanwhile: nothing to undo, and never will be
          throw error
        }
        await say('order.cancelled', { orderId })
      })
    return this.talk.serve('orders', {
      'payment.completed': ({ orderId }, { once }) =>
        once((_say, tx) => commands.send('RecordPayment', { orderId, tx })),
      'inventory.reserved': ({ orderId }, { once }) =>
        once((_say, tx) => commands.send('RecordStock', { orderId, tx })),
      'shipping.booked': ({ orderId, tracking }, { once }) =>
        once(async (say, tx) => {
          try {
            await commands.send('ShipOrder', { orderId, tracking, tx })
          } catch (error) {
            if (!(error instanceof OrderRefusal)) throw error
            // Cancelled meanwhile: shipping hears of that too. Or about to be, by a process that may have died over it.
            await commands.send('CancelOrder', { orderId, reason: 'customer', detail: '', tx })
            return say('order.cancelled', { orderId })
          }
          await say('order.shipped', { orderId })
        }),
      'payment.failed': cancel,
      'inventory.failed': cancel,
      'shipping.failed': cancel,
      // What is undone was done: that may be told later, where a broker forgets, and must not be the last word then.
      'payment.refunded': ({ orderId, charged }, { once }) =>
        once(async (say, tx) => {
          if (charged) await commands.send('RecordPayment', { orderId, tx })
          await commands.send('RecordRefund', { orderId, tx })
          await say('order.refunded', { orderId })
        }),
      'inventory.released': ({ orderId }, { once }) =>
        once(async (_say, tx) => {
          await commands.send('RecordStock', { orderId, tx })
          await commands.send('RecordRelease', { orderId, tx })
        }),
    })
  }

  /** The provider is no part of any transaction: it is asked first, by a key that makes asking twice harmless, then all is written down. */
  #payment(): Promise<void> {
    const { payments, notes = new MemoryPaymentNotes() } = this.services
    return this.talk.serve('payment', {
      'order.accepted': async (basket, { signal, once }) => {
        const { orderId, cents } = basket
        if (!(await notes.begin(orderId))) return once(() => {})
        try {
          await payments.charge(orderId, cents, signal)
        } catch (error) {
          if (signal.aborted) throw error // somebody else's now
          return once(async (say, tx) => {
            let unknown = error instanceof PaymentUncertain
            if (unknown) await notes.write(orderId, 'unknown', tx)
            else unknown = (await notes.refuse(orderId, tx)) === 'unknown'
            await say('payment.failed', { orderId, ...reasonOf(error), unknown })
          })
        }
        await once(async (say, tx) => {
          await notes.write(orderId, 'charged', tx)
          await say('payment.completed', { ...basket, transactionId: orderId })
        })
      },
      'order.cancelled': async ({ orderId }, { signal, once }) => {
        const owed = await notes.owed(orderId)
        if (!owed) return once(() => {})
        await payments.refund(orderId, signal) // while it throws, the bus brings the message again
        await once(async (say, tx) => {
          await notes.write(orderId, 'refunded', tx)
          await say('payment.refunded', { orderId, charged: owed === 'charged' })
        })
      },
    })
  }

  #inventory(): Promise<void> {
    const { inventory } = this.services
    return this.talk.serve('inventory', {
      'payment.completed': (basket, { once }) =>
        once(async (say, tx) => {
          const { transactionId: _, ...order } = basket
          try {
            await inventory.reserve(order.orderId, order.items, tx)
          } catch (error) {
            if (!(error instanceof OutOfStock)) throw error
            return say('inventory.failed', { orderId: order.orderId, ...reasonOf(error) })
          }
          await say('inventory.reserved', order)
        }),
      'order.cancelled': ({ orderId }, { once }) =>
        once(async (say, tx) => {
          if (await inventory.release(orderId, tx)) await say('inventory.released', { orderId })
        }),
    })
  }

  #shipping(): Promise<void> {
    const { carrier } = this.services
    return this.talk.serve('shipping', {
      'inventory.reserved': ({ orderId, shipTo }, { once }) =>
        once(async (say, tx) => {
          let tracking: string
          try {
            tracking = await carrier.book(orderId, shipTo, tx)
          } catch (error) {
            if (!(error instanceof Undeliverable)) throw error
            return say('shipping.failed', { orderId, ...reasonOf(error) })
          }
          await say('shipping.booked', { orderId, tracking })
        }),
      'order.cancelled': ({ orderId }, { once }) =>
        once(async (say, tx) => {
          if (await carrier.withdraw(orderId, tx)) await say('shipping.withdrawn', { orderId })
        }),
    })
  }

  /** Follows the conversation for the page. */
  #watch(): Promise<void> {
    const trails = this.#trails
    return this.talk.serve('trails', {
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
}
