import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { expect, onTestFinished, test } from 'vitest'
import { CacheManager } from '../../src/cache/index.js'
import { RedisCacheBackplane, RedisCacheStore, type RedisSubscriber } from '../../src/cache/redis.js'
import { cacheLua } from '../../src/cache/redis.lua.js'
import { systemClock } from '../../src/kernel/clock.js'
import { ManualClock } from '../../src/testing/index.js'
import { cacheStoreContract } from '../conformance/cache-store.js'
import { until } from '../support/until.js'
import { redisClients } from '../support/redis.js'

const { redis, nodeRedis, nodeSubscriber } = redisClients()

for (const [name, client] of [
  ['ioredis', redis],
  ['node-redis', nodeRedis],
] as const) {
  cacheStoreContract(`RedisCacheStore, ${name}`, async () => ({
    store: new RedisCacheStore(client, { prefix: `${randomUUID()}:` }),
    advance: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
    epochMs: () => systemClock.epochMs(),
    close: async () => {},
  }))
}

test.each([
  ['ioredis', () => redis.duplicate()],
  ['node-redis', () => nodeSubscriber],
] as const)('%s: a backplane hears each change, its own prefix only, until it is disposed of', async (_, connect) => {
  const prefix = `${randomUUID()}:`
  const subscriber: RedisSubscriber = connect()
  if (subscriber instanceof Redis) onTestFinished(() => subscriber.disconnect())
  const backplane = new RedisCacheBackplane(subscriber, { prefix })
  const heard: unknown[] = []
  const alsoHeard: unknown[] = []
  await backplane.subscribe((...message) => heard.push(message))
  await backplane.subscribe((...message) => alsoHeard.push(message))
  const store = new RedisCacheStore(redis, { prefix })
  const { epoch, seq } = await store.state([])
  await new RedisCacheStore(redis, { prefix: `${prefix}2` }).invalidate({ kind: 'all' }, 'other')
  await redis.publish(`{${prefix}:}changes`, 'nonsense\n12 {\n{}')
  await Promise.all([
    store.invalidate({ kind: 'keys', keys: ['a\n', '\ud800'], soft: true }, 'me'),
    store.invalidate({ kind: 'tags', tags: ['t'] }, 'you'),
  ])
  await store.invalidate({ kind: 'all' }, 'me')
  await until(() => heard.length === 3)
  expect(heard).toEqual([
    [seq + 1, { kind: 'keys', keys: ['a\n', '\ud800'], soft: true }, 'me', epoch],
    [seq + 2, { kind: 'tags', tags: ['t'] }, 'you', epoch],
    [seq + 3, { kind: 'all' }, 'me', epoch],
  ])
  expect(alsoHeard).toEqual(heard)
  await backplane[Symbol.asyncDispose]()
  await store.invalidate({ kind: 'all' }, 'me')
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(heard).toHaveLength(3)
})

test('all calls of a tick but reads are one command, and reads are one', async () => {
  const commands: string[] = []
  const counting = {
    call: (command: string, ...args: (string | number | Buffer)[]) => {
      commands.push(command)
      return redis.call(command, ...args)
    },
  }
  const cache = new CacheManager<Record<string, number>>({
    l1: false,
    l2: new RedisCacheStore(counting, { prefix: `${randomUUID()}:` }),
    l2TimeoutMs: 5_000,
    maxStalenessMs: 60_000,
  })
  onTestFinished(() => cache.close())
  await cache.set('warm', 1)
  await cache.get('warm')
  const keys = Array.from({ length: 100 }, (_, i) => `k${i}`)
  commands.length = 0
  await Promise.all(keys.map((key) => cache.set(key, 1)))
  expect(commands).toEqual(['evalsha'])
  commands.length = 0
  expect((await cache.getMany(keys)).size).toBe(100)
  expect(commands).toEqual(['mget'])
  commands.length = 0
  await Promise.all(keys.map((key) => cache.getOrSet(`new ${key}`, () => 1)))
  expect(commands).toEqual(['mget', 'evalsha', 'evalsha']) // is it there, may I load, and here it is
})

