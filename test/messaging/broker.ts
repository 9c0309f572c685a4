import amqp from 'amqplib'
import { onTestFinished } from 'vitest'
import { groupNames } from '../../src/messaging/rabbitmq-wire.js'
import { RabbitMqEventBus, type RabbitMqEventBusOptions } from '../../src/messaging/rabbitmq.js'
import { Proxy } from '../support/proxy.js'
import { rabbitmqUrl } from '../support/rabbitmq.js'

/** The broker of this run. */
export const brokerUrl = await rabbitmqUrl()

let count = 0

/** A prefix that no other test has: on the broker, its names are a test's own. */
export const ownPrefix = (): string => `t${process.pid}-${Date.now().toString(36)}-${++count}.`

/** By bus, what it has made on the broker. */
const made = new WeakMap<RabbitMqEventBus, { readonly prefix: string; readonly groups: Set<string> }>()

/** A bus on the broker of this run, or on the one at `at`. Whoever opens it closes it. */
export function openBus(options: Partial<RabbitMqEventBusOptions> = {}, at = brokerUrl): RabbitMqEventBus {
  const prefix = options.prefix ?? ownPrefix()
  const bus = new RabbitMqEventBus({ connect: () => amqp.connect(at), partitions: 2, ...options, prefix })
  const groups = new Set<string>()
  made.set(bus, { prefix, groups })
  const subscribe = bus.subscribe.bind(bus)
  bus.subscribe = (wanted) => {
    groups.add(wanted.group)
    return subscribe(wanted)
  }
  return bus
}

/** Removes the queues of a closed bus: thousands that nobody uses would keep the broker busy. */
export async function removeGroups(bus: RabbitMqEventBus): Promise<void> {
  const { prefix, groups } = made.get(bus) ?? { prefix: '', groups: [] }
  const connection = await amqp.connect(brokerUrl)
  const channel = await connection.createChannel()
  await channel.deleteExchange(`${prefix}messages`)
  for (const group of groups) {
    if (typeof group !== 'string') continue // a law tries that
    const names = groupNames(prefix, group)
    const partitions = [0, 1, 2, 3].flatMap((i) => [names.queue(i), names.aside(i)])
    await Promise.all([...partitions, names.dead, names.record].map((queue) => channel.deleteQueue(queue)))
  }
  await connection.close()
}

/** A bus that ends with the test. */
export function ownBus(options: Partial<RabbitMqEventBusOptions> = {}): RabbitMqEventBus {
  const bus = openBus(options)
  onTestFinished(async () => {
    await bus.close()
    await removeGroups(bus)
  })
  return bus
}

/** A line to the broker that can fail. It ends with the test. */
export async function layLine(): Promise<{ readonly line: Proxy; readonly url: string }> {
  const far = new URL(brokerUrl)
  const line = await Proxy.to(Number(far.port))
  far.port = `${line.port}`
  onTestFinished(() => line.close())
  return { line, url: far.href }
}

/** A bus whose line to the broker can fail. It ends with the test. */
export async function farBus(
  options: Partial<RabbitMqEventBusOptions> = {},
): Promise<{ readonly bus: RabbitMqEventBus; readonly line: Proxy }> {
  const { line, url: far } = await layLine()
  const bus = openBus(options, far)
  onTestFinished(async () => {
    line.set('open')
    await bus.close()
    await removeGroups(bus)
  })
  return { bus, line }
}

/** Does something on the broker by hand. */
export async function byHand<T>(work: (channel: amqp.Channel) => Promise<T>): Promise<T> {
  const connection = await amqp.connect(brokerUrl)
  try {
    return await work(await connection.createChannel())
  } finally {
    await connection.close()
  }
}
