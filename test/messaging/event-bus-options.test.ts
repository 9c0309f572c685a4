import { expect, test } from 'vitest'
import { MemoryEventBus, type EventBusOptions } from '../../src/messaging/index.js'
import { RabbitMqEventBus } from '../../src/messaging/rabbitmq.js'
import { RedisEventBus } from '../../src/messaging/redis.js'

const never = (): Promise<never> => Promise.reject(new Error('nobody is there'))
const buses: [string, (options: EventBusOptions) => unknown][] = [
  ['MemoryEventBus', (options) => new MemoryEventBus(options)],
  ['RedisEventBus', (options) => new RedisEventBus({ call: never }, options)],
  ['RabbitMqEventBus', (options) => new RabbitMqEventBus(options && { connect: never, ...options })],
]

test.each(buses)('%s refuses what every bus refuses, and takes the defaults for undefined', (_, make) => {
  for (const [option, value] of [
    ['maxBacklog', 0],
    ['maxBacklog', 1.5],
    ['unrouted', 'maybe'],
    ['schema', 'x'],
    ['schema', { A: {} }],
    ['random', 1],
  ] as const)
    expect(() => make({ [option]: value }), option).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining(option) as string }),
    )
  const none = { maxBacklog: undefined, unrouted: undefined, schema: undefined, clock: undefined, random: undefined }
  expect(() => make(none)).not.toThrow()
})

test.each(buses)('%s says so when it gets null for its options', (_, make) => {
  expect(() => make(null as never)).toThrow(
    expect.objectContaining({ code: 'INVALID_OPTION', message: 'options: expected an object, got null' }),
  )
})