test('a clock that is a day off changes nothing: times are the server’s', async () => {
  const prefix = `${randomUUID()}:`
  const early = new ManualClock({ epochMs: Date.now() - 86_400_000 })
  const late = new ManualClock({ epochMs: Date.now() + 86_400_000 })
  const [one, two] = [early, late].map((clock) => new RedisCacheStore(redis, { prefix, clock }))
  const entry = {
    payload: 'v',
    stamp: 0,
    freshUntil: early.epochMs() + 10_000,
    storedAt: early.epochMs() - 500,
    tags: [],
  }
  await one!.write([{ key: 'k', entry, ms: 60_000 }], 'me')
  const { entries } = await two!.read(['k'])
  expect(Math.abs(entries[0]!.freshUntil - late.epochMs() - 10_000)).toBeLessThan(60_000)
  expect(Math.abs(late.epochMs() - entries[0]!.storedAt - 500)).toBeLessThan(60_000)
  expect((await two!.lease('k', 1_000)).kind).toBe('hit')
})

test('what is no entry of ours counts as none, and is replaced', async () => {
  const prefix = `${randomUUID()}:`
  const store = new RedisCacheStore(redis, { prefix })
  await store.state([])
  for (const junk of ['', 'x', '{"a":1}', '9'.repeat(48), `${'9'.repeat(48)}1`, `${'x'.repeat(48)}0\nv`]) {
    await redis.set(`{${prefix}:}e:k`, junk)
    expect((await store.read(['k'])).entries).toEqual([undefined])
    const lease = await store.lease('k', 1_000)
    expect(lease.kind).toBe('granted')
    if (lease.kind === 'granted') await store.fill('k', lease.token, undefined, 0)
  }
  await redis.del(`{${prefix}:}e:k`)
  for (const kind of ['e', 'l']) await redis.hset(`{${prefix}:}${kind}:k`, 'field', 'of another type')
  expect((await store.read(['k'])).entries).toEqual([undefined])
  await store.invalidate({ kind: 'keys', keys: ['k'], soft: true }, 'me')
  const lease = await store.lease('k', 1_000)
  if (lease.kind !== 'granted') throw new Error(lease.kind)
  const entry = { ...entryOf('v'), stamp: lease.seq }
  expect(await store.fill('k', lease.token, entry, 60_000)).toBe(true)
})

test('tags are forgotten when every entry that may carry them is past', async () => {
  const prefix = `${randomUUID()}:`
  const store = new RedisCacheStore(redis, { prefix })
  const now = systemClock.epochMs()
  const entry = { payload: 'v', stamp: 0, freshUntil: now + 100, storedAt: now, tags: ['t'] }
  for (let round = 0; round < 4; round++) {
    const tags = Array.from({ length: 10 }, (_, i) => `${round} ${i}`)
    await Promise.all([
      store.write([{ key: 'k', entry, ms: 100 }], 'me'),
      ...tags.map((tag) => store.invalidate({ kind: 'tags', tags: [tag] }, 'me')),
    ]) // of one tick, and so at one time
    await new Promise((resolve) => setTimeout(resolve, 150))
  }
  const kept = (await redis.hlen(`{${prefix}:}t0`)) + (await redis.hlen(`{${prefix}:}t1`)) - 2
  expect(kept).toBeLessThanOrEqual(20)
  expect(kept).toBeGreaterThanOrEqual(10)
})

test('a tag is not forgotten before what carries it, though the server’s clock is put back', async () => {
  const prefix = `${randomUUID()}:`
  let aheadMs = 60_000
  const withClock = {
    call: (command: string, ...args: (string | number | Buffer)[]) => {
      if (command !== 'evalsha') return redis.call(command, ...args)
      const lua = cacheLua.replace('time[1] * 1000 + math.floor(time[2] / 1000)', (now) => `${now} + ${aheadMs}`)
      return redis.call('eval', lua, ...args.slice(1))
    },
  }
  const store = new RedisCacheStore(withClock, { prefix })
  const entry = { ...entryOf('old'), tags: ['t'] }
  await store.write([{ key: 'k', entry, ms: 50 }], 'me')
  await redis.pexpire(`{${prefix}:}e:k`, 60_050) // as it is for a server that puts its clock back now
  aheadMs = 0
  await store.invalidate({ kind: 'tags', tags: ['t'] }, 'me')
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setTimeout(resolve, 70))
    await store.invalidate({ kind: 'tags', tags: [`other ${i}`] }, 'me')
  }
  expect((await store.read(['k'])).entries).toEqual([undefined])
})

