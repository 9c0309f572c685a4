import amqp from 'amqplib'
import { Redis } from 'ioredis'
import type { Pool } from 'pg'
import { expect, onTestFinished, test } from 'vitest'
import { groupNames } from '../../src/messaging/rabbitmq-wire.js'
import { Unheard } from '../../examples/storefront/unheard.js'
import { rabbitmqUrl } from '../support/rabbitmq.js'
import { ownRedis } from '../support/redis.js'
import { until } from '../support/until.js'
import { ownDatabase } from './own-database.js'
import { openStorefront } from './storefront-client.js'
import { countOf, heldIn, ordersOf } from './storefront-counts.js'

const redis = await ownRedis()

async function flush(): Promise<void> {
  const client = new Redis(redis)
  await client.flushall()
  client.disconnect()
}

/** Deletes the queues of all services. */
async function deleteQueues(pool: Pool): Promise<void> {
  const { rows } = await pool.query<{ name: string }>('select name from storefront.log_name')
  const connection = await amqp.connect(await rabbitmqUrl())
  const channel = await connection.createChannel()
  for (const service of ['orders', 'payment', 'inventory', 'shipping']) {
    const names = groupNames(`storefront.${rows[0]!.name}.`, service)
    const queues = [0, 1, 2, 3].flatMap((i) => [names.queue(i), names.aside(i)])
    // oxlint-disable-next-line no-await-in-loop -- one service after the other
    await Promise.all(queues.map((queue) => channel.deleteQueue(queue)))
  }
  await connection.close()
}

const brokers = [
  ['Redis', async () => ({ redis }), flush],
  ['RabbitMQ', async () => ({ rabbitmq: await rabbitmqUrl() }), deleteQueues],
] as const

test.each(brokers)(
  'when %s forgets all that it had, every order ends, and no money, stock or parcel is in the wrong place',
  { timeout: 240_000 },
  async (_, options, forget) => {
    const { pool, url } = await ownDatabase()
    const settings = { postgres: url, checkout: 'choreographed', patienceMs: 2_000, ...(await options()) } as const
    const shops = await Promise.all([1, 2].map(() => openStorefront(settings)))
    onTestFinished(async () => void (await Promise.all(shops.map((shop) => shop.storefront.close()))))
    const clerk = await pool.connect()
    await clerk.query('begin; lock table storefront.payments') // so that payment gets no further, and most of it waits
    const orders = Array.from({ length: 40 }, (_order, i) =>
      shops[i % 2]!.place(i % 5 === 4 ? { shipTo: 'Atlantis' } : {}),
    )
    await Promise.all(orders)
    await until(async () => (await countOf(pool, 'storefront.outbox_messages')) === 0) // the broker has it all
    await forget(pool)
    await clerk.query('commit')
    clerk.release()
    await until(async () => (await countOf(pool, 'storefront.unheard')) === 0, 120_000)
    expect(await ordersOf(pool)).toEqual({ placed: 0, shipped: 32, cancelled: 8 })
    expect(await heldIn(pool)).toEqual([32, 32, 32])
  },
)

test('who has fallen behind is told again but little, who hears at once twice as much each time, nobody the same twice at once', async () => {
  const { pool } = await ownDatabase()
  await pool.query('create schema storefront')
  const [unheard, others] = [new Unheard(pool, 0), new Unheard(pool, 1_000_000)]
  await unheard.migrate()
  await others.migrate()
  const say = (to: Unheard, id: string): Promise<void> =>
    to.note(pool, { id, type: 'order.shipped', key: 'o-1', data: { orderId: 'o-1' } }, ['orders', 'payment'])
  for (let i = 0; i < 100; i++) await say(unheard, `m-${i}`) // oxlint-disable-line no-await-in-loop -- in this order
  await say(others, 'young')
  const tell = async (): Promise<string[]> => {
    const told: string[] = []
    await unheard.sayAgain(async (_tx, messages) => void told.push(...messages.map(({ id }) => id)))
    return told
  }
  const hear = (ids: readonly string[]): Promise<unknown> =>
    Promise.all(ids.flatMap((id) => ['orders', 'payment'].map((service) => unheard.heard(pool, service, id))))
  const [first, second] = [await tell(), await tell()]
  expect(second.length).toBeLessThanOrEqual(3) // nothing of the first was heard
  let told = second
  await hear(first)
  const sizes: number[] = []
  for (let i = 0; i < 6; i++) {
    await hear(told) // oxlint-disable-line no-await-in-loop -- one look after the other
    told = await tell() // oxlint-disable-line no-await-in-loop
    expect(new Set(told).size).toBe(told.length)
    sizes.push(told.length)
  }
  expect(sizes[3]).toBeGreaterThan(2 * sizes[0]!)
  expect(await countOf(pool, `storefront.unheard where id = 'young' and said = 1`)).toBe(2)
})
