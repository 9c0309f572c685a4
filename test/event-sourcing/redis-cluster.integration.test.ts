import { randomUUID } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { RedisCheckpoints, RedisEventStore, RedisSnapshots } from '../../src/event-sourcing/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { checkpointsContract } from '../conformance/checkpoints.js'
import { compareWithModel, operations } from '../conformance/event-store-model.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { prop } from '../support/prop.js'
import { redisCluster } from '../support/redis.js'

const redis = redisCluster()

eventStoreContract('Redis Cluster', async () => {
  const store = new RedisEventStore(redis.cluster, { namespace: randomUUID() })
  return { store, advance: (ms) => systemClock.sleep(ms + 1), close: () => store.close() }
})

checkpointsContract('Redis Cluster', async () => ({
  checkpoints: new RedisCheckpoints(redis.cluster, { namespace: randomUUID() }),
  advance: (ms) => systemClock.sleep(ms + 1),
  close: async () => {},
}))

prop(
  'Redis Cluster: answers as one list of rows does, whatever is asked of it in whatever order',
  [operations],
  async (list) => {
    const store = new RedisEventStore(redis.cluster, { namespace: randomUUID() })
    await compareWithModel(store, list, (ms) => systemClock.sleep(ms))
  },
  { numRuns: 40 },
)

test('all keys of a namespace are in one slot, whatever it looks like', async () => {
  const nodes = redis.nodes()
  for (const namespace of ['', '}', '{}', 'a', '{tag}rest', 'é{', '{a}{b}']) {
    await Promise.all(nodes.map((node) => node.flushall()))
    const store = new RedisEventStore(redis.cluster, { namespace })
    await store.append('s', [{ type: 'a', data: 1, tags: ['t', '{x}'] }], { idempotencyKey: '{y}' })
    await new RedisCheckpoints(redis.cluster, { namespace }).acquire('{n}', 'o', 1_000)
    await new RedisSnapshots(redis.cluster, { namespace }).put('{s}', 1, 1, {})
    expect((await store.readPage()).events).toHaveLength(1)
    const keys = (await Promise.all(nodes.map((node) => node.keys('*')))).flat()
    expect(keys.length).toBeGreaterThan(8)
    expect(new Set(await Promise.all(keys.map((key) => nodes[0]!.cluster('KEYSLOT', key)))).size, namespace).toBe(1)
  }
})

test('an append wakes those who asked in another process, whichever node they listen to', async () => {
  const namespace = randomUUID()
  const [writer, reader] = [undefined, redis.subscriber].map(
    (listening) => new RedisEventStore(redis.cluster, { namespace, subscriber: listening }),
  )
  onTestFinished(() => reader!.close())
  const woken: true[] = []
  reader!.wake(() => woken.push(true))
  for (let tries = 0; tries < 100 && woken.length === 0; tries++) {
    await writer!.append('s', [{ type: 'a', data: 1 }]) // the first may be before the subscription
    await systemClock.sleep(20)
  }
  expect(woken.length).toBeGreaterThan(0)
})

// A slot that moves to another server has its keys on both for a while: nothing may be half written.
test('appends while the slot of the log moves to another node: none is lost, doubled or torn', async () => {
  const namespace = `{moving ${randomUUID()}}`
  const nodes = redis.nodes()
  const store = new RedisEventStore(redis.cluster, { namespace })
  await store.append('s0', [{ type: 'a', data: -1, tags: ['t0'] }])
  const slot = await nodes[0]!.cluster('KEYSLOT', namespace)
  const holds = await Promise.all(nodes.map((node) => node.cluster('COUNTKEYSINSLOT', slot)))
  const from = holds.findIndex((count) => count > 0)
  const to = (from + 1) % nodes.length
  const ids = await Promise.all(nodes.map((node) => node.cluster('MYID')))

  const stopped = new AbortController()
  const made: number[] = []
  const uncertain = new Set<number>()
  const writers = [0, 1, 2, 3].map(async (writer) => {
    for (let i = 0; !stopped.signal.aborted; i++) {
      const n = 1_000_000 * writer + i
      const append = store.append(`s${i % 7}`, [
        { type: 'a', data: n, tags: [`t${i % 5}`] },
        { type: 'b', data: n },
      ])
      // oxlint-disable-next-line no-await-in-loop
      await append.then(
        () => made.push(n),
        (error: { code: string }) => {
          expect(error.code).toBe('STORE_FAILED')
          uncertain.add(n)
        },
      )
    }
  })
  await systemClock.sleep(100)
  await nodes[to]!.cluster('SETSLOT', slot, 'IMPORTING', ids[from]!)
  await nodes[from]!.cluster('SETSLOT', slot, 'MIGRATING', ids[to]!)
  for (;;) {
    const keys = await nodes[from]!.cluster('GETKEYSINSLOT', slot, 3)
    if (keys.length === 0) break
    await nodes[from]!.call('MIGRATE', '127.0.0.1', redis.ports[to]!, '', 0, 5_000, 'KEYS', ...keys)
    await systemClock.sleep(30)
  }
  for (const node of [to, from]) await nodes[node]!.cluster('SETSLOT', slot, 'NODE', ids[to]!)
  await expect.poll(() => made.length).toBeGreaterThan(10)
  stopped.abort()
  await Promise.all(writers)

  const log: { data: unknown; streamId: string; version: number; position: number; type: string }[] = []
  for await (const event of store.readAll()) log.push(event)
  expect(log.map((event) => event.position)).toEqual(log.map((_, i) => i + 1))
  const pairs = log.slice(1)
  for (let i = 0; i < pairs.length; i += 2) expect(pairs[i]!.data).toBe(pairs[i + 1]!.data)
  const found = pairs.filter((event) => event.type === 'a').map((event) => event.data as number)
  expect(new Set(found).size).toBe(found.length)
  expect(found.filter((n) => !uncertain.has(n)).toSorted((a, b) => a - b)).toEqual(made.toSorted((a, b) => a - b))
  for (let i = 0; i < 5; i++) {
    const tagged = await store.readPage({ query: { items: [{ tags: [`t${i}`] }] }, limit: 100_000 })
    expect(tagged.events.map((event) => event.position)).toEqual(
      log.filter((event) => (event as { tags?: string[] }).tags?.includes(`t${i}`)).map((event) => event.position),
    )
  }
})
