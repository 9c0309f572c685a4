import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import { RedisEventBus } from '../../src/messaging/redis.js'
import { eventBusContract } from '../conformance/event-bus.js'
import { redisCluster } from '../support/redis.js'
import { until } from '../support/until.js'

const redis = redisCluster()

eventBusContract('Redis Cluster', async () => {
  const bus = new RedisEventBus(redis.cluster, { namespace: randomUUID(), subscriber: redis.subscriber })
  return { bus, advance: (ms) => systemClock.sleep(ms + 1), close: () => bus.close() }
})

test('all keys of a namespace are in one slot, whatever it looks like', async () => {
  const nodes = redis.nodes()
  for (const namespace of ['', '}', '{}', 'a', '{tag}rest', 'é{', '{a}{b}']) {
    await Promise.all(nodes.map((node) => node.flushall()))
    const bus = new RedisEventBus(redis.cluster, { namespace })
    for (const group of ['{g}', 'h'])
      await bus.subscribe({
        group,
        types: '*',
        retry: { attempts: 2, backoff: () => 10 },
        handle: () => Promise.reject(new Error('no')),
      })
    await bus.publish(Array.from({ length: 5 }, (_, data) => ({ type: 'A', key: '{k}', data })))
    await until(async () => (await bus.deadLetters('h').list()).length >= 3)
    const keys = (await Promise.all(nodes.map((node) => node.keys('*')))).flat()
    expect(keys.length).toBeGreaterThan(8)
    expect(new Set(await Promise.all(keys.map((key) => nodes[0]!.cluster('KEYSLOT', key)))).size, namespace).toBe(1)
    await bus.close()
  }
})
