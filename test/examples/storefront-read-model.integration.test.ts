import { describe, expect, onTestFinished, test } from 'vitest'
import { MemoryEventStore } from 'holdfast/event-sourcing'
import { PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import type { OrderEvent } from '../../examples/storefront/order.js'
import type { OrdersReadModel } from '../../examples/storefront/read-model.js'
import { MemoryOrders } from '../../examples/storefront/read-model-memory.js'
import { PostgresOrders } from '../../examples/storefront/read-model-postgres.js'
import { until } from '../support/until.js'
import { ownDatabase } from './own-database.js'
import { openStorefront } from './storefront-client.js'
import { start } from './storefront-process.js'

const everything = async (readModel: OrdersReadModel) => ({
  counts: await readModel.counts(),
  orders: await readModel.list({ limit: Infinity }),
})

/** What the log says, read from its first event on. */
async function replayed(store: PostgresEventStore<OrderEvent>) {
  const readModel = new MemoryOrders(store)
  await using running = readModel.run()
  const { head } = await store.readPage({ limit: 1 })
  await running.reached(head)
  return everything(readModel)
}

describe('the read model in PostgreSQL', { timeout: 240_000 }, () => {
  test('gives the answers of the one in memory, whatever customers write', async () => {
    const { pool } = await ownDatabase()
    const store = new MemoryEventStore<OrderEvent>()
    const postgres = new PostgresOrders(store, pool)
    expect(await everything(postgres).catch(() => 'no schema')).toEqual({
      counts: { placed: 0, shipped: 0, cancelled: 0 },
      orders: [],
    })
    await postgres.migrate()
    const memory = new MemoryOrders(store)
    const items = [{ sku: 'rope', quantity: 2 }] as const
    const place = (userId: string, shipTo: string) => ({ userId, items, shipTo, cents: 37_800 })
    const nasty = 'a\0b \ud800 \\ "\' 💥'
    await store.append('order-1', [{ type: 'OrderPlaced', data: place('ada', nasty) }])
    await store.append('order-2', [{ type: 'OrderPlaced', data: place('beth', 'Arco') }])
    await store.append('order-3', [
      { type: 'OrderPlaced', data: place('ada', 'Arco') },
      { type: 'OrderAccepted', data: { checkout: 'orchestrated' } },
      { type: 'StockReserved', data: {} },
      { type: 'PaymentReceived', data: {} },
      { type: 'OrderShipped', data: { tracking: 'T' } },
    ])
    await using a = memory.run()
    await using b = postgres.run()
    await Promise.all([a.reached(7), b.reached(7)])
    const { position } = await store.append('order-1', [
      { type: 'CancelRequested', data: { detail: nasty } },
      { type: 'OrderCancelled', data: { reason: 'customer', detail: nasty } },
      { type: 'StockReleased', data: {} },
      { type: 'PaymentRefunded', data: {} },
    ])
    await Promise.all([a.reached(position), b.reached(position)])
    const filters = [
      {},
      { limit: 1 },
      { userId: 'ada' },
      { status: 'cancelled' },
      { status: 'placed', userId: 'ada' },
      { after: '3' },
      { after: '3', status: 'placed' },
      { after: 'none' },
    ]
    for (const filter of filters) {
      const wanted = { limit: 10, ...filter } as Parameters<OrdersReadModel['list']>[0]
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      expect(await postgres.list(wanted)).toEqual(await memory.list(wanted))
    }
    expect((await postgres.list({ limit: 10 })).map(({ id }) => id)).toEqual(['3', '2', '1'])
    expect((await postgres.list({ limit: 10, after: '3' })).map(({ id }) => id)).toEqual(['2', '1'])
    expect(await postgres.list({ limit: 10, after: 'none' })).toEqual([])
    expect(await postgres.find('1')).toEqual(await memory.find('1'))
    expect(await postgres.find('1')).toMatchObject({ shipTo: nasty, detail: nasty, placedAt: expect.any(Date) })
    expect(await postgres.find('none')).toBeUndefined()
    expect(await postgres.counts()).toEqual({ placed: 1, shipped: 1, cancelled: 1 })
  })

  test('shows a customer at once what they wrote', async () => {
    const [log, read] = await Promise.all([ownDatabase(), ownDatabase()])
    const shop = await openStorefront({ postgres: log.url, readPostgres: read.url })
    onTestFinished(() => shop.storefront.close())
    expect(shop.storefront.about).toMatchObject({ events: 'PostgreSQL', readModel: 'PostgreSQL', cache: 'memory' })
    for (let i = 0; i < 10; i++) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const placed = await shop.send('POST', '/orders', { items: [{ sku: 'rope', quantity: 1 }], shipTo: `Arco ${i}` })
      // oxlint-disable-next-line no-await-in-loop
      const { status, body } = await shop.get(placed.headers.get('location') ?? '')
      expect([status, body.shipTo]).toEqual([200, `Arco ${i}`])
    }
    await until(async () => (await shop.get('/health')).body.orders.shipped === 10)
    const { body } = await shop.get('/orders?limit=1&status=shipped')
    expect(body.orders).toMatchObject([{ shipTo: 'Arco 9', status: 'shipped' }])
    const { rows } = await read.pool.query('select status, n from storefront_read.order_counts where n <> 0')
    expect(rows).toEqual([{ status: 'shipped', n: 10 }])
  })

  test('counts each event exactly once though the shop is killed again and again, and is not made anew', async () => {
    const [log, read] = await Promise.all([ownDatabase(), ownDatabase()])
    const servers = ['--postgres', log.url, '--read-postgres', read.url]
    const taken = async (): Promise<number> => {
      const sum = 'select coalesce(sum(version), 0)::int as n from storefront_read.orders'
      const { rows } = await read.pool.query(sum).catch(() => ({ rows: [{ n: 0 }] })) // not made yet
      return rows[0].n
    }
    let before = 0
    for (let round = 0; round < 4; round++) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const shop = await start('--port', '0', '--rate', '60', ...servers)
      // oxlint-disable-next-line no-await-in-loop
      before = await until(async () => ((await taken()) > before + 100 ? taken() : undefined), 60_000)
      // Commits take long from now on, so that the kill comes in the middle of one.
      // oxlint-disable-next-line no-await-in-loop
      if (round === 0) await read.pool.query(slowCheckpoints)
      // oxlint-disable-next-line no-await-in-loop
      await new Promise((resolve) => setTimeout(resolve, 300))
      shop.child.kill('SIGKILL')
      // oxlint-disable-next-line no-await-in-loop
      await shop.ended
    }
    await read.pool.query(`update storefront_read.orders set user_id = 'marked' where status = 'shipped'`)
    await read.pool.query('drop trigger slow on storefront_read.es_subscriptions')
    const last = await start('--port', '0', '--no-load', ...servers)
    await until(async () => {
      const { orders } = (await (await fetch(`${last.url}/health`)).json()) as { orders: { placed: number } }
      return orders.placed === 0
    }, 30_000)
    last.child.kill('SIGINT')
    await last.ended

    const store = new PostgresEventStore<OrderEvent>(log.pool, { schema: 'storefront' })
    const all = await replayed(store)
    expect(await everything(new PostgresOrders(store, read.pool))).toEqual(all)
    expect(all.orders.length).toBeGreaterThan(80)
    const { rows } = await read.pool.query(
      `select count(*)::int as n from storefront_read.orders where user_id = 'marked'`,
    )
    expect(rows[0].n).toBeGreaterThan(40)
  })

  test('is not needed to take orders: queries say that it is away, and it catches up', async () => {
    const [log, read] = await Promise.all([ownDatabase(), ownDatabase()])
    const shop = await openStorefront({ postgres: log.url, readPostgres: read.url })
    onTestFinished(() => shop.storefront.close())
    await shop.ended(await shop.place())
    await read.away(true)
    const id = await shop.place()
    const { checkouts } = shop.storefront.shop
    await until(() => checkouts.orchestrated.view(2).counts.completed === 2)
    expect(await shop.get('/orders')).toMatchObject({ status: 503, body: { code: 'STORE_FAILED' } })
    expect((await shop.get(`/orders/${id}/versions`)).body.versions).toHaveLength(5)
    const watching = (await fetch(new URL('/live', shop.storefront.url))).body?.getReader()
    const seen = new TextDecoder().decode((await watching?.read())?.value)
    expect(JSON.parse(seen.slice('data: '.length))).toMatchObject({ readModelFailed: true })
    await watching?.cancel()
    await read.away(false)
    await until(async () => {
      const { status, body } = await shop.get('/orders?status=shipped')
      return status === 200 && body.orders[0]?.id === id
    })
    expect((await shop.get('/health')).body.orders).toEqual({ placed: 0, shipped: 2, cancelled: 0 })
  })

  test('says so when it is of another log', async () => {
    const [log, other, read] = await Promise.all([ownDatabase(), ownDatabase(), ownDatabase()])
    const first = await openStorefront({ postgres: log.url, readPostgres: read.url })
    await first.ended(await first.place())
    await first.storefront.close()
    await expect(openStorefront({ postgres: other.url, readPostgres: read.url })).rejects.toThrow(
      /can't be used: its schema storefront_read is of another log/,
    )
  })
})

const slowCheckpoints = `
  create function storefront_read.wait() returns trigger language plpgsql as
    $$ begin perform pg_sleep(0.1); return new; end $$;
  create trigger slow before update on storefront_read.es_subscriptions for each row
    when (new.pos is distinct from old.pos) execute function storefront_read.wait();`
