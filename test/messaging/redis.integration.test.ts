import { randomUUID } from 'node:crypto'
import { systemClock } from '../../src/kernel/clock.js'
import { RedisEventBus } from '../../src/messaging/redis.js'
import { eventBusContract, type Defaults } from '../conformance/event-bus.js'
import { redisClients } from '../support/redis.js'

const { redis, subscriber, nodeRedis } = redisClients()

const sets: Record<string, Defaults> = {
  'as it comes': {},
  'no order': { order: 'none' },
  'one at a time': { concurrency: 1 },
  'a hundred at a time, one attempt': { concurrency: 100, retry: { attempts: 1 } },
}
for (const [name, client, options, defaults] of [
  ['as it comes', redis, { subscriber }, {}],
  ['no order', redis, { subscriber, leaseMs: 100 }, sets['no order']],
  ['one at a time', redis, { pollMs: 10 }, sets['one at a time']],
  ['a hundred at a time, one attempt', redis, { subscriber }, sets['a hundred at a time, one attempt']],
  ['node-redis', nodeRedis, { pollMs: 10 }, {}],
] as const) {
  eventBusContract(
    `Redis, ${name}`,
    async () => {
      const bus = new RedisEventBus(client, { namespace: randomUUID(), ...options })
      return { bus, advance: (ms) => systemClock.sleep(ms + 1), close: () => bus.close() }
    },
    defaults,
  )
}
