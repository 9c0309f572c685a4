import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import {
  MemoryTokenBucketStore,
  perDay,
  perMinute,
  perSecond,
  RateLimiter,
  type Limit,
  type Taken,
} from '../../src/rate-limit/index.js'
import { RedisTokenBucketStore } from '../../src/rate-limit/redis.js'
import { ManualClock } from '../../src/testing/index.js'
import { tokenBucketStoreContract } from '../conformance/token-bucket-store.js'
import { fc, prop } from '../support/prop.js'
import { ownRedis } from '../support/redis.js'

const redisUrl = await ownRedis()

const slow: Limit = { name: 'slow', capacity: 10, refillPerSecond: 1e-6 }

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

let redis: Redis

beforeAll(() => {
  redis = new Redis(redisUrl)
})

afterAll(() => redis.quit())

/** A client with default options. What it reports while its server is away is no news. */
function connect(url: string): Redis {
  const client = new Redis(url)
  client.on('error', () => {})
  onTestFinished(() => client.disconnect())
  return client
}

/** A store with keys of its own on the shared server; counts the script calls that go out. */
function open(client: Redis = redis) {
  const prefix = `${randomUUID()}*[?]:`
  let sent = 0
  const counting = {
    call: (command: string, ...args: (string | number | Buffer)[]) => (sent++, client.call(command, ...args)),
  }
  const store = new RedisTokenBucketStore(counting, { prefix })
  const keys = async (): Promise<string[]> =>
    (await redis.keys(`${prefix.replaceAll(/[*[\]?]/g, '\\$&')}*`)).filter((key) => !key.includes('}!'))
  return { prefix, store, keys, sent: () => sent }
}

tokenBucketStoreContract('RedisTokenBucketStore', async () => {
  const { store, prefix } = open()
  const other = new RedisTokenBucketStore(redis, { prefix })
  return { store, other, advance: sleep, close: async () => {} }
})

tokenBucketStoreContract(
  'RedisTokenBucketStore with leases',
  async () => {
    const { prefix } = open()
    const lease = { tokens: 4, ttlMs: 10_000 }
    const [store, other] = [1, 2].map(() => new RedisTokenBucketStore(redis, { prefix, lease }))
    return { store: store!, other: other!, advance: sleep, close: () => store!.close() }
  },
  {
    'reset fills the buckets of a key under the limits named, and no others':
      'what is known of a key under another list of limits stays known until it is too old',
    'many keys at the same time do not disturb each other':
      'limits in another order are another list, with leases of its own',
  },
)

tokenBucketStoreContract('RedisTokenBucketStore, its prefix a hash tag, connections of its own', async () => {
  const prefix = `{${randomUUID()}}`
  const clients = [connect(redisUrl), connect(redisUrl)]
  const [store, other] = clients.map((client) => new RedisTokenBucketStore(client, { prefix }))
  return { store: store!, other: other!, advance: sleep, close: async () => {} }
})

