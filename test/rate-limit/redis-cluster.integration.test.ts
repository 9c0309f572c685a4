import { randomUUID } from 'node:crypto'
import { Cluster, Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort, Servers } from '../../scripts/servers.mjs'
import { perDay, perMinute, type Limit } from '../../src/rate-limit/index.js'
import { slotOf } from '../../src/rate-limit/redis-keys.js'
import { RedisTokenBucketStore } from '../../src/rate-limit/redis.js'
import { tokenBucketStoreContract } from '../conformance/token-bucket-store.js'

// One server that owns every slot: it refuses a script whose keys are in two slots just as three would.
const servers = new Servers()
let cluster: Cluster

beforeAll(async () => {
  const { port } = await servers.redis({
    'cluster-enabled': 'yes',
    'cluster-port': await freePort(),
    'cluster-announce-ip': '127.0.0.1',
  })
  const setUp = new Redis(port)
  await setUp.call('cluster', 'addslotsrange', 0, 16_383)
  while (!(await setUp.cluster('INFO')).includes('cluster_state:ok')) await new Promise((r) => setTimeout(r, 20))
  setUp.disconnect()
  cluster = new Cluster([{ host: '127.0.0.1', port }])
})
afterAll(async () => {
  cluster.disconnect()
  await servers.stop()
})

tokenBucketStoreContract('RedisTokenBucketStore on a Cluster', async () => {
  const prefix = `${randomUUID()}:`
  const [store, other] = [1, 2].map(() => new RedisTokenBucketStore(cluster!, { prefix }))
  return {
    store: store!,
    other: other!,
    advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    close: async () => {},
  }
})

test('the calls of one tick go in one script call per slot', async () => {
  const slots: number[] = []
  const counting = {
    isCluster: true,
    call: (command: string, ...args: (string | number | Buffer)[]) => {
      slots.push(slotOf(String(args[2])))
      return cluster!.call(command, ...args)
    },
  }
  const store = new RedisTokenBucketStore(counting, { prefix: `${randomUUID()}:` })
  const limits: Limit[] = [perDay(5), perMinute(50)]
  await store.take('warm', 1, limits)
  slots.length = 0
  const keys = ['a', 'b', 'c', '}', '']
  const all = await Promise.all(Array.from({ length: 50 }, async (_, i) => store.take(keys[i % 5]!, 1, limits)))
  expect(all.filter((t) => t.allowed)).toHaveLength(25)
  expect(slots).toHaveLength(5)
  expect(new Set(slots).size).toBe(5)
})

test('slots are counted as the server counts them', async () => {
  for (const key of ['', 'a', 'a{b}c', '{}x', '{:ключ}1:a', '}{', 'x{y', '😀', '{a}{b}', 'a{{b}}'])
    expect(slotOf(key), key).toBe(await cluster!.cluster('KEYSLOT', key))
})
