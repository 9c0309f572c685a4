import { expect, onTestFinished, test } from 'vitest'
import { MemoryEventStore, Repository } from 'holdfast/event-sourcing'
import { ChoreographedCheckout } from '../../examples/storefront/checkout-choreography.js'
import { createCommands } from '../../examples/storefront/commands.js'
import { Inventory } from '../../examples/storefront/inventory.js'
import { Order, type OrderEvent } from '../../examples/storefront/order.js'
import { PaymentUnavailable, type PaymentClient } from '../../examples/storefront/payment-client.js'
import {
  type Conversation,
  type Handlers,
  type MessageType,
  type Say,
  type ShopMessages,
} from '../../examples/storefront/shop-messages.js'
import { Carrier } from '../../examples/storefront/shipping.js'

const basket = { orderId: 'o-1', items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco', cents: 18_900 } as const

/** A conversation that lasts, in which nobody hears anything unless told so: what was said, and how to hand a message to a service. */
class Script implements Conversation {
  readonly lasts = true
  readonly said: [MessageType, object][] = []
  readonly #services = new Map<string, Handlers>()
  readonly #handled = new Set<string>()

  readonly #say: Say = async (type, data) => void this.said.push([type, data])
  begin = async (work: (say: Say, tx: undefined) => unknown): Promise<void> => void (await work(this.#say, undefined))
  serve = async (group: string, handlers: Handlers): Promise<void> => void this.#services.set(group, handlers)
  ready(): void {}
  async close(): Promise<void> {}

  /** @param id the same one again is a redelivery: the inbox knows it when it was handled */
  async hand<T extends MessageType>(group: string, id: string, type: T, data: ShopMessages[T]): Promise<void> {
    const once = async (work: (say: Say, tx: undefined) => unknown): Promise<void> => {
      if (this.#handled.has(group + id)) return
      this.#handled.add(group + id)
      await work(this.#say, undefined)
    }
    await this.#services.get(group)?.[type]?.(data as never, { signal: new AbortController().signal, once })
  }
}

async function openCheckout(charge: () => Promise<void>) {
  const store = new MemoryEventStore<OrderEvent>()
  const orders = new Repository<Order, never, OrderEvent>(store, Order, { category: 'order' })
  const commands = createCommands(orders)
  const { orderId, items, shipTo } = basket
  await commands.send('PlaceOrder', { orderId, userId: 'ada', items, shipTo })
  const books = { charged: 0 }
  const payments = {
    charge: async () => {
      await charge()
      books.charged = 1
    },
    refund: async () => void (books.charged = 0),
  } as unknown as PaymentClient
  const script = new Script()
  const services = { commands, payments, inventory: new Inventory(), carrier: new Carrier() }
  const checkout = await ChoreographedCheckout.open(services, script)
  onTestFinished(() => checkout.close())
  const state = async () => (await orders.load(orderId)).state
  return { checkout, commands, script, books, state }
}

test('a message that is taken from one who is slow, not dead: whatever both hear from the provider, money that moved goes back', async () => {
  let answer = (): void => {}
  const answers = [
    () => new Promise<void>((resolve) => (answer = resolve)),
    () => Promise.reject(new PaymentUnavailable('no')),
  ]
  const { checkout, script, books } = await openCheckout(() => answers.shift()!())
  await checkout.start(basket)
  const slow = script.hand('payment', 'm-1', 'order.accepted', basket)
  await script.hand('payment', 'm-1', 'order.accepted', basket) // refused at once, and that is what counts
  expect(script.said.at(-1)).toMatchObject(['payment.failed', { unknown: true }])
  answer()
  await slow
  expect(books.charged).toBe(1)
  await script.hand('payment', 'm-2', 'order.cancelled', basket)
  expect(books.charged).toBe(0)
  expect(script.said.at(-1)?.[0]).toBe('payment.refunded')
})

test('a clear no is final: whoever gets the message later does not ask for the money again, and nothing is refunded', async () => {
  const answers = [() => Promise.reject(new PaymentUnavailable('no'))]
  const { script, books } = await openCheckout(() => answers.shift()?.() ?? Promise.resolve())
  await script.hand('payment', 'm-1', 'order.accepted', basket)
  expect(script.said.at(-1)).toMatchObject(['payment.failed', { unknown: false }])
  await script.hand('payment', 'm-1', 'order.accepted', basket)
  await script.hand('payment', 'm-2', 'order.cancelled', basket)
  expect(books.charged).toBe(0)
  expect(script.said.map(([type]) => type)).toEqual(['payment.failed'])
})

test('a checkout is begun once, and not at all when one of another kind has the order', async () => {
  const { checkout, commands, script, state } = await openCheckout(async () => {})
  await checkout.start(basket)
  await checkout.start(basket)
  expect(script.said.map(([type]) => type)).toEqual(['order.accepted'])
  const twin = { orderId: basket.orderId, checkout: 'orchestrated' }
  await expect(commands.send('AcceptOrder', twin)).rejects.toMatchObject({ code: 'ORDER_TAKEN' })
  await commands.send('CancelOrder', { ...twin, reason: 'payment-unavailable', detail: '' })
  expect((await state()).status).toBe('placed')
})

test('an order whose customer was heard by a process that died over it is cancelled, not shipped', async () => {
  const { checkout, commands, script, state } = await openCheckout(async () => {})
  await checkout.start(basket)
  await commands.send('RequestCancel', { orderId: basket.orderId, detail: 'too heavy' })
  await script.hand('orders', 'm-1', 'shipping.booked', { orderId: basket.orderId, tracking: 'HF-1' })
  expect(script.said.map(([type]) => type)).toEqual(['order.accepted', 'order.cancelled'])
  expect((await state()).status).toBe('cancelled')
})

test('an order whose refund and release are told before its payment and its stock, as they are when a broker forgets, ends with both undone', async () => {
  const { checkout, script, state } = await openCheckout(async () => {})
  const { orderId } = basket
  await checkout.start(basket)
  await script.hand('payment', 'm-1', 'order.accepted', basket)
  await script.hand('inventory', 'm-2', 'payment.completed', { ...basket, transactionId: orderId })
  await checkout.cancel(orderId)
  await script.hand('payment', 'm-3', 'order.cancelled', { orderId })
  const [, refunded] = script.said.at(-1)!
  await script.hand('inventory', 'm-3', 'order.cancelled', { orderId })
  await script.hand('orders', 'm-4', 'payment.refunded', refunded as ShopMessages['payment.refunded'])
  await script.hand('orders', 'm-5', 'inventory.released', { orderId })
  await script.hand('orders', 'm-6', 'payment.completed', { ...basket, transactionId: orderId })
  await script.hand('orders', 'm-7', 'inventory.reserved', basket)
  expect(await state()).toMatchObject({ status: 'cancelled', payment: 'refunded', stock: 'released' })
})
