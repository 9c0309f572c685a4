import { connect as connectTo, createServer, type AddressInfo, type Socket } from 'node:net'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { perSecond, RateLimiter, type Limit } from '../../src/rate-limit/index.js'
import { RedisTokenBucketStore } from '../../src/rate-limit/redis.js'
import { ManualClock } from '../../src/testing/index.js'

const slow: Limit = { name: 'slow', capacity: 10, refillPerSecond: 1e-6 }

let redis: Redis

beforeAll(() => {
  redis = new Redis(inject('redisUrl'))
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

describe('many processes', () => {
  test('never admit more than capacity + refill × time, and nearly that', { retry: 2 }, async () => {
    const { prefix } = open()
    const limit = perSecond(500, { burst: 20, name: 'many' })
    const clients = Array.from({ length: 6 }, () => connect(inject('redisUrl')))
    const stores = clients.map((client) => new RedisTokenBucketStore(client, { prefix }))
    await Promise.all(clients.map((client) => client.ping()))
    const admittedAt: number[] = []
    const serverMicros = async (): Promise<number> => {
      const [s, us] = await redis.time()
      return Number(s) * 1e6 + Number(us)
    }
    const began = await serverMicros()
    const end = performance.now() + 1_500
    let refused = 0
    await Promise.all(
      stores.flatMap((store) =>
        Array.from({ length: 8 }, async () => {
          while (performance.now() < end) {
            if ((await store.take('a', 1, [limit])).allowed) admittedAt.push(performance.now())
            else refused++
          }
        }),
      ),
    )
    const seconds = ((await serverMicros()) - began) / 1e6
    expect(refused).toBeGreaterThan(0)
    expect(admittedAt.length).toBeLessThanOrEqual(20 + 500 * seconds + 1)
    expect(admittedAt.length).toBeGreaterThan(300) // nearly all, where six clients get their share of the machine
  })

  test('a client whose clock is an hour off changes nothing for the others', async () => {
    const { store, prefix } = open()
    const off = Object.assign(new ManualClock(), { now: () => 1e9 })
    off.jumpEpoch(3_600_000)
    const limits = [slow]
    const other = new RateLimiter({
      limits,
      store: new RedisTokenBucketStore(redis, { prefix }),
      clock: off,
      storeTimeoutMs: 5_000,
    })
    for (let i = 0; i < 5; i++) expect((await other.consume('a')).remaining).toBe(9 - i)
    expect((await store.take('a', 1, limits)).buckets[0]!.remaining).toBe(4)
    expect((await store.take('a', 5, limits)).allowed).toBe(false)
  })
})

// Milliseconds are measured: on a machine with more to do than it can, another try may do.
describe('a server that is away', { retry: 2 }, () => {
  const decide = async (url: string, client = connect(url)): Promise<void> => {
    for (const [rule, allowed] of [
      ['allow', true],
      ['deny', false],
      [{ share: 2 }, true],
    ] as const) {
      const limiter = new RateLimiter({ limits: slow, store: new RedisTokenBucketStore(client), onStoreFailure: rule })
      const began = performance.now()
      const all = await Promise.all([limiter.consume('a'), limiter.consume('b'), limiter.peek('a')])
      expect(performance.now() - began).toBeLessThan(1_000)
      expect(all).toMatchObject(Array.from({ length: 3 }, () => ({ allowed, storeFailed: true })))
    }
  }

  test('nobody listens: decided in time with a default client', () => decide('redis://127.0.0.1:1'))

  test('a listener that never answers: decided in time with a default client', async () => {
    const sockets: Socket[] = []
    const hole = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1')
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
      hole.close()
    })
    await new Promise((resolve) => hole.once('listening', resolve))
    await decide(`redis://127.0.0.1:${(hole.address() as AddressInfo).port}`)
  })

  test('a server that is stopped, then goes on: decided in time, late answers ignored, and back to normal', async () => {
    const servers = new Servers()
    const { url, pid } = await servers.redis()
    onTestFinished(() => servers.stop())
    const client = connect(url)
    const unhandled: unknown[] = []
    const onUnhandled = (e: unknown): unknown => unhandled.push(e)
    process.on('unhandledRejection', onUnhandled)
    onTestFinished(() => void process.off('unhandledRejection', onUnhandled))
    const limiter = new RateLimiter({ limits: slow, store: new RedisTokenBucketStore(client), onStoreFailure: 'deny' })
    await client.ping()
    await limiter.consume('warm')
    process.kill(pid, 'SIGSTOP')
    try {
      await decide(url, client)
      expect(await limiter.consume('c')).toMatchObject({ allowed: false, storeFailed: true })
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    await client.ping()
    expect(await limiter.consume('c')).toMatchObject({ allowed: true, storeFailed: false })
    expect(unhandled).toEqual([])
  })

  test('a client that keeps what it can not send is not filled without end', async () => {
    const store = new RedisTokenBucketStore({ call: () => new Promise(() => {}) })
    for (let i = 0; i < 10_000; i++) Promise.resolve(store.take('a', 1, [slow])).catch(() => {})
    await expect(store.take('a', 1, [slow])).rejects.toMatchObject({ code: 'STORE_FAILED' })
  })

  test('a call that is sent again after its connection broke is not counted twice', async () => {
    const { port, hostname } = new URL(inject('redisUrl'))
    const { prefix } = open()
    let cutNext = false
    const proxy = createServer((from) => {
      const to = connectTo(Number(port), hostname)
      from.pipe(to)
      to.on('data', (data) => (cutNext ? ((cutNext = false), from.destroy(), to.destroy()) : from.write(data)))
      from.on('error', () => {}).on('close', () => to.destroy())
      to.on('error', () => {}).on('close', () => from.destroy())
    }).listen(0, '127.0.0.1')
    onTestFinished(() => void proxy.close())
    await new Promise((resolve) => proxy.once('listening', resolve))
    const client = connect(`redis://127.0.0.1:${(proxy.address() as AddressInfo).port}`)
    const store = new RedisTokenBucketStore(client, { prefix })
    const direct = new RedisTokenBucketStore(redis, { prefix })
    await store.take('warm', 1, [slow])
    cutNext = true
    await expect(store.take('a', 3, [slow])).rejects.toMatchObject({ code: 'STORE_FAILED', message: /answer was lost/ })
    expect((await direct.take('a', 0, [slow])).buckets[0]!.remaining).toBe(7)
    expect((await store.take('a', 1, [slow])).buckets[0]!.remaining).toBe(6)
  })
})
