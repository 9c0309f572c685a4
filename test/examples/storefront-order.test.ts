import { expect, test } from 'vitest'
import { MemoryEventStore, Repository } from 'holdfast/event-sourcing'
import { createCommands } from '../../examples/storefront/commands.js'
import { Order, type OrderEvent } from '../../examples/storefront/order.js'

const orderId = 'o-1'

/** A write model with one order, and the names of what has happened to it. */
async function placed() {
  const store = new MemoryEventStore()
  const orders = new Repository<Order, never, OrderEvent>(store, Order, { category: 'order' })
  const commands = createCommands(orders)
  await commands.send('PlaceOrder', { orderId, userId: 'ada', items: [{ sku: 'rope', quantity: 2 }], shipTo: 'Arco' })
  const events = async (): Promise<string[]> => {
    const names: string[] = []
    for await (const { type } of store.read(orders.stream(orderId))) names.push(type)
    return names
  }
  return { commands, store, events, load: async () => (await orders.load(orderId)).state }
}

test('an order that the customer wants no more can not be shipped, and is cancelled for the reason the customer gave', async () => {
  const { commands, load } = await placed()
  await commands.send('RequestCancel', { orderId, detail: 'too heavy' })
  await expect(commands.send('ShipOrder', { orderId, tracking: 'T' })).rejects.toMatchObject({
    code: 'ORDER_CANCELLED',
  })
  await commands.send('CancelOrder', { orderId, reason: 'out-of-stock', detail: 'no rope left' })
  expect(await load()).toMatchObject({ status: 'cancelled', reason: 'customer' })
})

test('an order ends once: what is shipped stays shipped, what is cancelled stays cancelled', async () => {
  const cancel = { orderId, reason: 'undeliverable', detail: '' } as const
  const first = await placed()
  await first.commands.send('ShipOrder', { orderId, tracking: 'T' })
  await expect(first.commands.send('CancelOrder', cancel)).rejects.toMatchObject({ code: 'ORDER_SHIPPED' })
  await expect(first.commands.send('RequestCancel', { orderId, detail: '' })).rejects.toMatchObject({
    code: 'ORDER_SHIPPED',
  })
  const second = await placed()
  await second.commands.send('CancelOrder', cancel)
  await expect(second.commands.send('ShipOrder', { orderId, tracking: 'T' })).rejects.toMatchObject({
    code: 'ORDER_CANCELLED',
  })
  await expect(second.commands.send('AcceptOrder', { orderId, checkout: 'x' })).rejects.toMatchObject({
    code: 'ORDER_CANCELLED',
  })
})

test('what a service reports twice has happened once, and nothing is undone that was not done', async () => {
  const { commands, events } = await placed()
  await commands.send('RecordRefund', { orderId })
  await commands.send('RecordRelease', { orderId })
  for (const type of ['RecordStock', 'RecordPayment', 'RecordRefund', 'RecordRelease'] as const) {
    // oxlint-disable-next-line no-await-in-loop -- in this order
    await commands.send(type, { orderId })
    // oxlint-disable-next-line no-await-in-loop
    await commands.send(type, { orderId })
  }
  expect(await events()).toEqual([
    'OrderPlaced',
    'StockReserved',
    'PaymentReceived',
    'PaymentRefunded',
    'StockReleased',
  ])
})

test('of two placements with one key at once, the later gets the outcome of the earlier, however late it comes', async () => {
  const { commands, store, load } = await placed()
  const place = { orderId: 'o-2', userId: 'ada', items: [{ sku: 'rope', quantity: 2 }], shipTo: 'Arco' } as const
  const key = { idempotencyKey: 'place:o-2' }
  const recall = store.recall.bind(store)
  let first: unknown
  store.recall = (async (...args: Parameters<typeof recall>) => {
    const nothingYet = await recall(...args)
    store.recall = recall
    first = await commands.send('PlaceOrder', place, key)
    return nothingYet
  }) as typeof store.recall
  expect(await commands.send('PlaceOrder', place, key)).toEqual(first)
  expect((await load()).status).toBe('placed')
})
