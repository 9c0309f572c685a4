import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import type { RedisClient } from '../../src/kernel/redis.js'
import { saga, SagaOrchestrator, type SagaWake } from '../../src/saga/index.js'
import { RedisSagaStore, type RedisSagaStoreOptions } from '../../src/saga/redis.js'
import { fc, prop } from '../support/prop.js'
import { ownRedis } from '../support/redis.js'
import { end, known, newSaga } from './rows.js'

const redisUrl = await ownRedis()

const redis = new Redis(redisUrl)
afterAll(() => redis.disconnect())

const open = (options: RedisSagaStoreOptions = {}): { store: RedisSagaStore; prefix: string } => {
  const { prefix = `{${randomUUID()}}` } = options
  return { store: new RedisSagaStore(redis, { ...options, prefix }), prefix }
}
const listening = (prefix: string, options: RedisSagaStoreOptions = {}): RedisSagaStore => {
  const subscriber = redis.duplicate({ autoResubscribe: false }) // it is cut off: the store subscribes anew
  onTestFinished(() => subscriber.disconnect())
  return new RedisSagaStore(redis, { prefix, subscriber, ...options })
}
/** As a client does that sends a command again because its connection broke before the answer. */
const twice: RedisClient = {
  async call(command, ...args) {
    await redis.call(command, ...args)
    return redis.call(command, ...args)
  },
}

test('an ended saga goes after its time with all that is its own, and its id starts clean', async () => {
  const { store, prefix } = open({ retainMs: 300 })
  const signal = { sagaId: 'a', kind: 'signal', name: 's', payload: '1', dedupeId: 'd' } as const
  for (let round = 0; round < 2; round++) {
    expect((await store.create(newSaga('a', { leaseMs: 60_000 }))).created).toBe(true)
    expect(await store.read('a')).toMatchObject({ inbox: [], journal: [], lastMessage: 0, epoch: 1 })
    expect(await store.deliver(signal)).toBe('delivered')
    expect(await store.commit([end('a', { seen: 1 })])).toEqual(['ok'])
    expect((await store.create(newSaga('a'))).created).toBe(false)
    await systemClock.sleep(310)
    expect(await store.read('a')).toBeUndefined()
    expect(await store.list({ limit: 10 })).toEqual([])
  }
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  await systemClock.sleep(1_350)
  await store.claim({ known, limit: 1, leaseMs: 1_000 })
  expect((await store.list({ limit: 10 })).map(({ id }) => id)).toEqual(['a']) // the new one, whose forerunner's time was up
  await store.commit([end('a')])
  await systemClock.sleep(1_350)
  await store.claim({ known, limit: 1, leaseMs: 1_000 })
  expect(await redis.keys(`${prefix}*`)).toEqual([`${prefix}k1 :order`])
})

test('a compensated saga that is driven again is not deleted', async () => {
  const { store } = open({ retainMs: 50 })
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  await store.commit([end('a', { status: 'compensated' })])
  expect(await store.deliver({ sagaId: 'a', kind: 'redrive', name: 'x', payload: '{}' })).toBe('delivered')
  await systemClock.sleep(1_100)
  const { claimed } = await store.claim({ known, limit: 1, leaseMs: 1_000 })
  expect(claimed[0]).toMatchObject({ expired: false, saga: { id: 'a', epoch: 2, inbox: [{ kind: 'redrive' }] } })
  expect(await store.list({ limit: 10 })).toHaveLength(1)
})

test('an ended saga is kept for good when it is to be', async () => {
  const { store, prefix } = open({ retainMs: Infinity })
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  await store.commit([end('a')])
  expect(await redis.pttl(`${prefix}s:a`)).toBe(-1)
})

