import { expect, onTestFinished, test } from 'vitest'
import { openBackends } from '../../examples/storefront/backends.js'
import { startPaymentProvider } from '../../examples/storefront/payment-provider.js'
import { openShop } from '../../examples/storefront/shop.js'

test('who has just changed an order reads the change, also when the old one is cached and the log is followed late', async () => {
  const backends = await openBackends({})
  const late = async (...args: Parameters<typeof backends.events.readPage>) => {
    await new Promise((resolve) => setTimeout(resolve, 50)) // the projection, on the store itself, is done long before
    return backends.events.readPage(...args)
  }
  const events = new Proxy(backends.events, {
    get(store, name) {
      if (name === 'readPage') return late
      const member: unknown = Reflect.get(store, name, store)
      return typeof member === 'function' ? member.bind(store) : member
    },
  })
  const provider = await startPaymentProvider()
  const shop = await openShop({
    backends: { ...backends, events },
    paymentUrl: provider.url,
    payment: { timeoutMs: 60_000 },
    checkout: 'orchestrated',
    load: { on: false, ordersPerSecond: 1 },
  })
  onTestFinished(async () => {
    await Promise.all([shop.close(), provider.close()])
    await backends.close()
  })
  await shop.switches.change({ payment: 'hang' })
  const orderId = 'o-1'
  const { position } = await shop.place({
    orderId,
    userId: 'ada',
    items: [{ sku: 'rope', quantity: 1 }],
    shipTo: 'Arco',
  })
  const read = (atLeast: number) => shop.queries.send('GetOrder', { orderId }, { atLeast, timeoutMs: 5_000 })
  const first = await read(position)
  const { version, position: later } = await shop.cancel({ orderId, detail: 'too heavy' })
  expect(version).toBeGreaterThan(first.version)
  expect((await read(later)).version).toBeGreaterThanOrEqual(version)
})
