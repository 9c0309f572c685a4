import { PGlite } from '@electric-sql/pglite'
import { MemoryEventBus } from 'holdfast/messaging'
import { PostgresInbox, PostgresOutbox } from 'holdfast/messaging/postgres'

// An order and the news of it are written together or not at all; the stock is counted once, however often the news comes.
const db = await PGlite.create() // or `new pg.Pool()`
const outbox = new PostgresOutbox(db)
const inbox = new PostgresInbox(db)
await outbox.migrate()
await inbox.migrate()
await db.exec('CREATE TABLE orders (id text); CREATE TABLE stock (held int); INSERT INTO stock VALUES (0)')

const bus = new MemoryEventBus()
await bus.subscribe({
  group: 'stock',
  types: ['OrderPlaced'],
  inbox,
  handle: ({ id }, { tx }) => {
    console.log(`${id} arrives`)
    return tx.query('UPDATE stock SET held = held + 1')
  },
})
const relay = outbox.relay(bus)

const place = (order: string, fails: boolean) =>
  db.transaction(async (tx) => {
    await tx.query('INSERT INTO orders VALUES ($1)', [order])
    await outbox.put(tx, { id: `placed ${order}`, type: 'OrderPlaced', key: order, data: { order } })
    if (fails) throw new Error('no such article')
  })
await place('order-1', true).catch((error: Error) => console.log(`order-1: ${error.message}, and nobody hears of it`))
await place('order-2', false)

while ((await relay.stats()).waiting > 0) await new Promise((resolve) => setTimeout(resolve, 10))
await bus.publish({ id: 'placed order-2', type: 'OrderPlaced', data: {} }) // once more, as a broker may
await relay.close()
await bus.close()
console.log((await db.query('SELECT held FROM stock')).rows) // [ { held: 1 } ]
await db.close()
