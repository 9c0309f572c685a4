import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import { saga, SagaOrchestrator, type SagaStatus, type SagaWake, type Transition } from '../../src/saga/index.js'
import { RedisSagaStore } from '../../src/saga/redis.js'
import { sagaStoreContract } from '../conformance/saga-store.js'
import { compareWithMemory, sagaOperations } from '../conformance/saga-store-model.js'
import { prop } from '../support/prop.js'
import { redisCluster } from '../support/redis.js'

const redis = redisCluster()

for (const listening of [false, true]) {
  sagaStoreContract(`RedisSagaStore, Cluster${listening ? ', with a subscriber' : ''}`, async () => {
    const store = new RedisSagaStore(redis.cluster, {
      prefix: randomUUID(),
      ...(listening ? { subscriber: redis.subscriber } : {}),
    })
    return { store, advance: (ms) => systemClock.sleep(ms + 1), close: async () => {} }
  })
}

prop(
  'RedisSagaStore, Cluster: answers as the one in memory does, whatever is asked of it in whatever order',
  [sagaOperations],
  (operations) => compareWithMemory(new RedisSagaStore(redis.cluster, { prefix: randomUUID() }), operations),
  { numRuns: 40 },
)

test('all keys of a prefix are in one slot, whatever it looks like', async () => {
  const nodes = redis.nodes()
  const known = [{ name: '{n}', version: 1, hash: 'h' }]
  for (const prefix of ['', '}', '{}', 'a', '{tag}rest', 'é{', '{a}{b}']) {
    await Promise.all(nodes.map((node) => node.flushall()))
    const store = new RedisSagaStore(redis.cluster, { prefix })
    for (const id of ['{x}', 'b', 'c'])
      await store.create({ id, ...known[0]!, input: '1', deadlineMs: null, leaseMs: null })
    const { claimed } = await store.claim({ known, limit: 2, leaseMs: 60_000 })
    const record = { at: 1, entries: [] }
    const statuses = ['completed', 'parked'] as const
    await store.commit(
      claimed.map(({ saga: { id, epoch } }, i) => ({
        ...{ id, epoch, position: 0, record, status: statuses[i]!, consumed: [], seen: 0, next: { dueAt: null } },
      })),
    )
    expect(await store.list({ limit: 10 })).toHaveLength(3)
    const keys = (await Promise.all(nodes.map((node) => node.keys('*')))).flat()
    expect(keys.length).toBe(9)
    expect(new Set(await Promise.all(keys.map((key) => nodes[0]!.cluster('KEYSLOT', key)))).size, prefix).toBe(1)
  }
})

test('other processes hear of a saga, whichever node they listen to', async () => {
  const prefix = randomUUID()
  const hearing = new RedisSagaStore(redis.cluster, { prefix, subscriber: redis.subscriber, pollMs: 60_000 })
  const wakes: SagaWake[] = []
  onTestFinished(hearing.onWake!((wake) => wakes.push(wake)))
  await expect.poll(() => wakes).toContainEqual({ id: undefined, dueInMs: 0 }) // it listens
  const store = new RedisSagaStore(redis.cluster, { prefix })
  await store.create({ id: 'a', name: 'n', version: 1, hash: 'h', input: '1', deadlineMs: null, leaseMs: null })
  await expect.poll(() => wakes).toContainEqual({ id: 'a', dueInMs: 0 })
})

// A slot that moves to another server has its keys on both for a while: a saga that is half written would be stuck for good.
test('a call that finds half of its keys on another node writes nothing', async () => {
  const prefix = `{half ${randomUUID()}}`
  const nodes = redis.nodes()
  const store = new RedisSagaStore(redis.cluster, { prefix })
  const end = (id: string, status: SagaStatus): Transition => ({
    ...{ id, epoch: 1, position: 0, record: { at: 1, entries: [] }, status, consumed: [], seen: 0 },
    next: { dueAt: null },
  })
  for (const id of ['a', 'e', 'p', 'w'])
    await store.create({ id, name: 'n', version: 1, hash: 'h', input: '1', deadlineMs: null, leaseMs: 60_000 })
  await store.commit([end('e', 'completed'), end('p', 'parked'), end('w', 'waiting')])
  const move = await moving(nodes, prefix)
  await move.keys([`${prefix}d1 h :n`])
  const stored = async (): Promise<unknown> =>
    Promise.all(['a', 'w'].map((id) => nodes[move.from]!.hgetall(`${prefix}s:${id}`)))
  const before = await stored()
  const refused = { code: 'STORE_FAILED', cause: { message: expect.stringMatching(/non local key/) as string } }
  await expect(store.commit([end('a', 'waiting')])).rejects.toMatchObject(refused)
  await expect(store.renew([{ id: 'a', epoch: 1 }], 1)).rejects.toMatchObject(refused)
  await expect(store.deliver({ sagaId: 'w', kind: 'signal', name: 's', payload: '1' })).rejects.toMatchObject(refused)
  expect(await stored()).toEqual(before)
  await move.rest()
  expect(await store.commit([end('a', 'waiting')])).toEqual(['ok'])
})

