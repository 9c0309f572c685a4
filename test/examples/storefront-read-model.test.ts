import { expect, test } from 'vitest'
import { openShopOn } from './open-shop.js'

test('who has just changed an order reads the change, also when the old one is cached and the log is followed late', async () => {
  const shop = await openShopOn(({ events: log }) => {
    const late = async (...args: Parameters<typeof log.readPage>) => {
      await new Promise((resolve) => setTimeout(resolve, 50)) // the projection, on the store itself, is done long before
      return log.readPage(...args)
    }
    const events = new Proxy(log, {
      get(store, name) {
        if (name === 'readPage') return late
        const member: unknown = Reflect.get(store, name, store)
        return typeof member === 'function' ? member.bind(store) : member
      },
    })
    return { events }
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