test('a call that is sent again because its answer was lost has its effect once, and the first answer', async () => {
  const { store, prefix } = open()
  const sender = new RedisSagaStore(twice, { prefix })
  expect(await sender.create(newSaga('a', { leaseMs: 60_000 }))).toMatchObject({ created: true, saga: { epoch: 1 } })
  expect(await sender.create(newSaga('b'))).toMatchObject({ created: true, saga: { epoch: 0 } })
  expect(await sender.create(newSaga('b'))).toMatchObject({ created: false })
  const { claimed } = await sender.claim({ known, limit: 5, leaseMs: 60_000 })
  expect(claimed).toMatchObject([{ expired: false, saga: { id: 'b', epoch: 1 } }])
  expect(await sender.claim({ known, limit: 5, leaseMs: 60_000 })).toMatchObject({ claimed: [] })
  const message = { sagaId: 'a', kind: 'signal', name: 's', payload: '1' } as const
  for (let i = 0; i < 20; i++) expect(await sender.deliver(message)).toBe('delivered')
  expect(await sender.deliver({ ...message, dedupeId: 'd' })).toBe('delivered')
  expect(await sender.deliver({ ...message, dedupeId: 'd' })).toBe('duplicate')
  expect((await store.read('a'))?.inbox).toHaveLength(21)
  const last = end('a', { consumed: [1, 2], seen: 21 })
  expect(await sender.commit([last])).toEqual(['ok'])
  expect(await sender.renew([{ id: 'a', epoch: 1 }], 1)).toEqual(['fenced'])
  expect(await store.read('a')).toMatchObject({ status: 'completed', journal: [last.record] })
})

test('sagas that are created at one moment travel together, and of several of one id one is new', async () => {
  const { prefix } = open()
  let calls = 0
  const counting: RedisClient = {
    call(command, ...args) {
      calls++
      return redis.call(command, ...args)
    },
  }
  const store = new RedisSagaStore(counting, { prefix })
  await store.create(newSaga('a')) // the server knows the script now
  calls = 0
  const created = await Promise.all(['b', 'a', 'c', 'b'].map((id) => store.create(newSaga(id, { leaseMs: 60_000 }))))
  expect(created.map(({ created: isNew, saga: { id, epoch } }) => [isNew, id, epoch])).toEqual([
    ...[
      [true, 'b', 1],
      [false, 'a', 0],
      [true, 'c', 1],
      [false, 'b', 1],
    ],
  ])
  expect(calls).toBe(2) // two of one id can't be in one call
  calls = 0
  const large = 'x'.repeat(1_500_000)
  await Promise.all(['d', 'e', 'f'].map((id) => store.create(newSaga(id, { input: `"${large}"` }))))
  expect(calls).toBe(3) // nor more than the server's other clients can wait for
  expect((await store.list({ limit: 10 })).map(({ id }) => id)).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
})

test('a creation that is sent again after others have had the saga does not own it', async () => {
  const { store, prefix } = open()
  const slow: RedisClient = {
    async call(command, ...args) {
      await redis.call(command, ...args)
      await systemClock.sleep(60)
      await store.claim({ known, limit: 1, leaseMs: 60_000 })
      return redis.call(command, ...args)
    },
  }
  await store.read('a')
  const { created, saga: found } = await new RedisSagaStore(slow, { prefix }).create(newSaga('a', { leaseMs: 50 }))
  expect([created, found.epoch]).toEqual([false, 2])
})

test('of two owners under one epoch the one that was given it last writes', async () => {
  const { store, prefix } = open()
  const other = new RedisSagaStore(redis, { prefix })
  await store.create(newSaga('a', { leaseMs: 50 }))
  const before = await redis.dumpBuffer(`${prefix}s:a`)
  await systemClock.sleep(60)
  const claim = { known, limit: 1, leaseMs: 60_000 }
  expect((await store.claim(claim)).claimed).toHaveLength(1)
  // what a replica does that takes over and has not heard of it
  await redis.restore(`${prefix}s:a`, 0, before, 'REPLACE')
  await redis.zadd(`${prefix}d1 h :order`, 1, 'a')
  expect((await other.claim(claim)).claimed).toMatchObject([{ saga: { epoch: 2 } }])
  const one = end('a', { epoch: 2, status: 'running', next: { leaseMs: 60_000 } })
  expect(await store.renew([{ id: 'a', epoch: 2 }], 60_000)).toEqual(['fenced'])
  expect(await store.commit([one])).toEqual(['fenced'])
  expect(await other.commit([one])).toEqual(['ok'])
  expect(await store.commit([one])).toEqual(['fenced'])
})

