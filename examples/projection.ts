// A read model that counts each event once, and gets another shape while the first one is in use.
import { MemoryEventStore, MemoryProjector, type Event } from 'holdfast/event-sourcing'
import type { MemoryTransaction, Projection } from 'holdfast/event-sourcing'

type Sold = Event<'Sold', { item: string; cents: number }>
const store = new MemoryEventStore<Sold>()
const projector = new MemoryProjector(store)

const sales = (revision: number, amount: (data: Sold['data']) => number): Projection<Sold, MemoryTransaction> => ({
  name: 'sales',
  revision,
  on: ['Sold'],
  project(events, { tx, name, replaying }) {
    const table = tx.table<number>(name('sales'))
    const sold = events.map(({ data }) => data)
    for (const data of sold) {
      if (data.cents < 0) throw new Error(`no price: ${data.item}`)
      table.set(data.item, (table.get(data.item) ?? 0) + amount(data))
    }
    if (!replaying) console.log(`  revision ${revision} tells the warehouse: ${sold.map(({ item }) => item).join()}`)
  },
})
const sell = (...sold: [string, number][]) => {
  const events = sold.map(([item, cents]) => ({ type: 'Sold' as const, data: { item, cents } }))
  return store.append('shop', events)
}
const show = () => console.log('  sales:', Object.fromEntries(projector.table('sales')))
const retry = { attempts: 1, giveUp: 'park' } as const

console.log('One event in a batch can’t be projected: it is parked, the others are there.')
const pieces = sales(1, () => 1)
const running = projector.run(pieces, { retry })
running.on('parked', ({ position, error }) => console.log(`  parked ${position}: ${error}`))
await running.reached((await sell(['tea', 300], ['rum', -1], ['tea', 300], ['jam', 450])).position)
show()

console.log('Revision 2 sums up cents. It is built beside the first, and tells nobody what was told before.')
const money = sales(2, ({ cents }) => cents)
const rebuild = await projector.rebuild(money, { retry })
show()
await rebuild.activate()
show()
await rebuild.subscription.reached((await sell(['jam', 450])).position)
show()
await Promise.all([running.stop(), rebuild.subscription.stop()])
