import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { checkoutKinds } from '../../examples/storefront/checkout.js'
import { until } from '../support/until.js'
import { openStorefront, type Client } from './storefront-client.js'

let shop: Client

beforeAll(async () => {
  shop = await openStorefront()
})
afterAll(() => shop.storefront.close())

describe.each(checkoutKinds)('%s checkout', (checkout) => {
  beforeEach(() => shop.switch({ checkout, payment: 'ok', stock: 'ok' }))

  test('takes an order through stock, payment and shipping', async () => {
    const before = await shop.ledger()
    const order = await shop.ended(await shop.place())
    expect(order).toMatchObject({ status: 'shipped', stock: 'reserved', payment: 'received', checkout })
    expect(order.tracking).toMatch(/^HF-/)
    expect(await shop.ledger()).toMatchObject({ charged: before.charged + 1, refunded: before.refunded })
  })

  test('cancels an order that can not be paid and puts its stock back; the circuit opens, and closes when payment heals', async () => {
    const { inventory, payments } = shop.storefront.shop
    const paid = await shop.place()
    await shop.ended(paid)
    const held = inventory.held
    await shop.switch({ payment: 'fail' })
    const ids = await Promise.all(Array.from({ length: 6 }, () => shop.place()))
    const orders = await Promise.all(ids.map((id) => shop.ended(id)))
    for (const order of orders) expect(order).toMatchObject({ status: 'cancelled', reason: 'payment-unavailable' })
    expect(payments.breaker.state).toBe('open')
    expect(inventory.held).toBe(held)

    const refused = await shop.get(`/orders/${paid}/receipt`)
    expect(refused).toMatchObject({ status: 503, body: { code: 'CIRCUIT_OPEN' } })
    expect(refused.headers.get('retry-after')).toBe('1')

    await shop.switch({ payment: 'ok' })
    expect((await shop.ended(await shop.place())).status).toBe('cancelled') // it is still open
    expect((await shop.ended(await shop.place())).status).toBe('shipped')
    expect(payments.breaker.state).toBe('closed')
    expect(await shop.get(`/orders/${paid}/receipt`)).toMatchObject({
      status: 200,
      body: { state: 'charged', cents: 18_900 },
    })
  })

  test('asks again when an answer does not come, and the card is charged once', async () => {
    const before = await shop.ledger()
    await shop.switch({ payment: 'hang' })
    const id = await shop.place()
    await until(async () => (await shop.ledger()).charged > before.charged)
    await shop.switch({ payment: 'ok' })
    expect(await shop.ended(id)).toMatchObject({ status: 'shipped', payment: 'received' })
    expect(await shop.ledger()).toMatchObject({ charged: before.charged + 1, refunded: before.refunded })
  })

  test('gives up when no answer comes at all, and refunds what may have been charged as soon as it can', async () => {
    const before = await shop.ledger()
    await shop.switch({ payment: 'hang' })
    const id = await shop.place()
    const { checkouts } = shop.storefront.shop
    await shop.giveUp()
    await shop.giveUp()
    await until(() => checkouts[checkout].view(1).recent[0]?.status === 'compensating')
    expect((await shop.ledger()).charged).toBe(before.charged + 1)
    await shop.switch({ payment: 'ok' })
    expect(await shop.ended(id)).toMatchObject({ status: 'cancelled', reason: 'payment-unavailable' })
    await shop.settled()
    expect(await shop.ledger()).toMatchObject({ charged: before.charged, refunded: before.refunded + 1 })
    expect((await shop.ended(await shop.place())).status).toBe('shipped')
  })

  test('cancels what is out of stock, and nobody has paid for it in the end', async () => {
    const before = await shop.ledger()
    await shop.switch({ stock: 'out' })
    expect(await shop.ended(await shop.place())).toMatchObject({ status: 'cancelled', reason: 'out-of-stock' })
    await shop.settled()
    const after = await shop.ledger()
    expect(after.charged).toBe(before.charged)
    // The saga looks at the shelves before it takes money; the choreography, as the seed has it, afterwards.
    expect(after.refunded - before.refunded).toBe(checkout === 'orchestrated' ? 0 : 1)
  })

  test('undoes payment and stock when the carrier does not go there', async () => {
    const before = await shop.ledger()
    const { held } = shop.storefront.shop.inventory
    const id = await shop.place({ shipTo: 'Atlantis' })
    expect(await shop.ended(id)).toMatchObject({ status: 'cancelled', reason: 'undeliverable' })
    await shop.settled()
    expect(await until(async () => (await shop.get(`/orders/${id}`)).body.payment === 'refunded')).toBe(true)
    expect(await shop.ledger()).toMatchObject({ charged: before.charged, refunded: before.refunded + 1 })
    expect(shop.storefront.shop.inventory.held).toBe(held)
  })

  test('declines a card over its limit without opening the circuit', async () => {
    for (let i = 0; i < 6; i++) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other, as failures in a row would open it
      const id = await shop.place({ items: [{ sku: 'portaledge', quantity: 3 }] })
      // oxlint-disable-next-line no-await-in-loop
      expect(await shop.ended(id)).toMatchObject({ status: 'cancelled', reason: 'payment-declined' })
    }
    expect(shop.storefront.shop.payments.breaker.state).toBe('closed')
  })

  test('turns back when the customer cancels, and says no when the parcel is gone', async () => {
    const before = await shop.ledger()
    await shop.switch({ payment: 'hang' })
    const id = await shop.place()
    expect(await shop.send('POST', `/orders/${id}/cancel`, { detail: 'wrong colour' })).toMatchObject({ status: 202 })
    await shop.switch({ payment: 'ok' })
    const order = await shop.ended(id)
    expect(order).toMatchObject({ status: 'cancelled', reason: 'customer', detail: 'wrong colour' })
    await until(async () => {
      await shop.settled() // the charge may hang still, and be known and refunded only then
      return (await shop.ledger()).charged === before.charged
    })
    expect(await shop.send('POST', `/orders/${id}/cancel`, {})).toMatchObject({
      status: 409,
      body: { code: 'ORDER_CANCELLED' },
    })

    const gone = await shop.ended(await shop.place())
    expect(await shop.send('POST', `/orders/${gone.id}/cancel`, {})).toMatchObject({
      status: 409,
      body: { code: 'ORDER_SHIPPED' },
    })
  })
})

