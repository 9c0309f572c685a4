import amqp from 'amqplib'
import { inject } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import { groupNames } from '../../src/messaging/rabbitmq-wire.js'
import { RabbitMqEventBus, type RabbitMqEventBusOptions } from '../../src/messaging/rabbitmq.js'

let count = 0

/** A prefix that no other test has: on the broker, its names are a test's own. */
export const ownPrefix = (): string => `t${process.pid}-${Date.now().toString(36)}-${++count}.`

/** By bus, what it has made on the broker. */
const made = new WeakMap<RabbitMqEventBus, { readonly prefix: string; readonly groups: Set<string> }>()

/** A bus on the broker of this run, or on the one at `url`. */
export function openBus(options: Partial<RabbitMqEventBusOptions> = {}, url = inject('rabbitmqUrl')): RabbitMqEventBus {
  const prefix = options.prefix ?? ownPrefix()
  const bus = new RabbitMqEventBus({ connect: () => amqp.connect(url), partitions: 2, ...options, prefix })
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
  const connection = await amqp.connect(inject('rabbitmqUrl'))
  const channel = await connection.createChannel()
  await channel.deleteExchange(`${prefix}messages`)
  for (const group of groups) {
    if (typeof group !== 'string') continue // a law tries that
    const names = groupNames(prefix, group)
    const partitions = [0, 1, 2, 3].flatMap((i) => [names.queue(i), names.aside(i)])
    await Promise.all([...partitions, names.dead, names.record].map((queue) => channel.deleteQueue(queue)))
    await channel.deleteExchange(names.exchange)
  }
  await connection.close()
}

/** Waits until `condition` holds. */
export async function until(condition: () => boolean | Promise<boolean>, what = 'it', ms = 20_000): Promise<void> {
  for (const late = Date.now() + ms; !(await condition()); await systemClock.sleep(10))
    if (Date.now() > late) throw new Error(`${what} did not happen in ${ms} ms`)
}
