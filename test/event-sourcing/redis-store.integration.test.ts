import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, expect, inject, onTestFinished, test } from 'vitest'
import { Repository, subscribe, type Decider, type Event, type Recorded } from '../../src/event-sourcing/index.js'
import { RedisCheckpoints, RedisEventStore, RedisSnapshots } from '../../src/event-sourcing/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import type { RedisClient } from '../../src/kernel/redis.js'

const redis = new Redis(inject('redisUrl'))
afterAll(() => redis.disconnect())

const e = (type: string, data: unknown = {}, tags: string[] = []): Event => ({ type, data, tags })
const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
const open = (options: object = {}, client: RedisClient = redis) => {
  const namespace = `{${randomUUID()}}`
  return { namespace, store: new RedisEventStore(client, { namespace, ...options }) }
}

/** A client that does what `around` makes of each command. */
const clientThat = (around: (send: () => Promise<unknown>, command: string) => Promise<unknown>): RedisClient => ({
  call: (command, ...args) => around(() => redis.call(command, ...args), command),
})

test('all appends of a tick are one call, each with its own result', async () => {
  const calls: string[] = []
  const client = clientThat((send, command) => {
    calls.push(command)
    return send()
  })
  const { store } = open({}, client)
  await store.append('s', [e('a')], { idempotencyKey: 'k' })
  calls.length = 0
  const answers = await Promise.allSettled([
    store.append('s', [e('b')], { expectedVersion: 1 }),
    store.append('s', [e('c')], { expectedVersion: 1 }),
    store.append('t', [e('d', () => 1)]),
    store.append('s', [e('e')], { idempotencyKey: 'k' }),
    store.append('other', [e('f')], { idempotencyKey: 'k' }),
    store.appendAll([{ stream: 't', events: [e('g'), e('h')] }, { events: [e('i')] }]),
    store.append('s', [e('j')], { unless: { query: { items: [{ types: ['g'] }] } } }),
    store.append('s', [e('k')]),
  ])
  expect(calls.filter((command) => command === 'evalsha').length).toBe(1 + 3) // and what three of them had to look up
  expect(answers.map((a) => (a.status === 'fulfilled' ? 'made' : (a.reason as { code: string }).code))).toEqual([
    'made',
    'VERSION_CONFLICT',
    'INVALID_PAYLOAD',
    'made',
    'INVALID_OPTION',
    'made',
    'VERSION_CONFLICT',
    'made',
  ])
  expect((await all(store.readAll())).map((x) => x.type)).toEqual(['a', 'b', 'g', 'h', 'i', 'k'])
})

test('a call that is sent twice because its answer was lost is made once, and gives the first answer', async () => {
  const twice = clientThat(async (send) => {
    await send()
    return send()
  })
  const { store, namespace } = open({}, twice)
  const results = await Promise.all(range(1, 20).map((i) => store.append('s', [e('a', i)])))
  expect(results.map(({ version, duplicate }) => [version, duplicate])).toEqual(range(1, 20).map((v) => [v, false]))
  expect(await all(store.read('s'))).toHaveLength(20)
  for (let i = 0; i < 5; i++) await store.append('s', [e('a')], { expectedVersion: 20 + i })
  const [marks] = await redis.keys(`${namespace}m:*`)
  expect(await redis.hlen(marks!)).toBeLessThan(3) // those answered are forgotten
  expect(await redis.pttl(marks!)).toBeGreaterThan(0)

  const checkpoints = new RedisCheckpoints(twice, { namespace })
  const lease = await checkpoints.acquire('n', 'a', 10_000)
  expect(lease).toEqual({ epoch: 1, position: undefined })
  await checkpoints.commit('n', 1, undefined, 3, async () => {})
  await checkpoints.park('n', 1, 3, { position: 4, streamId: 's', version: 1, attempts: 1, error: 'x' })
  expect(await checkpoints.parked('n')).toHaveLength(1)
  expect(await checkpoints.position('n')).toBe(4)
})

test('a rare type and a common tag are found in a log longer than one call looks at', async () => {
  const { store } = open()
  for (let i = 0; i < 5; i++)
    await store.append(
      `s${i}`,
      range(1, 999).map((n) => e(n === 500 ? 'rare' : 'x', n, ['common'])),
    )
  await store.append('last', [e('rare', 0, ['common', 'seldom'])])
  const find = async (query: object, limit = 10_000, after = 0) =>
    (await store.readPage({ query: { items: [query] }, limit, after })).events.map((x) => x.position)
  const rare = [500, 1_499, 2_498, 3_497, 4_496, 4_996]
  expect(await find({ types: ['rare'] })).toEqual(rare)
  expect(await find({ types: ['rare'], tags: ['common'] })).toEqual(rare)
  expect(await find({ types: ['rare'], tags: ['common'] }, 2, 500)).toEqual([1_499, 2_498])
  expect(await find({ tags: ['common'] })).toEqual(range(1, 4_996))
  expect(await find({ tags: ['common', 'seldom'] })).toEqual([4_996])
  expect(await find({}, 3_000, 100)).toEqual(range(101, 3_100))
  const page = await store.readPage({ query: { items: [{ types: ['none'] }] } })
  expect([page.events, page.next, page.head]).toEqual([[], 4_996, 4_996])
})