test('sagas of unknown or changed definitions do not hold up others', async () => {
  const { store } = open()
  for (let i = 0; i < 300; i++) {
    await store.create(newSaga(`u${i}`, { name: 'unknown' }))
    await store.create(newSaga(`c${i}`, { hash: 'changed' }))
  }
  await store.create(newSaga('a'))
  const { claimed, drifted, nextDueMs } = await store.claim({ known, limit: 2, leaseMs: 60_000 })
  expect(claimed.map(({ saga: { id } }) => id)).toEqual(['a'])
  expect(drifted).toHaveLength(100)
  expect(drifted[0]).toEqual({ id: 'c0', name: 'order', version: 1 })
  expect(nextDueMs).toBeGreaterThan(50_000) // and nobody asks again and again for what nobody may have
})

test('claims go by the time of all definitions together', async () => {
  const { store } = open()
  const two = [...known, { name: 'other', version: 2, hash: 'h' }]
  for (const [i, id] of ['a', 'b', 'c', 'd'].entries()) {
    await store.create(newSaga(id, i % 2 === 0 ? {} : two[1]))
    await systemClock.sleep(3)
  }
  const first = await store.claim({ known: two, limit: 3, leaseMs: 60_000 })
  expect(first.claimed.map(({ saga: { id } }) => id)).toEqual(['a', 'b', 'c'])
  expect(first.nextDueMs).toBe(0)
})

test('batches larger than one script are answered in their order', async () => {
  const { store } = open()
  const ids = Array.from({ length: 600 }, (_, i) => `s${i}`)
  await Promise.all(ids.map((id) => store.create(newSaga(id, { leaseMs: 60_000 }))))
  const batch = ids.flatMap((id, i) => [
    end(id, { epoch: i % 3 === 0 ? 2 : 1, status: 'running', next: { leaseMs: 60_000 } }),
    ...(i % 150 === 1 ? [end(id, { position: 1 })] : []),
  ])
  expect(await store.commit(batch)).toEqual(batch.map(({ epoch }) => (epoch === 1 ? 'ok' : 'fenced')))
  const leases = ids.map((id, i) => ({ id, epoch: i % 3 === 0 ? 2 : 1 }))
  const ended = (i: number): boolean => i % 150 === 1
  expect(await store.renew(leases, 60_000)).toEqual(
    ids.map((_, i) => (i % 3 === 0 || ended(i) ? 'fenced' : { lastMessage: 0 })),
  )
  const large = { at: 1, entries: [{ type: 'done' as const, path: 'a', value: `"${'x'.repeat(1_500_000)}"` }] }
  const three = ['s3', 's6', 's9'].map((id) => end(id, { record: large, status: 'running', next: { leaseMs: 60_000 } }))
  expect(await store.commit(three)).toEqual(['ok', 'ok', 'ok'])
})

test('a saga that takes very many messages at once is written', async () => {
  const { store } = open()
  await store.create(newSaga('a', { leaseMs: 60_000 }))
  const count = 9_000
  const send = { sagaId: 'a', kind: 'signal', name: 's', payload: '1' } as const
  await Promise.all(Array.from({ length: count }, () => store.deliver(send)))
  const consumed = Array.from({ length: count }, (_, i) => i + 1)
  expect(await store.commit([end('a', { consumed, seen: count })])).toEqual(['ok'])
  expect((await store.read('a'))?.inbox).toEqual([])
})