describe('the script', () => {
  const step = fc.record({
    op: fc.constantFrom('take', 'take', 'take', 'adjust', 'reset'),
    key: fc.constantFrom('a', 'b', 'c'),
    n: fc.oneof(
      { weight: 9, arbitrary: fc.integer({ min: 0, max: 12 }) },
      fc.constantFrom(1_000, Number.MAX_SAFE_INTEGER),
    ),
    sign: fc.constantFrom(1, -1),
    which: fc.subarray([0, 1, 2], { minLength: 1 }),
    // As long as some tokens take, give or take a µs, so that both sides of every border are met.
    tokens: fc.oneof(fc.constantFrom(0, 1, 2), fc.integer({ min: 0, max: 40 })),
    offBy: fc.constantFrom(-1, 0, 0, 1),
  })
  const rate = fc.oneof(
    fc.constantFrom(1, 10, 1e6, 100 / 60, 1 / 86_400, 700_000, 3, 7, 17.3),
    fc.double({ min: 1e-6, max: 1e6, noNaN: true }),
  )
  const limits = fc.array(fc.tuple(fc.integer({ min: 1, max: 30 }), rate), { minLength: 3, maxLength: 3 })

  prop(
    'does the arithmetic of the memory store to the last bit, one call at a time or all in one',
    [limits, fc.array(step, { minLength: 1, maxLength: 40 }), fc.integer({ min: 0, max: 1.8e15 }), fc.boolean()],
    async (shapes, steps, start, together) => {
      const timeKey = `${randomUUID()}:time`
      let micros = start
      /** The script as it is, but that time is what the test says, and that keys outlive it. */
      const standing = (lua: string): string => {
        const time = `redis.call('LRANGE', '${timeKey}', 0, 1)`
        const changed = lua.replace("redis.call('TIME')", time).replace("string.format('%.0f', ttlMs)", "'600000'")
        expect(changed).toContain(time)
        expect(changed).toContain("'600000'")
        return changed
      }
      const client = {
        async call(command: string, lua: string | number | Buffer, ...rest: (string | number | Buffer)[]) {
          if (command === 'evalsha') throw new Error('NOSCRIPT')
          return redis
            .multi([
              ['del', timeKey],
              ['rpush', timeKey, Math.floor(micros / 1e6), micros % 1e6],
              ['eval', standing(String(lua)), ...rest],
              ['del', timeKey],
            ])
            .exec()
            .then((replies) => {
              const [error, reply] = replies![2]!
              if (error) throw error
              return reply
            })
        },
      }
      const store = new RedisTokenBucketStore(client, { prefix: randomUUID() })
      const clock = Object.assign(new ManualClock(), { now: () => micros / 1e3 })
      const memory = new MemoryTokenBucketStore({ clock })
      const all = shapes.map(([capacity, refillPerSecond], i): Limit => ({ name: `l${i}`, capacity, refillPerSecond }))
      const lists = new Map<string, Limit[]>()
      const results: [memory: unknown, redis: Promise<unknown>][] = []
      for (const { op, key, n, sign, which, tokens, offBy } of steps) {
        const list = lists.get(which.join()) ?? which.map((i) => all[i]!)
        lists.set(which.join(), list)
        if (!together) micros += Math.max(0, Math.round((tokens * 1e6) / list[0]!.refillPerSecond) + offBy)
        const on = async (s: typeof store | typeof memory): Promise<unknown> => {
          if (op === 'take') return s.take(key, n, list)
          return op === 'adjust' ? s.adjust(key, n * sign, list) : s.reset(key, list)
        }
        const pair: [unknown, Promise<unknown>] = [await on(memory), on(store)]
        if (!together) await pair[1]
        results.push(pair)
      }
      for (const [expected, actual] of results) expect(await actual).toEqual(expected)
    },
    { numRuns: 80 },
  )

  test('reads a token of a second limit from the state that a first left', async () => {
    const { store, prefix } = open()
    const limit = perSecond(7, { name: 'odd' }) // a token is no whole number of µs
    await store.take('a', 7, [limit])
    const [seconds, micros] = await redis.time()
    const ticksPerMicro = (142_857 * 7) / 1e6
    const fullAt = Number(await redis.get(`${prefix}{:a}7:odd`))
    const backlog = fullAt - Math.floor((Number(seconds) * 1e6 + Number(micros)) * ticksPerMicro)
    expect(Number.isSafeInteger(fullAt)).toBe(true)
    expect(backlog).toBeLessThanOrEqual(7 * 142_857)
    expect(backlog).toBeGreaterThan(0)
  })
})

describe('keys', () => {
  prop(
    'always have a TTL, of no more than the time to full and a second',
    [
      fc.array(
        fc.record({
          op: fc.constantFrom('take', 'take', 'adjust', 'reset'),
          key: fc.constantFrom('a', '}', ''),
          n: fc.integer({ min: -9, max: 9 }),
          limit: fc.constantFrom(perSecond(3), perSecond(9_000, { burst: 3 }), perDay(5), perMinute(7)),
        }),
        { maxLength: 40 },
      ),
    ],
    async (steps) => {
      const { store, keys } = open()
      const used = new Set<Limit>()
      for (const { op, key, n, limit } of steps) {
        used.add(limit)
        if (op === 'take') await store.take(key, Math.abs(n), [limit])
        else if (op === 'adjust') await store.adjust(key, n, [limit])
        else await store.reset(key, [limit])
      }
      for (const name of await keys()) {
        const ttl = await redis.pttl(name)
        if (ttl === -2) continue // gone since
        const limit = [...used].find((l) => name.endsWith(`}${l.refillPerSecond}:${l.name}`))!
        const key = name.slice(name.indexOf('{:') + 2, name.indexOf('}')).replace('%007d', '}')
        const { resetMs } = (await store.take(key, 0, [limit])).buckets[0]!
        expect(ttl).toBeGreaterThanOrEqual(0) // -1 would be for ever
        expect(ttl).toBeLessThanOrEqual(resetMs + 1_000)
      }
    },
    { numRuns: 40 },
  )

  test('are gone when the bucket is full: by time, by refund, by reset', async () => {
    const { store, keys } = open()
    await store.take('time', 1, [perSecond(1)])
    await store.take('refund', 1, [slow])
    await store.take('reset', 1, [slow, perDay(5)])
    expect(await keys()).toHaveLength(4)
    await store.adjust('refund', 1, [slow])
    await store.reset('reset', [slow, perDay(5)])
    await expect.poll(keys).toEqual([])
  })

  test('of refused calls, peeks and refunds of full buckets are never made', async () => {
    const { store, keys } = open()
    await store.take('a', 11, [slow])
    await store.take('a', 0, [slow])
    await store.adjust('a', 3, [slow])
    await store.reset('a', [slow])
    expect(await keys()).toEqual([])
  })

  test('that hold something else do not stop the limiter', async () => {
    const { store, prefix } = open()
    await redis.set(`${prefix}{:a}${slow.refillPerSecond}:slow`, 'nonsense', 'PX', 60_000)
    expect((await store.take('a', 10, [slow])).allowed).toBe(true)
    expect((await store.take('a', 1, [slow])).allowed).toBe(false)
  })
})

