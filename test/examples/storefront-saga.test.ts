import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { MemoryEventBus, type EventBus } from 'holdfast/messaging'
import type { ShopMessages } from '../../examples/storefront/shop-messages.js'
import { until } from '../support/until.js'
import { openStorefront, type Answer, type Client } from './storefront-client.js'

let shop: Client

beforeAll(async () => {
  shop = await openStorefront()
})
afterAll(() => shop.storefront.close())
beforeEach(() => shop.switch({ broken: 'nothing' }))

/** The saga when it stands there. */
const saga = (id: string, status: string): Promise<any> =>
  until(async () => {
    const { body } = await shop.get(`/sagas/${id}`)
    return body.status === status ? body : undefined
  })

const order = (id: string, body: object): Promise<Answer> => shop.send('POST', `/sagas/${id}/orders`, body)

test('a saga whose stock can not be put back parks, and is undone when somebody unlocks the door and says retry', async () => {
  const { held } = shop.storefront.shop.inventory
  await shop.switch({ broken: 'undo' })
  const id = await shop.place({ shipTo: 'Atlantis' })
  const parked = await saga(id, 'parked')
  expect(parked).toMatchObject({ blocked: ['stock'], failure: { path: 'parcel', error: { name: 'Undeliverable' } } })
  expect((await shop.get('/sagas/parked')).body.sagas).toMatchObject([{ id, name: 'checkout', status: 'parked' }])
  await until(() => shop.storefront.shop.checkouts.orchestrated.view(1).counts.parked === 1)
  expect((await shop.get(`/orders/${id}`)).body.status).toBe('placed')

  await shop.switch({ broken: 'nothing' })
  expect(await order(id, { verb: 'retry', why: 'unlocked' })).toMatchObject({
    status: 202,
    body: { id, verb: 'retry' },
  })
  expect((await saga(id, 'compensated')).history).toMatchObject([{ verb: 'retry', why: 'unlocked', applied: true }])
  expect(await shop.ended(id)).toMatchObject({ status: 'cancelled', reason: 'undeliverable' })
  expect(shop.storefront.shop.inventory.held).toBe(held)
  await until(() => shop.storefront.shop.checkouts.orchestrated.view(1).counts.parked === 0)
})

test.each(['skip', 'resolve'] as const)(
  'a pick-up that fails after the pivot parks, and %s completes it',
  async (verb) => {
    await shop.switch({ broken: 'pickup' })
    const id = await shop.place()
    expect(await saga(id, 'parked')).toMatchObject({ blocked: ['pickup'], nodes: { length: 6 } })
    expect((await shop.ended(id)).status).toBe('shipped')
    expect(await order(id, { verb, path: 'pickup', why: 'by bike' })).toMatchObject({ status: 202 })
    expect((await saga(id, 'completed')).history).toMatchObject([{ verb, path: 'pickup', why: 'by bike' }])
  },
)

test('a compensated saga can be redriven, but its order stays cancelled: it turns back again', async () => {
  const id = await shop.place({ shipTo: 'Atlantis' })
  await saga(id, 'compensated')
  expect(await order(id, { verb: 'redrive', path: 'order' })).toMatchObject({ status: 202 })
  await until(async () => {
    const { history, status } = (await shop.get(`/sagas/${id}`)).body
    return history.length === 1 && status === 'compensated'
  })
  expect((await shop.ended(id)).status).toBe('cancelled')
})

test('mistakes of operators are problems, and change nothing', async () => {
  const id = await shop.place()
  const { history } = await saga(id, 'completed')
  expect(history).toEqual([])
  expect(await order(id, { verb: 'retry' })).toMatchObject({ status: 409, body: { code: 'SAGA_CONFLICT' } })
  expect(await order('gone', { verb: 'retry' })).toMatchObject({ status: 404 })
  expect(await shop.get('/sagas/gone')).toMatchObject({ status: 404 })
  expect(await order(id, { verb: 'skip' })).toMatchObject({ status: 422 })
  expect(await order(id, { verb: 'retry', path: 'stock' })).toMatchObject({ status: 422 })
  expect(await order(id, { verb: 'explode' })).toMatchObject({ status: 422 })
  expect((await shop.get(`/sagas/${id}`)).body.history).toEqual([])
})

test('a choreographed checkout talks over the bus that it is given', async () => {
  const bus: EventBus<ShopMessages> = new MemoryEventBus<ShopMessages>()
  const heard: string[] = []
  await bus.subscribe({
    group: 'spy',
    types: ['order.accepted', 'order.shipped'],
    handle: ({ type }) => void heard.push(type),
  })
  const other = await openStorefront({ bus, checkout: 'choreographed' })
  try {
    await other.ended(await other.place())
    await until(() => heard.length === 2)
    expect(heard).toEqual(['order.accepted', 'order.shipped'])
  } finally {
    await other.storefront.close()
  }
})