test('a condition about a log longer than one call looks at holds or is broken all the same', async () => {
  const { store } = open()
  for (let i = 0; i < 4; i++)
    await store.append(
      's',
      range(1, 900).map(() => e('x', 0, ['t'])),
    )
  const unless = (item: object, after = 0) => ({ unless: { query: { items: [item] }, after } })
  await store.append('s', [e('y', 0, ['u'])], unless({ types: ['y'] }))
  await store.append('s', [e('y', 0, ['u'])], unless({ types: ['y'], tags: ['t'] }))
  await expect(store.append('s', [e('z')], unless({ types: ['y'] }))).rejects.toMatchObject({
    code: 'VERSION_CONFLICT',
    actual: 3_602,
    missed: [{ position: 3_601 }, { position: 3_602 }],
  })
  const error = await store.append('s', [e('z')], unless({ tags: ['t'] }, 100)).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ expected: 100, actual: 3_600 })
  expect((error as { missed: Recorded[] }).missed.map((x) => x.position)).toEqual(range(101, 1_100))
  const claims = await Promise.allSettled(
    range(1, 10).map((i) => store.append(`c${i}`, [e('claim')], unless({ types: ['claim'] }))),
  )
  expect(claims.filter((claim) => claim.status === 'fulfilled')).toHaveLength(1)
})

test('recordedAt does not go back in a stream when the server’s clock does', async () => {
  const { store, namespace } = open()
  await store.append('s', [e('a')])
  const later = Date.now() + 60_000
  const text = (await redis.hget(`${namespace}h`, ':s'))!
  await redis.hset(`${namespace}h`, ':s', text.replace(/\d+$/, String(later)))
  const [event] = (await store.append('s', [e('b')])).events
  expect(event?.recordedAt.getTime()).toBe(later)
  expect((await all(store.read('s'))).at(-1)).toEqual(event)
})

test('what is removed leaves nothing behind but the stream’s versions, also when it was cut short', async () => {
  let failing = false
  const { store, namespace } = open(
    {},
    clientThat(async (send) => {
      if (failing) throw new Error('connection lost')
      return send()
    }),
  )
  for (let i = 0; i < 3; i++)
    await store.append(
      's',
      range(1, 400).map((n) => e('a', n, ['t', `u${n % 3}`])),
    )
  await store.append('o', [e('o', 0, ['t'])])
  const sizes = async () => [
    await redis.llen(`${namespace}s:s`),
    await redis.xlen(`${namespace}log`),
    await redis.zcard(`${namespace}t:t`),
  ]
  await store.truncate('s', 401)
  expect(await sizes()).toEqual([800, 3, 801])
  // What hides the events is made, what removes them is not.
  const removing = store.tombstone('s')
  failing = true
  await expect(removing).rejects.toMatchObject({ code: 'STORE_FAILED' })
  failing = false
  expect(await sizes()).toEqual([800, 3, 801])
  expect((await all(store.readAll())).map((x) => x.type)).toEqual(['o'])
  expect((await all(store.readAll({ query: { items: [{ tags: ['t'] }] } }))).map((x) => x.type)).toEqual(['o'])
  await store.append('p', [e('p')], { unless: { query: { items: [{ tags: ['u1'] }] } } })
  await store.tombstone('s')
  expect(await sizes()).toEqual([0, 2, 1])
  expect((await redis.keys(`${namespace}*`)).filter((key) => /[tu]\d|s:s/.test(key.slice(namespace.length)))).toEqual(
    [],
  )
  expect(await store.append('q', [e('q')])).toMatchObject({ position: 1_203 })
})

test('events with more tags than one call can name are removed', async () => {
  const { store } = open()
  const tags = Array.from({ length: 2_000 }, (_, i) => `t${i}`)
  for (let i = 0; i < 3; i++)
    await store.append(
      's',
      Array.from({ length: 25 }, () => ({ ...e('a'), tags })),
    )
  await store.truncate('s', 76)
  expect((await store.readPage({ query: { items: [{ tags: ['t0', 't1'] }] } })).events).toEqual([])
})

