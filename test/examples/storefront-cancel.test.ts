import { test } from 'vitest'
import { MemorySagaStore } from 'holdfast/saga'
import { openShopOn } from './open-shop.js'
import { until } from '../support/until.js'

test('an order that is cancelled before the first step of its checkout has begun is cancelled, at once and for good', async () => {
  const shop = await openShopOn(() => ({ sagas: new MemorySagaStore() }))
  await shop.switches.change({ payment: 'hang' })
  const ids = Array.from({ length: 20 }, (_, i) => `o-${i}`) // more than may run at once
  const place = (orderId: string) =>
    shop.place({ orderId, userId: 'ada', items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco' })
  await Promise.all(ids.map(place))
  const statusOf = async (orderId: string): Promise<string> => (await shop.queries.send('GetOrder', { orderId })).status
  await shop.cancel({ orderId: 'o-19', detail: 'too heavy' })
  await until(async () => (await statusOf('o-19')) === 'cancelled')
  await shop.switches.change({ payment: 'ok' })
  for (const orderId of ids.slice(0, 19)) {
    // oxlint-disable-next-line no-await-in-loop -- places are given back one after the other
    await shop.cancel({ orderId, detail: '' })
  }
  await until(async () => {
    const all = await Promise.all(ids.map(statusOf))
    return all.every((status) => status === 'cancelled')
  })
})