prop(
  'lists are in the order of UTF-16 code units, whatever the ids, page by page',
  [
    fc.uniqueArray(
      fc.string({
        unit: fc.integer({ min: 0, max: 0xffff }).map((u) => String.fromCharCode(u)),
        minLength: 1,
        maxLength: 4,
      }),
      { maxLength: 12 },
    ),
  ],
  async (ids) => {
    const { store } = open()
    for (const id of ids) await store.create(newSaga(id))
    const seen: string[] = []
    for (;;) {
      const page = await store.list({ limit: 5, after: seen.at(-1) })
      seen.push(...page.map(({ id }) => id))
      if (page.length < 5) break
    }
    expect(seen).toEqual(ids.toSorted((a, b) => (a < b ? -1 : 1)))
  },
  { numRuns: 100 },
)

test('a list looks for what is rare among thousands, and finds parked sagas at once', async () => {
  const { store, prefix } = open()
  const ids = Array.from({ length: 2_500 }, (_, i) => `s${String(i).padStart(4, '0')}`)
  await Promise.all(ids.map((id) => store.create(newSaga(id, { leaseMs: 60_000 }))))
  await store.commit([end('s2400'), ...['s0005', 's2300'].map((id) => end(id, { status: 'parked' }))])
  const of = async (query: Partial<Parameters<typeof store.list>[0]>): Promise<string[]> =>
    (await store.list({ limit: 10, ...query })).map(({ id }) => id)
  expect(await of({ status: 'completed' })).toEqual(['s2400'])
  expect(await of({ status: 'parked' })).toEqual(['s0005', 's2300'])
  expect(await of({ status: 'parked', name: 'none' })).toEqual([])
  await store.deliver({ sagaId: 's0005', kind: 'retry', name: '', payload: '{}' })
  await store.claim({ known, limit: 1, leaseMs: 60_000 })
  await store.commit([end('s0005', { epoch: 2, position: 1, status: 'running', seen: 1 })])
  expect(await of({ status: 'parked' })).toEqual(['s2300'])
  expect(await redis.zrange(`${prefix}parked`, '0', '-1')).toEqual(['s2300'])
  expect(await of({ after: 's2497' })).toEqual(['s2498', 's2499'])
})

test('other processes hear of sagas to be run, of messages, and of ends', async () => {
  const { store, prefix } = open()
  const hearing = listening(prefix, { pollMs: 60_000 })
  const wakes: SagaWake[] = []
  const stop = hearing.onWake!((wake) => wakes.push(wake))
  const heard = (wake: SagaWake): Promise<void> => expect.poll(() => wakes).toContainEqual(wake)
  await heard({ id: undefined, dueInMs: 0 }) // it listens
  const id = 'a b"ü🎉\ud800\n'
  await store.create(newSaga(id))
  await heard({ id, dueInMs: 0 })
  await store.claim({ known, limit: 1, leaseMs: 60_000 })
  await redis.publish(`${prefix}wake`, 'not ours')
  await store.commit([end(id)])
  await heard({ id, dueInMs: Infinity })
  await hearing.create(newSaga('own'))
  await systemClock.sleep(50)
  expect(wakes.filter((wake) => wake.id === 'own')).toHaveLength(1) // once, though it hears itself too
  stop()
  const count = wakes.length
  await store.create(newSaga('last'))
  await systemClock.sleep(50)
  expect(wakes).toHaveLength(count)
})

const order = saga<number>('order', { version: 1 })
  .step('a', { run: () => 7 })
  .build()

