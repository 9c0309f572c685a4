import { randomUUID } from 'node:crypto'
import { RedisCheckpoints, RedisEventStore } from '../../src/event-sourcing/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { checkpointsContract } from '../conformance/checkpoints.js'
import { compareWithModel, operations } from '../conformance/event-store-model.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { prop } from '../support/prop.js'
import { redisClients } from '../support/redis.js'

const { redis, subscriber, nodeRedis, nodeSubscriber } = redisClients()

for (const [name, client, options] of [
  ['ioredis', redis, {}],
  ['ioredis, with a subscriber', redis, { subscriber, idempotencyMs: 60_000 }],
  ['node-redis', nodeRedis, {}],
  ['node-redis, with a subscriber', nodeRedis, { subscriber: nodeSubscriber }],
] as const) {
  eventStoreContract(`Redis, ${name}`, async () => {
    const store = new RedisEventStore(client, { namespace: randomUUID(), ...options })
    return { store, advance: (ms) => systemClock.sleep(ms + 1), close: () => store.close() }
  })
}

for (const [name, client] of [
  ['ioredis', redis],
  ['node-redis', nodeRedis],
] as const) {
  checkpointsContract(`Redis, ${name}`, async () => ({
    checkpoints: new RedisCheckpoints(client, { namespace: randomUUID() }),
    advance: (ms) => systemClock.sleep(ms + 1),
    close: async () => {},
  }))
}

prop(
  'Redis: answers as one list of rows does, whatever is asked of it in whatever order',
  [operations],
  async (list) => {
    const store = new RedisEventStore(redis, { namespace: randomUUID() })
    await compareWithModel(store, list, (ms) => systemClock.sleep(ms))
  },
  { numRuns: 150 },
)
