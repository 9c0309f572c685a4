import { randomUUID } from 'node:crypto'
import { systemClock } from '../../src/kernel/clock.js'
import { RedisSagaStore } from '../../src/saga/redis.js'
import { sagaStoreContract } from '../conformance/saga-store.js'
import { compareWithMemory, sagaOperations } from '../conformance/saga-store-model.js'
import { prop } from '../support/prop.js'
import { redisClients } from '../support/redis.js'

const { redis, subscriber, nodeRedis, nodeSubscriber } = redisClients()

for (const [name, client, options] of [
  ['ioredis', redis, {}],
  ['ioredis, with a subscriber', redis, { subscriber, retainMs: 60_000 }],
  ['node-redis', nodeRedis, {}],
  ['node-redis, with a subscriber', nodeRedis, { subscriber: nodeSubscriber, retainMs: Infinity }],
] as const) {
  sagaStoreContract(`RedisSagaStore, ${name}`, async () => {
    const store = new RedisSagaStore(client, { prefix: randomUUID(), ...options })
    return { store, advance: (ms) => systemClock.sleep(ms + 1), close: async () => {} }
  })
}

for (const [name, client] of [
  ['ioredis', redis],
  ['node-redis', nodeRedis],
] as const) {
  prop(
    `RedisSagaStore, ${name}: answers as the one in memory does, whatever is asked of it in whatever order`,
    [sagaOperations],
    (operations) => compareWithMemory(new RedisSagaStore(client, { prefix: randomUUID() }), operations),
    { numRuns: 100 },
  )
}
