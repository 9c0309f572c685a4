// A read model that counts each event once, and gets another shape while the first one is in use.
import {
  MemoryEventStore,
  MemoryProjector,
  type Event,
  type MemoryTransaction,
  type Projection,
} from 'holdfast/event-sourcing'

type Sold = Event<'Sold', { item: string; cents: number }>
const store = new MemoryEventStore<Sold>()
const projector = new MemoryProjector(store)

const sales = (revision: number, amount: (event: Sold) => number): Projection<Sold, MemoryTransaction> => ({
  name: 'sales',
  revision,
  on: ['Sold'],
  project(events, { tx, name, replaying }) {
    const table = tx.table<number>(name('sales'))
    for (const event of events) {
      if (event.data.cents < 0) throw new Error(`no price: ${event.data.item}`)
      table.set(event.data.item, (table.get(event.data.item) ?? 0) + amount(event))
    }
    if (!replaying)
      console.log(`  revision ${revision} tells the warehouse: ${events.map(({ data }) => data.item).join()}`)
  },
})
const sell = (...items: [string, number][]) =>
  store.append(
    'shop',
    items.map(([item, cents]) => ({ type: 'Sold', data: { item, cents } })),
  )
const show = () => console.log('  sales:', Object.fromEntries(projector.table('sales')))

console.log('One event in a batch can’t be projected: it is parked, the others are there.')
const counting = projector.run(
  sales(1, () => 1),
  { retry: { attempts: 1, giveUp: 'park' } },
)
counting.on('parked', ({ position, error }) => console.log(`  parked ${position}: ${error}`))
const sold = await sell(['tea', 300], ['rum', -1], ['tea', 300], ['jam', 450])
await counting.reached(sold.position)
show()

console.log('Revision 2 sums up cents. It is built beside the first, and tells nobody anything that was told before.')
const rebuild = await projector.rebuild(
  sales(2, ({ data }) => data.cents),
  { retry: { attempts: 1, giveUp: 'park' } },
)
show()
await rebuild.activate()
show()
const more = await sell(['jam', 450])
await rebuild.subscription.reached(more.position)
show()
await Promise.all([counting.stop(), rebuild.subscription.stop()])