test('results of idempotency keys are kept for ever, or as long as is said', async () => {
  const { store, namespace } = open()
  const short = new RedisEventStore(redis, { namespace, idempotencyMs: 50 })
  await store.append('s', [e('a')], { idempotencyKey: 'k' })
  await short.append('s', [e('a')], { idempotencyKey: 'l' })
  expect(await redis.pttl(`${namespace}k:k`)).toBe(-1)
  expect((await short.append('s', [e('a')], { idempotencyKey: 'l' })).duplicate).toBe(true)
  await systemClock.sleep(60)
  expect(await short.recall('l')).toBeUndefined()
  expect(await store.recall('k')).toHaveLength(1)
})

test('a subscription hears of the appends of another store at once, and is not asked twice about one', async () => {
  const { namespace, store: writer } = open()
  const subscriber = redis.duplicate()
  onTestFinished(() => subscriber.disconnect())
  const store = new RedisEventStore(redis, { namespace, subscriber })
  const seen: unknown[] = []
  await using subscription = subscribe(
    store,
    new RedisCheckpoints(redis, { namespace }),
    'n',
    (x) => void seen.push(x.data),
    {
      pollMs: 60_000,
    },
  )
  for (let i = 0; i < 100 && seen.length === 0; i++) {
    await writer.append('s', [e('a', 0)]) // the first may be before the subscription
    await systemClock.sleep(20)
  }
  const { position } = await writer.append('s', [e('a', 1)])
  await subscription.reached(position, 5_000)
  let woken = 0
  store.wake(() => woken++)
  await store.append('s', [e('a', 2)])
  await systemClock.sleep(50) // the message of it
  expect(woken).toBe(1)
  expect(seen.at(-2)).toBe(1)
  await store.close()
  await writer.append('s', [e('a', 3)])
  await systemClock.sleep(50)
  expect(woken).toBe(1)
})

test('closing does not wait for a subscriber that has no connection', async () => {
  const subscriber = new Redis(1, { maxRetriesPerRequest: null, retryStrategy: () => 600_000 }) // nobody listens there
  subscriber.on('error', () => {})
  onTestFinished(() => subscriber.disconnect())
  const { store } = open({ subscriber })
  let woken = 0
  store.wake(() => woken++)
  await store.append('s', [e('a')])
  expect(woken).toBe(1)
  await store.close()
})

test('data that can’t be decoded is named', async () => {
  const { store, namespace } = open()
  await store.append('s', [e('a'), e('b')])
  await redis.lset(`${namespace}s:s`, 1, '2 2 5 ["b","id",{"$holdfast":["Date","no"]}]')
  const corrupt = { code: 'CORRUPT_DATA', message: expect.stringMatching(/^event 2 of stream "s": /) as string }
  await expect(all(store.read('s'))).rejects.toMatchObject(corrupt)
  await expect(store.readPage()).rejects.toMatchObject(corrupt)
})

test('who may not publish may append', async () => {
  const { namespace } = open()
  const user = `u${randomUUID()}`
  await redis.call('ACL', 'SETUSER', user, 'on', '>pw', '~*', 'resetchannels', '+@all')
  const client = redis.duplicate({ username: user, password: 'pw' })
  onTestFinished(async () => {
    client.disconnect()
    await redis.call('ACL', 'DELUSER', user)
  })
  const store = new RedisEventStore(client, { namespace })
  expect(await store.append('s', [e('a')])).toMatchObject({ version: 1 })
  expect(await all(store.read('s'))).toHaveLength(1)
})

test('a mistake in an option is found at construction and named', () => {
  expect(() => new RedisEventStore(null as never)).toThrow(/^client: /)
  const prefixed = redis.duplicate({ keyPrefix: 'app:', lazyConnect: true })
  expect(() => new RedisEventStore(prefixed)).toThrow(/^client: expected one without keyPrefix/)
  expect(() => new RedisEventStore(redis, { namespace: 1 as never })).toThrow(/^namespace: /)
  expect(() => new RedisEventStore(redis, { idempotencyMs: 0 })).toThrow(/^idempotencyMs: /)
  expect(() => new RedisEventStore(redis, { subscriber: 'x' as never })).toThrow(/^subscriber: /)
  expect(() => new RedisCheckpoints('x' as never)).toThrow(/^client: /)
  expect(() => new RedisSnapshots(redis, { ttlMs: -1 })).toThrow(/^ttlMs: /)
})

// ---------- what went wrong elsewhere

