import { connect } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import { MemoryEventStore, Repository } from 'holdfast/event-sourcing'
import { checkoutKinds } from '../../examples/storefront/checkout.js'
import { ChoreographedCheckout } from '../../examples/storefront/checkout-choreography.js'
import { OrchestratedCheckout } from '../../examples/storefront/checkout-saga.js'
import { createCommands } from '../../examples/storefront/commands.js'
import { Inventory } from '../../examples/storefront/inventory.js'
import { Order, type OrderEvent } from '../../examples/storefront/order.js'
import { PaymentClient, PaymentUnavailable, PaymentUncertain } from '../../examples/storefront/payment-client.js'
import { Carrier } from '../../examples/storefront/shipping.js'
import { until } from '../support/until.js'
import { openStorefront, type Client } from './storefront-client.js'

let shop: Client
const order = { items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco' }
const json = 'Host: x\r\nContent-Type: application/json\r\n'

beforeAll(async () => {
  shop = await openStorefront()
})
beforeEach(() => shop.switch({ payment: 'ok', stock: 'ok' }))
afterAll(() => shop.storefront.close())

/** What comes back for bytes as they are. */
const raw = (bytes: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let answer = ''
    const socket = connect(Number(new URL(shop.storefront.url).port), '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (data) => (answer += String(data)))
    socket.on('close', () => resolve(answer))
    socket.on('error', reject)
  })

test.each([
  ['no HTTP at all', '\x16\x03\x01\r\n\r\n', 400, 'BAD_REQUEST'],
  ['a method that there is not', 'BREW /orders HTTP/1.1\r\nHost: x\r\n\r\n', 400, 'BAD_REQUEST'],
  ['a NUL in a header', 'GET /orders HTTP/1.1\r\nHost: x\r\nX-User-Id: a\0\r\n\r\n', 400, 'BAD_REQUEST'],
  [
    'two lengths',
    `POST /orders HTTP/1.1\r\n${json}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`,
    400,
    'BAD_REQUEST',
  ],
  [
    'a chunk without a size',
    `POST /orders HTTP/1.1\r\n${json}Transfer-Encoding: chunked\r\n\r\nzz\r\n`,
    400,
    'BAD_REQUEST',
  ],
  [
    'headers without end',
    `GET /orders HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`,
    431,
    'HEADERS_TOO_LARGE',
  ],
  ['no host', 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'BAD_REQUEST'],
  ['a host that is none', 'GET / HTTP/1.1\r\nHost: a b?<>\r\nConnection: close\r\n\r\n', 400, 'BAD_REQUEST'],
])('%s is a problem as RFC 9457 has it', async (_, bytes, status, code) => {
  const [head = '', body = ''] = (await raw(bytes)).split('\r\n\r\n')
  expect(head).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  expect(head).toMatch(/content-type: application\/problem\+json/i)
  expect(body).toContain(`"code":"${code}"`)
})

test.each(['Content-Length: 100\r\n\r\n{', 'Transfer-Encoding: chunked\r\n\r\n5\r\n{'])(
  'who hangs up in the middle of a body is no trouble of the shop: %j',
  async (rest) => {
    const complaints = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => complaints.mockRestore())
    await new Promise((gone) => {
      const socket = connect(Number(new URL(shop.storefront.url).port), '127.0.0.1', () => {
        socket.write(`POST /orders HTTP/1.1\r\n${json}${rest}`, () => setTimeout(() => socket.destroy(), 20))
      })
      socket.on('close', gone)
    })
    await new Promise((resolve) => setTimeout(resolve, 50)) // the other end hears of it a little later
    expect(complaints).not.toHaveBeenCalled()
  },
)

test('HEAD /events/live has the headers, and ends', async () => {
  const { status, headers } = await shop.send('HEAD', '/events/live')
  expect([status, headers.get('content-type')]).toEqual([200, 'text/event-stream'])
})