describe('script calls', () => {
  test('all calls of one tick go in one', async () => {
    const { store, sent } = open()
    const limiter = new RateLimiter({ limits: [slow, perDay(50)], store, storeTimeoutMs: 5_000 })
    await store.take('warm', 1, [slow])
    const before = sent()
    await Promise.all(
      Array.from({ length: 60 }, (_, i) => limiter[(['penalize', 'refund', 'consume'] as const)[i % 3]!](`k${i}`)),
    )
    expect(sent() - before).toBe(1)
    const calls = Array.from({ length: 200 }, async (_, i) => {
      for (let later = i % 5; later > 0; later--) await Promise.resolve()
      return limiter.consume(`k${i % 20}`)
    })
    expect((await Promise.all(calls)).every((d) => !d.storeFailed)).toBe(true)
    expect(sent() - before).toBe(2)
  })

  test('a single call goes out before any timer or input', async () => {
    const { store, sent } = open()
    const answer = store.take('a', 1, [slow])
    await new Promise(setImmediate)
    expect(sent()).toBe(1)
    await answer
  })

  test('hold at most a thousand buckets, and each caller gets its own answer', async () => {
    const { store, sent } = open()
    await store.take('warm', 1, [slow])
    const before = sent()
    const all = await Promise.all(
      Array.from({ length: 2_500 }, async (_, i) => store.take(`k${i}`, 1 + (i % 10), [slow])),
    )
    expect(all.map((t) => t.buckets[0]!.remaining)).toEqual(Array.from({ length: 2_500 }, (_, i) => 9 - (i % 10)))
    expect(sent() - before).toBe(3)
  })

  test('a script that the server has lost is sent again, and counts once', async () => {
    const { store } = open()
    for (let i = 0; i < 5; i++) {
      await redis.script('FLUSH')
      const two = await Promise.all([store.take('a', 1, [slow]), store.take('a', 1, [slow])])
      expect(two.map((t) => t.buckets[0]!.remaining)).toEqual([9 - 2 * i, 8 - 2 * i])
    }
  })

  test('a client that gives numbers as strings is understood', async () => {
    const { prefix, store } = open()
    const client = new Redis(redisUrl, { stringNumbers: true })
    onTestFinished(() => client.disconnect())
    const strings = new RedisTokenBucketStore(client, { prefix })
    const limits = [slow, { ...slow, name: 'small', capacity: 2 }]
    for (const cost of [1, 0, 1, 2]) {
      const like = ({ allowed, buckets }: Taken) => ({
        allowed,
        buckets: buckets.map(({ remaining, retryAfterMs, resetMs }) => ({
          remaining,
          retryAfter: Math.ceil(retryAfterMs / 1e7), // so roughly that it does not matter when
          reset: Math.ceil(resetMs / 1e7),
        })),
      })
      expect(like(await strings.take('a', cost, limits))).toEqual(like(await store.take('b', cost, limits)))
    }
  })

  test('an error of the server reaches every caller of the call as a StoreError', async () => {
    const client = { call: () => Promise.reject(new Error('OOM command not allowed')) }
    const store = new RedisTokenBucketStore(client)
    const all = await Promise.allSettled([
      store.take('a', 1, [slow]),
      store.adjust('a', 1, [slow]),
      store.reset('a', [slow]),
    ])
    for (const result of all)
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'STORE_FAILED', cause: { message: /OOM/ } } })
  })
})
