import type { Pool } from 'pg'
import { expect, inject, onTestFinished, test } from 'vitest'
import { PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import { startPaymentProvider } from '../../examples/storefront/payment-provider.js'
import { rabbitmqUrl } from '../support/rabbitmq.js'
import { until } from '../support/until.js'
import { ownDatabase } from './own-database.js'
import { countOf, heldIn, ordersOf } from './storefront-counts.js'
import { flip, start, type Running } from './storefront-process.js'

/** A provider that lives on when shops die, and keeps its books for itself. */
async function openProvider(): Promise<{ url: string; charged: () => Promise<number> }> {
  const provider = await startPaymentProvider()
  onTestFinished(() => provider.close())
  const ledger = async () => (await (await fetch(`${provider.url}/ledger`)).json()) as { charged: number }
  return { url: provider.url, charged: async () => (await ledger()).charged }
}

/** What a shop leaves that dies before it begins with the order that it has taken in. */
async function leaveOrphan(pool: Pool): Promise<void> {
  const log = new PostgresEventStore(pool, { schema: 'storefront' })
  const data = { userId: 'ada', items: [{ sku: 'rope', quantity: 1 }], shipTo: 'Arco', cents: 18_900 }
  await log.append('order-orphan', [{ type: 'OrderPlaced', data }])
  await log.close()
}

/** As `until`, but a database that has other things to do is asked less often. */
const eventually = (look: () => Promise<boolean>, timeoutMs = 90_000): Promise<true> =>
  until(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200))
    return look()
  }, timeoutMs)

/** Orders at once from customers of their own. What became of the requests is for the log to say. */
function order(url: string, count: number): void {
  for (let i = 0; i < count; i++) {
    const headers = { 'content-type': 'application/json', 'x-user-id': `user-${crypto.randomUUID()}` }
    const shipTo = i % 5 === 4 ? 'Atlantis' : 'Arco' // some are undone
    const body = JSON.stringify({ items: [{ sku: i % 2 ? 'rope' : 'helmet', quantity: 1 }], shipTo })
    fetch(`${url}/orders`, { method: 'POST', headers, body }).catch(() => {}) // it was killed
  }
}

test(
  'of three shops on one database two are killed under load: every order ends, and no money and no stock is in the wrong place',
  { timeout: 240_000 },
  async () => {
    const { pool, url } = await ownDatabase()
    const provider = await openProvider()
    const args = ['--port', '0', '--no-load', '--postgres', url, '--payment', provider.url]
    const shops = await Promise.all([1, 2, 3].map(() => start(...args)))
    const [survivor, first, second] = shops as [Running, Running, Running]
    await flip(survivor.url, { payment: 'slow' }) // so that many are in the middle of something
    for (const shop of shops) order(shop.url, 25)
    await eventually(async () => (await ordersOf(pool)).placed > 20)
    first.child.kill('SIGKILL')
    order(second.url, 25)
    await eventually(async () => (await countOf(pool, 'storefront.sagas where status = 3')) > 5)
    second.child.kill('SIGKILL')
    expect(await Promise.all([first.ended, second.ended])).toEqual(['SIGKILL', 'SIGKILL'])
    await leaveOrphan(pool)
    await flip(survivor.url, { payment: 'ok' })

    await eventually(async () => (await ordersOf(pool)).placed === 0)
    await eventually(async () => (await countOf(pool, 'storefront.sagas where status not in (3, 4)')) === 0)
    const orders = await ordersOf(pool)
    expect(orders.shipped).toBeGreaterThan(5)
    expect(orders.cancelled).toBeGreaterThan(0)
    expect(await countOf(pool, 'storefront.sagas')).toBe(orders.shipped + orders.cancelled)
    expect(await countOf(pool, 'storefront.sagas where status = 3')).toBe(orders.shipped)
    expect(await countOf(pool, 'storefront.sagas where epoch > 1')).toBeGreaterThan(0) // some were taken over
    expect(await provider.charged()).toBe(orders.shipped)
    expect(await countOf(pool, 'storefront.reservations where not released')).toBe(orders.shipped)
  },
)

/** What a choreographed checkout may talk over. */
const brokers = [
  ['Redis', async () => ['--redis', inject('redisUrl')]],
  ['RabbitMQ', async () => ['--rabbitmq', await rabbitmqUrl()]],
  ['memory', async () => []], // what a killed shop had taken from the outbox is gone
] as const

test.each(brokers)(
  'of three shops choreographed over %s two are killed under load: every order ends, and no money, stock or parcel is in the wrong place',
  { timeout: 240_000 },
  async (broker, options) => {
    const { pool, url } = await ownDatabase()
    const args = ['--port', '0', '--no-load', '--checkout', 'choreographed', '--postgres', url, ...(await options())]
    const shops = await Promise.all([1, 2, 3].map(() => start(...args)))
    const [survivor, first, second] = shops as [Running, Running, Running]
    expect(survivor.output()).toContain(`messages in ${broker}`)
    let waiting = 0
    const customers = setInterval(() => {
      if (waiting < 20) for (const shop of shops) order(shop.url, 5) // no more than a slow machine can serve
    }, 500)
    onTestFinished(() => clearInterval(customers))
    for (const shop of [first, second]) {
      const before = await ordersOf(pool)
      await eventually(async () => {
        const { placed, shipped, cancelled } = await ordersOf(pool)
        waiting = placed
        return placed > 3 && shipped + cancelled > before.shipped + before.cancelled + 5
      })
      shop.child.kill('SIGKILL')
      expect(await shop.ended).toBe('SIGKILL')
    }
    clearInterval(customers)
    await leaveOrphan(pool)

    await eventually(async () => (await ordersOf(pool)).placed === 0)
    const orders = await ordersOf(pool)
    expect(orders.shipped).toBeGreaterThan(0)
    expect(orders.cancelled).toBeGreaterThan(0)
    // what was cancelled last is undone a moment later
    await eventually(async () => (await heldIn(pool)).every((count) => count === orders.shipped), 30_000).catch(
      () => {},
    )
    expect(await heldIn(pool)).toEqual([orders.shipped, orders.shipped, orders.shipped])
  },
)