test('leaves no order half-way and no money in the wrong place, whatever fails meanwhile', async () => {
  const impatient = await openStorefront({ payment: { timeoutMs: 1_000, openMs: 150 } })
  onTestFinished(() => impatient.storefront.close())
  const { inventory, carrier, checkouts } = impatient.storefront.shop
  const faults = ['fail', 'hang', 'slow', 'ok'] as const
  const ids: string[] = []
  for (let i = 0; i < 16; i++) {
    const payment = faults[i % 4]
    const checkout = checkoutKinds[i % 2]
    const stock = i % 5 === 4 ? 'out' : 'ok'
    // oxlint-disable-next-line no-await-in-loop -- faults come and go while orders do
    await impatient.switch({ payment, checkout, stock })
    // oxlint-disable-next-line no-await-in-loop
    ids.push(...(await Promise.all(Array.from({ length: 4 }, () => impatient.place()))))
    // oxlint-disable-next-line no-await-in-loop
    if (i % 3 === 0) await impatient.send('POST', `/orders/${ids.at(-1)}/cancel`, {})
  }
  await impatient.switch({ payment: 'ok', stock: 'ok' })
  const orders = await Promise.all(ids.map((id) => impatient.ended(id)))
  await impatient.settled()
  expect(orders.filter(({ status }) => status !== 'shipped' && status !== 'cancelled')).toEqual([])
  const shipped = (await impatient.get('/health')).body.orders.shipped
  expect(await impatient.ledger()).toMatchObject({ charged: shipped })
  expect(inventory.held).toBe(shipped)
  expect(carrier.booked).toBe(shipped)
  const { counts } = checkouts.orchestrated.view(1)
  expect(counts.completed + checkouts.choreographed.view(1).counts.completed).toBe(shipped)
})