test('what a subscriber has missed is found all the same', async () => {
  const { prefix } = open()
  const deaf = listening(prefix, { pollMs: 50 })
  const elsewhere = listening(prefix, { pollMs: 50 })
  await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub') // at any moment
  const worker = new SagaOrchestrator({ store: deaf, sagas: [order] })
  const asking = new SagaOrchestrator({ store: elsewhere, sagas: [order] })
  worker.start()
  const killing = setInterval(() => void redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'), 20)
  onTestFinished(() => clearInterval(killing))
  for (let i = 0; i < 5; i++) {
    const handle = await asking.run(order, 1, { id: `${i}` })
    expect(await handle.settled({ signal: AbortSignal.timeout(30_000) })).toMatchObject({ status: 'completed' })
  }
  await Promise.all([worker.close(), asking.close()])
})

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
test(
  'a saga that is created elsewhere is begun within 10 ms (p50), and its end is heard of as soon',
  { retry: 2 },
  async () => {
    const { prefix } = open()
    const begun = new Map<string, number>()
    const timed = saga<number>('timed', { version: 1 })
      .step('a', { run: ({ sagaId }) => void begun.set(sagaId, performance.now()) })
      .build()
    const worker = new SagaOrchestrator({ store: listening(prefix, { pollMs: 60_000 }), sagas: [timed] })
    const asking = new SagaOrchestrator({ store: listening(prefix, { pollMs: 60_000 }), sagas: [timed] })
    worker.start()
    await (await asking.run(timed, 1, { id: 'first' })).settled()
    const took: { begin: number; end: number; ping: number }[] = []
    for (let i = 0; i < 50; i++) {
      const startedAt = performance.now()
      const handle = await asking.run(timed, 1, { id: `${i}` })
      await handle.settled()
      const endedAt = performance.now()
      await redis.ping()
      const ping = performance.now() - endedAt
      took.push({ begin: begun.get(`${i}`)! - startedAt, end: endedAt - startedAt, ping })
    }
    await Promise.all([worker.close(), asking.close()])
    const p50 = (of: 'begin' | 'end' | 'ping'): number => took.map((t) => t[of]).toSorted((a, b) => a - b)[25]!
    const slowness = Math.max(1, p50('ping')) // on a machine that has more to do than it can, all takes longer
    expect(p50('begin')).toBeLessThan(10 * slowness)
    expect(p50('end')).toBeLessThan(20 * slowness)
  },
)

test('a definition with a transaction is refused', () => {
  const { store } = open()
  const paying = saga<number>('paying', { version: 1 })
    .transaction('pay', { run: () => 1 })
    .build()
  expect(() => new SagaOrchestrator({ store, sagas: [paying] })).toThrow(/^sagas.*transaction/)
})

test('what is no client, no subscriber or no number is refused by name', () => {
  expect(() => new RedisSagaStore(undefined as never)).toThrow(/^client/)
  expect(() => new RedisSagaStore(redis, { subscriber: 1 as never })).toThrow(/^subscriber/)
  expect(() => new RedisSagaStore(redis, { retainMs: -1 })).toThrow(/^retainMs/)
  expect(() => new RedisSagaStore(redis, { pollMs: 0 })).toThrow(/^pollMs/)
  expect(() => new RedisSagaStore(redis, { prefix: 1 as never })).toThrow(/^prefix/)
  const prefixed = new Redis({ keyPrefix: 'x', lazyConnect: true })
  expect(() => new RedisSagaStore(prefixed)).toThrow(/^client.*keyPrefix.*prefix/)
})

test('a saga whose record can not be read is given out with no other, and told of', async () => {
  const { store, prefix } = open()
  for (const id of ['a', 'b', 'c']) await store.create(newSaga(id))
  await redis.hset(`${prefix}s:b`, 'j:0', '{')
  const { claimed, unreadable } = await store.claim({ known, limit: 9, leaseMs: 60_000 })
  expect(claimed.map(({ saga: { id } }) => id).toSorted()).toEqual(['a', 'c'])
  const code = 'CORRUPT_DATA'
  expect(unreadable).toEqual([expect.objectContaining({ code, message: expect.stringContaining('"b"') as string })])
})

test('of creations that travel together one fails alone whose id a saga has that can not be read', async () => {
  const { store, prefix } = open()
  await store.create(newSaga('b'))
  await redis.hset(`${prefix}s:b`, 'j:0', '{')
  const all = await Promise.allSettled(['a', 'b', 'c'].map((id) => store.create(newSaga(id))))
  expect(all).toMatchObject([
    { status: 'fulfilled', value: { created: true } },
    { status: 'rejected', reason: { code: 'CORRUPT_DATA' } },
    { status: 'fulfilled', value: { created: true } },
  ])
})
