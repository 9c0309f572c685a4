import { expect, onTestFinished, test, vi } from 'vitest'
import { MemoryEventStore } from 'holdfast/event-sourcing'
import { Adoption } from '../../examples/storefront/adoption.js'
import type { OrderEvent } from '../../examples/storefront/order.js'
import type { OrderView } from '../../examples/storefront/read-model.js'
import { MemoryOrders } from '../../examples/storefront/read-model-memory.js'
import { Talk } from '../../examples/storefront/shop-messages.js'
import { until } from '../support/until.js'
import { openShopOn } from './open-shop.js'

test('every order that nobody has begun with is begun with, however many are newer, and though others can not be', async () => {
  const store = new MemoryEventStore<OrderEvent>()
  const data = { userId: 'ada', items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco', cents: 18_900 } as const
  const place = (id: string, ...more: OrderEvent[]) =>
    store.append(`order-${id}`, [{ type: 'OrderPlaced', data }, ...more])
  await place('oldest')
  await place('broken')
  await place('under way', { type: 'OrderAccepted', data: { checkout: 'orchestrated' } })
  await place('gone', { type: 'OrderCancelled', data: { reason: 'customer', detail: '' } })
  for (let i = 0; i < 4; i++) await place(`broken too ${i}`) // oxlint-disable-line no-await-in-loop -- in this order
  const orders = new MemoryOrders(store)
  await using running = orders.run()
  await running.reached((await store.readPage({ limit: 1 })).head)
  const begun: string[] = []
  const begin = async ({ orderId }: { orderId: string }): Promise<void> => {
    begun.push(orderId)
    if (orderId.startsWith('broken')) throw new Error('it can not be begun')
  }
  const adoption = new Adoption(orders, begin, { everyMs: 1, aloneMs: -1, pageSize: 2 })
  onTestFinished(() => adoption.close())
  await until(() => begun.includes('oldest'))
  expect(begun.slice(0, 6)).toEqual([
    'broken too 3',
    'broken too 2',
    'broken too 1',
    'broken too 0',
    'broken',
    'oldest',
  ])
  await until(() => begun.filter((id) => id === 'broken').length > 1) // again and again
  expect(begun).not.toContain('under way')
  expect(begun).not.toContain('gone')
})

test('a look reads one page, however many orders are open, and comes to the oldest and back to the newest', async () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const orders = new MemoryOrders(new MemoryEventStore<OrderEvent>())
  const open = { status: 'placed', checkout: 'orchestrated', placedAt: new Date(0) } as OrderView
  const asked: (string | undefined)[] = []
  orders.list = async ({ after }) => {
    asked.push(after)
    return (after === undefined ? ['4', '3'] : after === '3' ? ['2', '1'] : []).map((id) => ({ ...open, id }))
  }
  const adoption = new Adoption(orders, async () => {}, { everyMs: 1_000, pageSize: 2 })
  onTestFinished(() => adoption.close())
  for (let looks = 1; looks <= 4; looks++) {
    await vi.advanceTimersByTimeAsync(1_000) // oxlint-disable-line no-await-in-loop -- one look after the other
    expect(asked).toEqual([undefined, '3', '1', undefined].slice(0, looks))
  }
})

test('an order whose checkout can not begin at once is taken nevertheless, and begun with later', async () => {
  const talk = new Talk()
  const begin = talk.begin.bind(talk)
  talk.begin = async () => {
    talk.begin = begin
    throw new Error('the database is away')
  }
  const shop = await openShopOn(() => ({ talk, oneDatabase: true }))
  await shop.switches.change({ checkout: 'choreographed' })
  await shop.place({ orderId: 'o-1', userId: 'ada', items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco' })
  await until(async () => (await shop.about()).orders.shipped === 1)
})