test('a request for a lease that is sent again is granted all the same', async () => {
  const twice = new RedisCacheStore(
    troubled(
      () => 0,
      () => 2,
    ),
    { prefix: `${randomUUID()}:` },
  )
  const lease = await twice.lease('k', 30_000)
  expect(lease.kind).toBe('granted')
  expect((await twice.lease('k', 30_000)).kind).toBe('busy')
  if (lease.kind === 'granted') await twice.fill('k', lease.token, undefined, 0)
  expect((await twice.lease('k', 30_000)).kind).toBe('granted')
})

test('times of any size and fraction are no error', async () => {
  const cache = new CacheManager({ l2: new RedisCacheStore(redis, { prefix: `${randomUUID()}:` }), l2TimeoutMs: 5_000 })
  onTestFinished(() => cache.close())
  const errors: unknown[] = []
  cache.on('l2Error', ({ error }) => errors.push(error))
  const most = Number.MAX_SAFE_INTEGER
  for (const [i, options] of [
    { ttlMs: 1_000, graceMs: 1_000 / 3 },
    { ttlMs: 1_000 / 3 },
    { ttlMs: 1e-9, graceMs: 1e-9 },
    { ttlMs: most, graceMs: most, tags: ['t'] },
  ].entries()) {
    await cache.getOrSet(`loaded ${i}`, () => 1, options)
    await cache.set(`set ${i}`, 1, options)
  }
  await cache.invalidateTags('t')
  expect(errors).toEqual([])
})

/** A client whose script calls arrive `ms` late, and so often. */
const troubled = (ms: () => number, times: () => number) => ({
  async call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown> {
    if (command !== 'evalsha') return redis.call(command, ...args)
    await new Promise((resolve) => setTimeout(resolve, ms()))
    let answer: unknown
    for (let i = 0; i < times(); i++) answer = await redis.call(command, ...args)
    return answer
  },
})

const entryOf = (payload: string) => {
  const now = systemClock.epochMs()
  return { payload, stamp: 0, freshUntil: now + 60_000, storedAt: now, tags: [] }
}

test('a write that comes late is not made: its caller has given up, and others may have written', async () => {
  const prefix = `${randomUUID()}:`
  let lateMs = 0
  const late = new RedisCacheStore(
    troubled(
      () => lateMs,
      () => 1,
    ),
    { prefix },
  )
  const other = new RedisCacheStore(redis, { prefix })
  await late.write([{ key: 'k', entry: entryOf('first'), ms: 60_000 }], 'me', 10_000)
  lateMs = 300
  const given = late.write([{ key: 'k', entry: entryOf('late'), ms: 60_000 }], 'me', 100)
  await other.write([{ key: 'k', entry: entryOf('newer'), ms: 60_000 }], 'other', 10_000)
  await expect(given).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect((await other.read(['k'])).entries[0]?.payload).toBe('newer')
})

test('a write that is sent again is made once: what others wrote in between stays', async () => {
  const prefix = `${randomUUID()}:`
  let arrivals = 0
  const other = new RedisCacheStore(redis, { prefix })
  const again = {
    async call(command: string, ...args: (string | number | Buffer)[]): Promise<unknown> {
      const answer = await redis.call(command, ...args)
      if (command !== 'evalsha' || ++arrivals < 2) return answer
      await other.write([{ key: 'k', entry: entryOf('newer'), ms: 60_000 }], 'other')
      return redis.call(command, ...args)
    },
  }
  const store = new RedisCacheStore(again, { prefix })
  const { seq } = await store.state([])
  await expect(store.write([{ key: 'k', entry: entryOf('v'), ms: 60_000 }], 'me')).rejects.toMatchObject({
    code: 'STORE_FAILED',
  })
  expect(await other.read(['k'])).toMatchObject({ seq: seq + 2, entries: [{ payload: 'newer' }] })
})
