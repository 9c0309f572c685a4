import { MemoryEventBus, type EventBus } from 'holdfast/messaging'
import { connectRedis, listenerOf } from './redis.js'
import type { ShopMessages } from './shop-messages.js'

/** A bus, and what to close when it is closed. */
export interface OpenedBus {
  readonly bus: EventBus<ShopMessages>
  /** For people: where it is. */
  readonly about: string
  close(): Promise<void>
}

/** After so long others get the messages of a process that vanished. */
const LEASE_MS = 3_000

/**
 * The bus at `url`, and on it all that has the same `name`. This is the one place that knows which brokers there are.
 * @throws what the driver says when it can't be reached
 */
export function openBus(url: string, name: string): Promise<OpenedBus> {
  switch (new URL(url).protocol) {
    case 'redis:':
    case 'rediss:':
      return openRedis(url, name)
    case 'amqp:':
    case 'amqps:':
      return openRabbitMq(url, name)
    default:
      throw new Error(`there is no bus for ${url}`)
  }
}

/** A bus of this process's own. */
export function busInMemory(): OpenedBus {
  const bus = new MemoryEventBus<ShopMessages>()
  return { bus, about: 'memory', close: () => bus.close() }
}

async function openRedis(url: string, name: string): Promise<OpenedBus> {
  const { RedisEventBus } = await import('holdfast/messaging/redis')
  const client = await connectRedis(url)
  const subscriber = listenerOf(client)
  const bus = new RedisEventBus<ShopMessages>(client, {
    namespace: `storefront:{${name}}:`,
    subscriber,
    leaseMs: LEASE_MS,
  })
  const close = async (): Promise<void> => {
    client.disconnect()
    subscriber.disconnect()
  }
  return { bus, about: 'Redis', close }
}

async function openRabbitMq(url: string, name: string): Promise<OpenedBus> {
  const { connect } = (await import('amqplib')).default
  const { RabbitMqEventBus } = await import('holdfast/messaging/rabbitmq')
  const at = new URL(url)
  if (!at.searchParams.has('heartbeat')) at.searchParams.set('heartbeat', '5') // seconds; what tells that a silent line is dead
  const open = () => connect(at.href, { timeout: 3_000 })
  const probe = await open() // who can't be reached should be known now
  probe.on('error', () => {})
  await probe.close()
  const bus = new RabbitMqEventBus<ShopMessages>({ connect: open, prefix: `storefront.${name}.` })
  return { bus, about: 'RabbitMQ', close: () => bus.close() } // again, most often: harmless
}