test('B2: a stream that must not exist, and does, is refused; so is one that must, and does not', async () => {
  const { store } = open()
  await store.append('there', [e('Created')])
  const conflict = { code: 'VERSION_CONFLICT' }
  await expect(store.append('there', [e('Created')], { expectedVersion: 'no-stream' })).rejects.toMatchObject(conflict)
  await expect(store.append('missing', [e('Changed')], { expectedVersion: 'exists' })).rejects.toMatchObject(conflict)
  expect(await all(store.readAll())).toHaveLength(1)
})

test('B3: of two commands that create, the second a little later, one creates', async () => {
  const { store, namespace } = open()
  const client = redis.duplicate()
  onTestFinished(() => client.disconnect())
  const other = new RedisEventStore(client, { namespace })
  const account: Decider<string, Event<'Created', string>, boolean> = {
    initial: () => false,
    decide: (by, exists) => {
      if (exists) throw new Error('exists')
      return { type: 'Created', data: by }
    },
    evolve: () => true,
  }
  const [one, two] = [store, other].map((s) => new Repository(s as never, account, { category: 'account' }))
  const outcomes = await Promise.all(
    range(1, 100).map(async (i) => {
      const tries = [one!.handle(`${i}`, 'one'), systemClock.sleep(i % 6).then(() => two!.handle(`${i}`, 'two'))]
      return (await Promise.allSettled(tries)).filter(({ status }) => status === 'fulfilled').length
    }),
  )
  expect(new Set(outcomes)).toEqual(new Set([1]))
  expect(await all(store.readAll())).toHaveLength(100)
})

test('B4: sixteen writers that do not care about the version all succeed', async () => {
  const { namespace } = open()
  const stores = range(1, 16).map(() => new RedisEventStore(redis, { namespace }))
  await Promise.all(
    stores.map(async (store) => {
      for (let i = 0; i < 25; i++) await store.append('s', [e('a')], { expectedVersion: 'any' })
    }),
  )
  expect((await all(stores[0]!.read('s'))).map((x) => x.version)).toEqual(range(1, 400))
})

test('B11: versions have no gaps and are not rewritten, and stores of two namespaces share nothing', async () => {
  const { store } = open()
  await expect(store.append('s', [e('a')], { expectedVersion: 4 })).rejects.toMatchObject({ actual: 0 })
  await store.append('s', [e('a')], { expectedVersion: 0 })
  await expect(store.append('s', [e('a')], { expectedVersion: 0 })).rejects.toMatchObject({ actual: 1 })
  const { store: other } = open()
  expect([await other.info('s'), (await other.readPage()).head]).toEqual([undefined, 0])
})

// ---------- snapshots

test('snapshots: the newest of a revision up to a version, until the stream is dropped', async () => {
  const { namespace } = open()
  const snapshots = new RedisSnapshots(redis, { namespace })
  const state = { at: new Date(0), big: 1n, text: '\ud800\u0000' }
  for (const version of [9, 10, 100, 2]) await snapshots.put('s\ud800', 1, version, { ...state, version })
  await snapshots.put('s\ud800', 10, 5, 'ten')
  await snapshots.put('s\ud800', 0, 7, null)
  expect(await snapshots.get('s\ud800', 1)).toEqual({ version: 100, state: { ...state, version: 100 } })
  expect(await snapshots.get('s\ud800', 1, 99)).toEqual({ version: 10, state: { ...state, version: 10 } })
  expect((await snapshots.get('s\ud800', 1, 9))?.version).toBe(9)
  expect(await snapshots.get('s\ud800', 1, 1)).toBeUndefined()
  expect(await snapshots.get('s\ud800', 2)).toBeUndefined()
  expect(await snapshots.get('s\ud800', 10)).toEqual({ version: 5, state: 'ten' })
  expect(await snapshots.get('s\ud800', 0)).toEqual({ version: 7, state: null })
  expect(await snapshots.get('s\ud801', 1)).toBeUndefined()
  await snapshots.put('s\ud800', 1, 100, 'newer')
  expect((await snapshots.get('s\ud800', 1))?.state).toBe('newer')
  await snapshots.drop('s\ud800')
  expect(await snapshots.get('s\ud800', 1)).toBeUndefined()
  expect(await redis.keys(`${namespace}*`)).toEqual([])
  await expect(snapshots.put('s', 1, 1, () => 1)).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
})

test('snapshots go when their time is up, and one that is half evicted is none', async () => {
  const { namespace } = open()
  const snapshots = new RedisSnapshots(redis, { namespace, ttlMs: 60_000 })
  await snapshots.put('s', 1, 1, 'x')
  for (const key of await redis.keys(`${namespace}*`)) {
    expect(await redis.pttl(key)).toBeGreaterThan(50_000)
    await snapshots.put('s', 1, 1, 'x')
    await redis.del(key)
    expect(await snapshots.get('s', 1)).toBeUndefined()
  }
})