test('HEAD /live has the headers, and watches nothing', async () => {
  const { payments } = shop.storefront.shop
  const asked = vi.spyOn(payments, 'ledger') // each snapshot asks once
  onTestFinished(() => asked.mockRestore())
  const { status, headers } = await shop.send('HEAD', '/live')
  expect([status, headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  expect(asked).not.toHaveBeenCalled()
})

test.each(checkoutKinds.flatMap((a) => checkoutKinds.map((b) => [a, b] as const)))(
  'an order that was shipped (%s) and is sent again (%s) while payment fails stays shipped and paid',
  async (first, second) => {
    const { inventory, checkouts } = shop.storefront.shop
    const headers = { 'x-user-id': 'ada', 'idempotency-key': `${first} ${second}` }
    await shop.switch({ checkout: first })
    const placed = await shop.send('POST', '/orders', order, headers)
    await shop.ended(placed.body.id)
    await shop.settled()
    const before = [await shop.ledger(), inventory.held, checkouts[second].view(1).counts]
    await shop.switch({ checkout: second, payment: 'fail' })
    const again = await shop.send('POST', '/orders', order, headers)
    expect(again).toMatchObject({ status: 202, body: placed.body })
    await shop.switch({ payment: 'ok' })
    await shop.settled()
    expect([await shop.ledger(), inventory.held, checkouts[second].view(1).counts]).toEqual(before)
  },
)

test('an order that was cancelled and is sent again gets the first answer', async () => {
  await shop.switch({ checkout: 'choreographed', stock: 'out' })
  const headers = { 'x-user-id': 'beth', 'idempotency-key': 'k' }
  const { body } = await shop.send('POST', '/orders', order, headers)
  expect((await shop.ended(body.id)).status).toBe('cancelled')
  expect(await shop.send('POST', '/orders', order, headers)).toMatchObject({ status: 202, body })
})

test('a receipt that the provider can not give is 503', async () => {
  const id = await shop.place()
  await shop.ended(id)
  await shop.switch({ payment: 'fail' })
  expect(await shop.get(`/orders/${id}/receipt`)).toMatchObject({ status: 503, body: { code: 'PAYMENT_UNAVAILABLE' } })
})

test('a provider that is not there at all is unavailable, and whether it has charged is uncertain', async () => {
  const payments = new PaymentClient('http://127.0.0.1:1', {})
  await expect(payments.receipt('o-1')).rejects.toThrow(PaymentUnavailable)
  await expect(payments.misbehave('ok')).rejects.toThrow(PaymentUnavailable)
  await expect(payments.charge('o-1', 1)).rejects.toThrow(PaymentUncertain)
})

/** An orchestrated checkout whose events can't be written once, when `type` is to be recorded. */
async function checkoutThatFailsAt(type: string) {
  const store = new MemoryEventStore<OrderEvent>()
  const orders = new Repository<Order, never, OrderEvent>(store, Order, { category: 'order' })
  const commands = createCommands(orders)
  const { items, shipTo } = { items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco' } as const
  await commands.send('PlaceOrder', { orderId: 'o-1', userId: 'ada', items, shipTo })
  const append = store.append.bind(store)
  store.append = async (stream, events, options) => {
    if ([events].flat()[0]?.type !== type) return append(stream, events, options)
    store.append = append
    throw new Error('the server is away')
  }
  const books = new Set<string>()
  const payments = {
    charge: async (id: string) => void books.add(id),
    refund: async (id: string) => void books.delete(id),
  } as unknown as PaymentClient
  const [inventory, carrier] = [new Inventory(), new Carrier()]
  const checkout = new OrchestratedCheckout({ commands, payments, inventory, carrier })
  onTestFinished(() => checkout.close())
  await checkout.start({ orderId: 'o-1', items, shipTo, cents: 1 })
  const status = await until(async () => {
    const { state } = await orders.load('o-1')
    return state.status === 'placed' ? undefined : state.status
  })
  return { status, held: inventory.held, charged: books.size, booked: carrier.booked }
}

test.each(['OrderAccepted', 'StockReserved', 'PaymentReceived'] as const)(
  'an order whose %s can not be written down is cancelled, and nothing is kept',
  async (type) => {
    expect(await checkoutThatFailsAt(type)).toEqual({ status: 'cancelled', held: 0, charged: 0, booked: 0 })
  },
)

test('an order whose OrderShipped can not be written down at once is shipped later', async () => {
  expect(await checkoutThatFailsAt('OrderShipped')).toEqual({ status: 'shipped', held: 1, charged: 1, booked: 1 })
})

test.each(checkoutKinds)(
  'an order that is wanted no more before its checkout (%s) begins comes to its end',
  async (kind) => {
    const store = new MemoryEventStore<OrderEvent>()
    const orders = new Repository<Order, never, OrderEvent>(store, Order, { category: 'order' })
    const commands = createCommands(orders)
    const services = {
      commands,
      payments: shop.storefront.shop.payments,
      inventory: new Inventory(),
      carrier: new Carrier(),
    }
    const checkout =
      kind === 'orchestrated' ? new OrchestratedCheckout(services) : await ChoreographedCheckout.open(services)
    onTestFinished(() => checkout.close())
    const { items, shipTo } = { items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco' } as const
    for (const [orderId, next] of [
      ['asked', (id: string) => checkout.start({ orderId: id, items, shipTo, cents: 1 })],
      ['never-begun', (id: string) => checkout.cancel(id)],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one case after the other
      await commands.send('PlaceOrder', { orderId, userId: 'ada', items, shipTo })
      // oxlint-disable-next-line no-await-in-loop
      await commands.send('RequestCancel', { orderId, detail: 'too heavy' })
      // oxlint-disable-next-line no-await-in-loop
      await next(orderId)
      // oxlint-disable-next-line no-await-in-loop
      await until(async () => (await orders.load(orderId)).state.status === 'cancelled')
    }
  },
)