test('sagas while their slot moves to another node: all end, each step recorded once', async () => {
  const prefix = `{moving ${randomUUID()}}`
  const nodes = redis.nodes()
  const store = new RedisSagaStore(redis.cluster, { prefix })
  const work = saga<number>('work', { version: 1 })
    .step('a', { run: ({ key }) => systemClock.sleep(5).then(() => key) })
    .sleep('b', 50)
    .step('c', { run: ({ key }) => key })
    .build()
  const orchestrators = [1, 2].map(
    () => new SagaOrchestrator({ store: new RedisSagaStore(redis.cluster, { prefix }), sagas: [work], leaseMs: 1_000 }),
  )
  for (const each of orchestrators) each.start()
  const ids: string[] = []
  const stopped = new AbortController()
  const creating = (async () => {
    for (let i = 0; !stopped.signal.aborted; i++) {
      const id = `s${i}`
      // the answer may be that nobody knows
      await orchestrators[i % 2]!.run(work, i, { id }).then(
        () => ids.push(id),
        (error: unknown) => expect(error).toMatchObject({ code: 'STORE_FAILED' }),
      )
      await systemClock.sleep(3)
    }
  })()
  await systemClock.sleep(200)
  await (await moving(nodes, prefix)).rest()
  await systemClock.sleep(300)
  await expect.poll(() => ids.length).toBeGreaterThan(30)
  stopped.abort()
  await creating
  const unfinished = async (): Promise<number> => (await store.list({ stuckForMs: 0, limit: 10_000 })).length
  await expect.poll(unfinished, { interval: 100 }).toBe(0)
  expect((await store.list({ limit: 10_000 })).map(({ id }) => id)).toEqual(expect.arrayContaining(ids))
  for (const id of ids) {
    const found = (await store.read(id))!
    const done = found.journal.flatMap(({ entries }) => entries).filter(({ type }) => type === 'done')
    expect([found.status, done.map((entry) => (entry as { path: string }).path)]).toEqual([
      'completed',
      ['a', 'b', 'c'],
    ])
  }
  await Promise.all(orchestrators.map((each) => each.close()))
})

/** Begins to move the slot of `prefix` to another node. */
async function moving(nodes: readonly Redis[], prefix: string) {
  const slot = await nodes[0]!.cluster('KEYSLOT', prefix)
  const holds = await Promise.all(nodes.map((node) => node.cluster('COUNTKEYSINSLOT', slot)))
  const from = holds.findIndex((count) => count > 0)
  const to = (from + 1) % nodes.length
  const names = await Promise.all(nodes.map((node) => node.cluster('MYID')))
  await nodes[to]!.cluster('SETSLOT', slot, 'IMPORTING', names[from]!)
  await nodes[from]!.cluster('SETSLOT', slot, 'MIGRATING', names[to]!)
  const keys = async (some: readonly string[]): Promise<void> => {
    await nodes[from]!.call('MIGRATE', '127.0.0.1', redis.ports[to]!, '', 0, 5_000, 'KEYS', ...some)
  }
  const rest = async (): Promise<void> => {
    for (;;) {
      const some = await nodes[from]!.cluster('GETKEYSINSLOT', slot, 10)
      if (some.length === 0) break
      await keys(some)
      await systemClock.sleep(20)
    }
    for (const node of [to, from]) await nodes[node]!.cluster('SETSLOT', slot, 'NODE', names[to]!)
  }
  return { from, keys, rest }
}
