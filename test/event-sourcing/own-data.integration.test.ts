import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, expect, inject, test } from 'vitest'
import {
  Aggregate,
  MemoryEventStore,
  MemoryProjector,
  Repository,
  type Event,
  type RepositoryOptions,
} from '../../src/event-sourcing/index.js'
import { RedisEventStore } from '../../src/event-sourcing/redis.js'
import { list } from './database.js'

const redis = new Redis(inject('redisUrl'))
afterAll(() => redis.disconnect())
const openStore = () => new RedisEventStore(redis, { namespace: randomUUID() })

type CartEvent = Event<'Opened', { items: string[]; at: Date | undefined }> | Event<'Added', { item: string }>

/** Puts an event's own list into a field, and adds to it: as many do. */
class Cart extends Aggregate<CartEvent> {
  items: string[] = []

  add(item: string): void {
    if (this.items.includes(item)) throw new Error(`${item} is in it`)
    this.raise({ type: 'Added', data: { item } })
  }

  protected apply(event: CartEvent): void {
    if (event.type === 'Opened') this.items = event.data.items
    else this.items.push(event.data.item)
  }
}

const opened = (at?: Date): CartEvent => ({ type: 'Opened', data: { items: ['a'], at } })

for (const at of [undefined, new Date(0)])
  for (const options of [{}, { cache: { max: 5 } }, { group: 1 }] satisfies Partial<RepositoryOptions>[])
    test(`each instance has the data of its events for itself: ${at ? 'with a date, ' : ''}${JSON.stringify(options)}`, async () => {
      const store = openStore()
      const carts = new Repository(store, Cart, { category: 'cart', ...options })
      await carts.handle('1', () => opened(at))
      const added = await Promise.all(['b', 'c', 'd'].map((item) => carts.handle('1', (cart) => cart.add(item))))
      const states = added.map(({ state }) => state.items)
      expect(states.map((items) => items.length).toSorted((a, b) => a - b)).toEqual([2, 3, 4])
      states[0]?.push('spoilt')
      for (let i = 0; i < 2; i++) {
        // oxlint-disable-next-line no-await-in-loop -- the second time what the first has left
        const { state } = await carts.load('1')
        expect(state.items.toSorted()).toEqual(['a', 'b', 'c', 'd'])
        state.items.push('spoilt')
      }
      const past: string[] = []
      for await (const { state } of carts.states('1')) past.push(String(state.items.length))
      expect(past).toEqual(['1', '2', '3', '4'])
    })

test('an event is stored as it was raised, whatever later events of the same command add to a list of it', async () => {
  const store = new MemoryEventStore()
  const carts = new Repository(store, Cart, { category: 'cart' })
  await carts.handle('1', () => [opened(), { type: 'Added', data: { item: 'b' } }])
  expect((await list(store.read('cart-1'))).map(({ data }) => data)).toEqual([opened().data, { item: 'b' }])
})

test('an append with an inline projection records the data as it was when it was called', async () => {
  const store = new MemoryEventStore()
  new MemoryProjector(store).inline({ name: 'p', on: ['e'], project() {} })
  const data = { n: 1 }
  const append = store.append('s', [{ type: 'e', data }])
  data.n = 2
  expect((await append).events).toMatchObject([{ data: { n: 1 } }])
})
