import { fork, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import type { Message } from '../../src/messaging/index.js'
import { RedisEventBus, type RedisEventBusOptions } from '../../src/messaging/redis.js'
import { bundle } from '../support/bundle.js'
import { Proxy } from '../support/proxy.js'
import type { Job } from './redis-worker.js'

// A real Redis, processes that are killed and stopped, connections that are cut and fall silent.

const servers = new Servers()
afterAll(() => servers.stop())
const worker = await bundle('test/messaging/redis-worker.ts')

const connect = (port: number): Redis => {
  const client = new Redis(port, { retryStrategy: () => 20, maxRetriesPerRequest: null })
  client.on('error', () => {})
  onTestFinished(async () => {
    // ioredis renews subscriptions by itself and leaves what becomes of that unheard: it must not be cut off
    if (client.status === 'ready') await Promise.race([client.ping().catch(() => {}), systemClock.sleep(500)])
    client.disconnect()
  })
  return client
}

interface Bench {
  readonly port: number
  readonly pid: number
  readonly namespace: string
  readonly redis: Redis
  bus(options?: RedisEventBusOptions, at?: number | Redis): RedisEventBus
  worker(options?: Partial<Job>): Promise<ChildProcess>
  key(kind: string): string
}

/** A server of the test's own, and buses and processes on it. */
async function open(settings: Record<string, string> = {}): Promise<Bench> {
  const { port, pid } = await servers.redis(settings)
  const namespace = `{${randomUUID()}}`
  const redis = connect(port)
  return {
    port,
    pid,
    namespace,
    redis,
    key: (kind) => `${namespace}${kind}`,
    bus: (options = {}, at: number | Redis = port) => {
      const client = typeof at === 'number' ? connect(at) : at
      const subscriber = typeof at === 'number' ? connect(at) : undefined
      const bus = new RedisEventBus(client, { namespace, subscriber, ...options })
      onTestFinished(() => bus.close())
      return bus
    },
    worker: async (options = {}) => {
      const child = fork(worker)
      onTestFinished(() => void child.kill('SIGKILL'))
      const job = { port, notes: port, namespace, leaseMs: 400, handleMs: 0, concurrency: 10, ...options }
      child.send(job satisfies Job)
      await new Promise((resolve) => child.once('message', resolve))
      return child
    },
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1_500; i++) {
    if (await condition()) return // oxlint-disable-line no-await-in-loop
    await systemClock.sleep(10) // oxlint-disable-line no-await-in-loop
  }
  expect.fail('what was waited for did not happen')
}

const work = (n: number, key?: string) => ({ type: 'work', data: { n, poison: false }, ...(key ? { key } : {}) })
const numbers = (messages: readonly Message[]): number[] => messages.map(({ data }) => (data as { n: number }).n)

test('what a killed process had is taken over when its lease is over, in order, with the attempt counted', async () => {
  const { redis, bus, worker: start } = await open()
  const child = await start({ handleMs: 60_000 })
  const publisher = bus()
  await publisher.publish([work(0, 'k'), work(1, 'k'), work(2)])
  await until(async () => (await redis.llen('begun')) === 2)
  const seen: [number, number][] = []
  await publisher.subscribe({
    group: 'g',
    types: ['work'],
    handle: ({ data }, { attempt }) => void seen.push([(data as { n: number }).n, attempt]),
  })
  await systemClock.sleep(300)
  expect(seen).toEqual([]) // it lives, and works
  child.kill('SIGKILL')
  await until(() => seen.length === 3)
  expect(seen.toSorted(([a], [b]) => a - b)).toEqual([
    [0, 2],
    [1, 1],
    [2, 2],
  ])
})

test('what a stopped process had is taken over, and what it does when it goes on no longer counts', async () => {
  const { redis, bus, worker: start, key } = await open()
  const child = await start({ handleMs: 600 })
  const publisher = bus({ leaseMs: 400 })
  await publisher.publish(work(0, 'k'))
  await until(async () => (await redis.llen('begun')) === 1)
  child.kill('SIGSTOP')
  const seen: number[] = []
  let release = (): void => {}
  const released = new Promise<void>((resolve) => (release = resolve))
  await publisher.subscribe({
    group: 'g',
    types: ['work'],
    handle: async (_, { attempt }) => {
      seen.push(attempt)
      await released
    },
  })
  await until(() => seen.length === 1)
  child.kill('SIGCONT')
  await until(async () => (await redis.llen('ended')) === 1)
  await systemClock.sleep(300)
  expect(await redis.xlen(key('log'))).toBe(1) // still ours: it did not take it away
  release()
  await until(async () => (await redis.xlen(key('log'))) === 0)
  expect(seen).toEqual([2])
})

test('a slow but live consumer keeps what it has, however long it takes', async () => {
  const { bus } = await open()
  const [slow, other] = [bus({ leaseMs: 150 }), bus({ leaseMs: 150 })]
  const begun: string[] = []
  let ended = 0
  const handle = (name: string) => async (): Promise<void> => {
    begun.push(name)
    await systemClock.sleep(1_200)
    ended++
  }
  await slow.subscribe({ group: 'g', types: '*', handle: handle('slow') })
  await slow.publish(work(0, 'k'))
  await until(() => begun.length === 1)
  await other.subscribe({ group: 'g', types: '*', handle: handle('other') })
  await until(() => ended === 1)
  await systemClock.sleep(200)
  expect(begun).toEqual(['slow'])
})

test('attempts and the time of the next one are in Redis: another process goes on with them', async () => {
  const { bus } = await open()
  const first = bus()
  const at: number[] = []
  const backoff = (): number => 400
  const one = await first.subscribe({
    group: 'g',
    types: '*',
    retry: { attempts: 3, backoff },
    handle: () => {
      at.push(systemClock.now())
      throw new Error('first')
    },
  })
  await first.publish(work(0, 'k'))
  await until(() => at.length === 1)
  await systemClock.sleep(50)
  await one.close()
  await first.close()
  const second = bus()
  const attempts: number[] = []
  await second.subscribe({
    group: 'g',
    types: '*',
    retry: { attempts: 3, backoff },
    handle: (_, { attempt }) => {
      attempts.push(attempt)
      at.push(systemClock.now())
      throw new Error(`attempt ${attempt}`)
    },
  })
  await until(async () => (await second.deadLetters('g').list()).length === 1)
  expect(attempts).toEqual([2, 3])
  expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(399)
  const [letter] = await second.deadLetters('g').list()
  expect(letter).toMatchObject({ attempts: 3, firstError: { message: 'first' }, lastError: { message: 'attempt 3' } })
})

test('close gives the rest back at once: nobody waits for a lease', async () => {
  const { bus } = await open()
  const [first, second] = [bus({ leaseMs: 60_000 }), bus({ leaseMs: 60_000 })]
  let begun = 0
  const one = await first.subscribe({
    group: 'g',
    types: '*',
    graceMs: 0,
    handle: () => {
      begun++
      return new Promise(() => {})
    },
  })
  await first.publish([work(0), work(1, 'k'), work(2, 'k')])
  await until(() => begun === 2)
  const seen: Message[] = []
  await second.subscribe({ group: 'g', types: '*', handle: (m) => void seen.push(m) })
  const before = systemClock.now()
  await one.close()
  await until(() => seen.length === 3)
  expect(systemClock.now() - before).toBeLessThan(1_000)
  expect(numbers(seen).toSorted((a, b) => a - b)).toEqual([0, 1, 2])
})

test('nothing is trimmed while a group needs it, and nothing stays when none does', async () => {
  const { bus, redis, key } = await open()
  const one = bus()
  await (await one.subscribe({ group: 'asleep', types: ['work'], handle: () => {} })).close()
  const awake: Message[] = []
  await one.subscribe({ group: 'awake', types: '*', handle: (m) => void awake.push(m) })
  for (let i = 0; i < 20; i++) await one.publish(Array.from({ length: 100 }, (_, n) => work(100 * i + n, `k${n % 7}`))) // oxlint-disable-line no-await-in-loop
  await until(() => awake.length === 2_000)
  expect(await redis.xlen(key('log'))).toBe(2_000)
  const late: Message[] = []
  const woken = await one.subscribe({ group: 'asleep', types: ['work'], handle: (m) => void late.push(m) })
  await until(async () => (await redis.xlen(key('log'))) === 0)
  for (const k of ['k0', 'k6'])
    expect(numbers(late.filter((m) => m.key === k))).toEqual(numbers(awake.filter((m) => m.key === k)))
  expect(new Set(numbers(late)).size).toBe(2_000)
  await woken.close()
  await one.deleteGroup('asleep')
  await one.close()
  const left = (await redis.keys('*')).map((name) => name.replace(/sender:.*/, 'sender'))
  expect(new Set(left)).toEqual(new Set(['groups', 'log', 'sender', 'stream:awake'].map(key)))
})

test('a full group refuses, stores nothing, and takes again when it has caught up', async () => {
  const { bus, redis, key } = await open()
  const one = bus({ maxBacklog: 5 })
  let fail = true
  const handle = (): void => {
    if (fail) throw new Error('no')
  }
  const subscription = await one.subscribe({ group: 'full', types: '*', handle, retry: { attempts: 1 } })
  await one.subscribe({ group: 'fine', types: '*', handle: () => {} })
  await one.publish([work(0, 'k'), work(1, 'k')])
  await until(async () => (await one.deadLetters('full').list()).length === 2)
  await subscription.close()
  await one.publish([work(2, 'k'), work(3, 'k'), work(4)])
  const [refused, taken] = await Promise.allSettled([one.publish([work(5), work(6)]), one.publish([])])
  expect(refused).toMatchObject({ reason: { code: 'BACKLOG_FULL', group: 'full', limit: 5 } })
  expect(taken.status).toBe('fulfilled')
  expect(await redis.xlen(key('log'))).toBe(5)
  fail = false
  await one.subscribe({ group: 'full', types: '*', handle, retry: { attempts: 1 } })
  await until(async () => (await redis.xlen(key('log'))) === 2)
  await one.publish([work(5), work(6)])
})

test('what other groups hold does not count, and of what is published at once each call is taken while there is room', async () => {
  const { bus, redis, key } = await open()
  const one = bus({ maxBacklog: 5 })
  await (await one.subscribe({ group: 'g', types: ['a'], handle: () => {} })).close()
  await (await one.subscribe({ group: 'other', types: ['b'], handle: () => {} })).close()
  await one.publish(['b', 'b'].map((type) => ({ type, data: 1 })))
  const calls = [2, 2, 2, 1].map((count) => one.publish(Array.from({ length: count }, () => ({ type: 'a', data: 1 }))))
  const ended = (await Promise.allSettled(calls)).map(({ status }) => status)
  expect(ended).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  expect(await redis.xlen(key('log'))).toBe(7)
})

test('when the memory of Redis is full, publish fails, and consumers go on and make room', async () => {
  const { bus, redis, key } = await open()
  const one = bus()
  await (await one.subscribe({ group: 'g', types: '*', handle: () => {} })).close()
  await one.publish(Array.from({ length: 300 }, (_, n) => ({ type: 'a', key: `k${n % 3}`, data: 'x'.repeat(5_000) })))
  await redis.config('SET', 'maxmemory', '1000000')
  await expect(one.publish({ type: 'a', data: 1 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  expect(await redis.xlen(key('log'))).toBe(300)
  await redis.config('SET', 'maxmemory', '0')
  const seen: Message[] = []
  await one.subscribe({
    group: 'g',
    types: '*',
    concurrency: 5,
    handle: async (m) => {
      seen.push(m)
      if (seen.length === 1) await redis.config('SET', 'maxmemory', '1000000')
    },
  })
  await until(async () => (await redis.xlen(key('log'))) === 0)
  expect(seen).toHaveLength(300)
})

test('SCRIPT FLUSH is not noticed', async () => {
  const { bus, redis } = await open()
  const one = bus()
  const seen: Message[] = []
  await one.subscribe({ group: 'g', types: '*', concurrency: 1, handle: (m) => void seen.push(m) })
  for (let n = 0; n < 50; n++) {
    if (n % 5 === 0) await redis.script('FLUSH') // oxlint-disable-line no-await-in-loop
    await one.publish(work(n, 'k')) // oxlint-disable-line no-await-in-loop
  }
  await until(() => seen.length === 50)
  expect(numbers(seen)).toEqual(Array.from({ length: 50 }, (_, n) => n))
})

test.for([
  ['the consumer group is destroyed', (redis: Redis, stream: string) => redis.xgroup('DESTROY', stream, 'holdfast')],
  ['the stream is deleted', (redis: Redis, stream: string) => redis.del(stream)],
] as const)(
  'NOGROUP: when %s, the group is made again and what is left is handled in order',
  async ([what, meddle]) => {
    const { bus, redis, key } = await open()
    const one = bus()
    const lost: unknown[] = []
    one.on('lost', (event) => lost.push(event))
    const seen: Message[] = []
    let held = true
    await one.subscribe({
      group: 'g',
      types: '*',
      handle: async (m, { signal }) => {
        if (held) return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined)))
        seen.push(m)
        return undefined
      },
    })
    await one.publish(Array.from({ length: 12 }, (_, n) => work(n, `k${n % 3}`)))
    await until(async () => (await redis.xlen(key('stream:g'))) === 3)
    await systemClock.sleep(30)
    held = false
    await meddle(redis, key('stream:g'))
    await one.publish(work(12, 'k0'))
    const left = what.startsWith('the stream') ? 10 : 13 // the first of each key went with the stream
    await until(() => seen.length >= left)
    expect(lost).toEqual([{ group: 'g', what: 'lease' }])
    for (const k of ['k0', 'k1', 'k2'])
      expect(numbers(seen.filter((m) => m.key === k))).toEqual(
        [0, 1, 2, 3, 4].map((i) => 3 * i + Number(k[1])).filter((n) => n <= 12 && (left === 13 || n > 2)),
      )
  },
)

test('a message that somebody has trimmed from the log is told of, and holds back nothing', async () => {
  const { bus, redis, key } = await open()
  const one = bus()
  await (await one.subscribe({ group: 'g', types: '*', handle: () => {} })).close()
  await one.publish([work(0, 'k'), work(1, 'k'), work(2)])
  await redis.xtrim(key('log'), 'MAXLEN', 2)
  const errors: unknown[] = []
  one.on('error', ({ error }) => errors.push(error))
  const seen: Message[] = []
  await one.subscribe({ group: 'g', types: '*', handle: (m) => void seen.push(m) })
  await until(() => seen.length === 2)
  expect(numbers(seen).toSorted((a, b) => a - b)).toEqual([1, 2])
  expect(errors).toMatchObject([{ code: 'CORRUPT_DATA' }])
})

test('a message that can no longer be read is a dead letter, and hides no other; of a trimmed one it is told', async () => {
  const { bus, redis, key } = await open()
  const one = bus()
  const retry = { attempts: 2, backoff: () => 1 }
  await (await one.subscribe({ group: 'g', types: '*', retry, handle: () => {} })).close()
  await one.publish([{ id: 'a', type: 'work', key: 'k', data: new Date(0) }, { id: 'b', ...work(1, 'k') }, work(2)])
  const log = await redis.xrange(key('log'), '-', '+')
  await redis.del(key('log'))
  for (const [id, fields] of log)
    await redis.xadd(key('log'), id, ...fields.map((field) => field.replace('"Date"', '"of a newer version"')))
  const seen: Message[] = []
  const handle = (m: Message): void => {
    if (m.id === 'b') throw new Error('poison')
    seen.push(m)
  }
  await one.subscribe({ group: 'g', types: '*', retry, handle })
  await until(async () => (await one.stats())[0]?.dead === 2)
  expect(numbers(seen)).toEqual([2])
  const letters = await one.deadLetters('g').list()
  expect(letters).toMatchObject([
    { id: 'a', attempts: 2, lastError: { code: 'CORRUPT_DATA' }, message: { id: 'a', key: 'k', data: undefined } },
    { id: 'b', attempts: 2, lastError: { message: 'poison' }, message: { data: { n: 1 } } },
  ])
  await redis.xdel(key('log'), log[0]![0])
  const errors: unknown[] = []
  one.on('error', ({ error }) => errors.push(error))
  expect(await one.deadLetters('g').list()).toMatchObject([{ id: 'b' }])
  expect(errors).toMatchObject([{ code: 'CORRUPT_DATA', message: expect.stringContaining('"a"') }])
  await one.deadLetters('g').drop('a')
})

test('a message that ends its process each time is a dead letter some day', async () => {
  const { bus, port } = await open()
  const [options, retry] = [{ leaseMs: 300, deliveryLimit: 3 }, { attempts: 2 }]
  const publisher = bus(options)
  const attempts: number[] = []
  for (const life of [1, 2, 3]) {
    const client = connect(port)
    const one = bus(options, client)
    const handle = (_: Message, { attempt }: { attempt: number }): Promise<never> => {
      attempts.push(attempt)
      return new Promise(() => {})
    }
    await one.subscribe({ group: 'g', types: ['work'], retry, handle, graceMs: 0 }) // oxlint-disable-line no-await-in-loop
    if (life === 1) await publisher.publish(work(0, 'k')) // oxlint-disable-line no-await-in-loop
    await until(() => attempts.length >= life) // oxlint-disable-line no-await-in-loop
    client.disconnect()
  }
  await publisher.publish(work(1, 'k'))
  const seen: Message[] = []
  await publisher.subscribe({ group: 'g', types: ['work'], retry, handle: (m) => void seen.push(m) })
  await until(() => seen.length === 1)
  expect(numbers(seen)).toEqual([1])
  expect(attempts).toEqual([1, 2, 3])
  const last = { message: expect.stringMatching(/^handed out 3 times/) }
  expect(await publisher.deadLetters('g').list()).toMatchObject([{ attempts: 3, reason: 'attempts', lastError: last }])
})

test('a Redis that was away for longer than the leases takes nothing from those who live; those who died are replaced', async () => {
  const { bus, pid, redis, worker: start } = await open()
  const ended: string[] = []
  const lost: unknown[] = []
  const stop = new AbortController()
  const handle = async ({ data }: Message, { attempt }: { attempt: number }): Promise<void> => {
    if (attempt === 1) await new Promise((resolve) => stop.signal.addEventListener('abort', resolve))
    ended.push(`${(data as { n: number }).n} at ${attempt}`)
  }
  const child = await start({ handleMs: 60_000, concurrency: 1, leaseMs: 600 })
  const [one, two] = [bus({ leaseMs: 600 }), bus({ leaseMs: 600 })]
  await one.publish(work(0))
  await until(async () => (await redis.llen('begun')) === 1)
  for (const each of [one, two]) {
    each.on('lost', (event) => lost.push(event))
    await each.subscribe({ group: 'g', types: ['work'], concurrency: 2, handle })
  }
  await one.publish([work(1), work(2), work(3)])
  await until(async () => (await one.stats())[0]?.running === 4)
  process.kill(pid, 'SIGSTOP')
  child.kill('SIGKILL')
  await systemClock.sleep(1_000)
  process.kill(pid, 'SIGCONT')
  await until(() => ended.includes('0 at 2'))
  stop.abort()
  await until(() => ended.length === 4)
  expect(ended.toSorted()).toEqual(['0 at 2', '1 at 1', '2 at 1', '3 at 1'])
  expect(lost).toEqual([])
})

test('neither a subscriber that is away nor a silent Redis keeps subscribe and close waiting for good', async () => {
  const { bus, pid } = await open()
  const away = new Redis(1, { retryStrategy: () => 50, maxRetriesPerRequest: null })
  away.on('error', () => {})
  onTestFinished(() => away.disconnect())
  const one = bus({ subscriber: away, leaseMs: 200 })
  const seen: Message[] = []
  await one.subscribe({ group: 'g', types: '*', handle: (m) => void seen.push(m) })
  await one.publish(work(0))
  await until(() => seen.length === 1)
  process.kill(pid, 'SIGSTOP')
  one.publish(work(1)).catch(() => {})
  await one.close()
  process.kill(pid, 'SIGCONT')
})

test('when Redis is killed and comes back empty, the groups are made again, and it is told', async () => {
  const { bus, port, pid } = await open()
  const one = bus()
  const lost: unknown[] = []
  one.on('lost', (event) => lost.push(event))
  const seen: Message[] = []
  await one.subscribe({ group: 'g', types: '*', handle: (m) => void seen.push(m) })
  await one.publish(work(0, 'k'))
  await until(() => seen.length === 1)
  process.kill(pid, 'SIGKILL')
  await systemClock.sleep(100)
  await servers.redis({ port: `${port}` })
  await one.publish(work(1, 'k')) // sees to it that the group is there first
  await until(() => seen.length === 2)
  const other = bus()
  await other.publish(work(2, 'k'))
  await until(() => seen.length === 3)
  expect(numbers(seen)).toEqual([0, 1, 2])
  expect(lost.length).toBeLessThanOrEqual(1)
})

test('when Redis comes back empty before the consumers do, a publisher that knew their groups loses nothing', async () => {
  const { bus, port, pid } = await open()
  const [publisher, client] = [bus(), connect(port)]
  const seen: Message[] = []
  await bus({}, client).subscribe({ group: 'g', types: ['work'], handle: (m) => void seen.push(m) })
  await publisher.publish(work(0))
  await until(() => seen.length === 1)
  client.disconnect()
  process.kill(pid, 'SIGKILL')
  await systemClock.sleep(100)
  await servers.redis({ port: `${port}` })
  await publisher.publish([work(1, 'k'), { type: 'other', data: 0 }, work(2, 'k')])
  await client.connect()
  await until(() => seen.length === 3)
  expect(numbers(seen)).toEqual([0, 1, 2])
})

test('cut and silent connections: each message is stored once and handled, in order', async () => {
  const { bus, port, redis, key } = await open()
  const proxy = await Proxy.to(port)
  onTestFinished(() => proxy.close())
  const one = bus({ leaseMs: 1_000 }, proxy.port)
  const seen: Message[] = []
  await one.subscribe({ group: 'g', types: '*', handle: (m) => void seen.push(m) })
  const stopped = new AbortController()
  const faults = (async () => {
    for (let i = 0; !stopped.signal.aborted; i++) {
      await systemClock.sleep(40) // oxlint-disable-line no-await-in-loop
      proxy.set(i % 3 === 2 ? 'silent' : 'cut')
      await systemClock.sleep(i % 3 === 2 ? 200 : 5) // oxlint-disable-line no-await-in-loop
      proxy.set('open')
    }
  })()
  const published: number[] = []
  for (let n = 0; n < 150; n++) {
    await one.publish(work(n, 'k')) // oxlint-disable-line no-await-in-loop -- the client sends again what was cut off
    published.push(n)
  }
  await until(() => new Set(numbers(seen)).size === 150)
  stopped.abort()
  await faults
  await until(async () => (await redis.xlen(key('log'))) === 0)
  const about = (await redis.xinfo('STREAM', key('log'))) as unknown[]
  expect(about[about.indexOf('entries-added') + 1]).toBe(150) // also of calls that were sent twice
  const firsts = [...new Set(numbers(seen))]
  expect(firsts).toEqual(published)
}, 120_000)

test('other processes count: order and types of a group, and its deletion', async () => {
  const { bus } = await open()
  const [one, two] = [bus(), bus()]
  let handled = 0
  const subscription = await one.subscribe({ group: 'g', types: ['A'], handle: () => void handled++ })
  const refused = { code: 'INVALID_OPTION' }
  await expect(two.subscribe({ group: 'g', types: ['B'], handle: () => {} })).rejects.toMatchObject(refused)
  await expect(two.subscribe({ group: 'g', types: ['A'], order: 'none', handle: () => {} })).rejects.toMatchObject(
    refused,
  )
  await expect(two.deleteGroup('g')).rejects.toMatchObject(refused)
  await one.publish({ type: 'A', data: 1 })
  await until(() => handled === 1)
  await subscription.close()
  await one.publish({ type: 'A', id: 'old', data: 2 })
  const seen: Message[] = []
  await two.subscribe({ group: 'g', types: ['B'], handle: (m) => void seen.push(m) })
  await one.publish({ type: 'B', data: 3 })
  await until(() => seen.length === 1)
  await until(async () => (await one.deadLetters('g').list()).length === 1)
  expect(await one.deadLetters('g').list()).toMatchObject([{ id: 'old', reason: 'unhandled', attempts: 0 }])
})

test('a group that is left while the answer to it is lost is left, not lost', async () => {
  const { redis, namespace } = await open()
  const kinds: unknown[] = []
  const client = {
    async call(...args: [string, ...(string | number | Buffer)[]]): Promise<unknown> {
      const answer = await redis.call(...args)
      kinds.push(Array.isArray(answer) ? answer[0] : answer)
      if (kinds.at(-1) === 'left') throw new Error('the line was cut')
      return answer
    },
  }
  const one = new RedisEventBus(client, { namespace })
  const lost: unknown[] = []
  one.on('lost', (event) => lost.push(event))
  await (await one.subscribe({ group: 'g', types: '*', handle: () => {} })).close()
  expect(kinds.slice(-2)).toEqual(['left', 'lost']) // the second time nobody is there who could leave
  expect(lost).toEqual([])
})

test('more than one script call can be asked for is refused, and nothing is stored', async () => {
  const { bus } = await open()
  const one = bus()
  await (await one.subscribe({ group: 'g', types: '*', handle: () => {} })).close()
  const many = Array.from({ length: 10_001 }, (_, n) => work(n))
  await expect(one.publish(many)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await one.publish(many.slice(1))
  expect(await one.stats()).toMatchObject([{ waiting: 10_000 }])
})

test('what no group takes is told of, or refused with all that came with it', async () => {
  const { bus, redis, key } = await open()
  const one = bus()
  const strict = bus({ unrouted: 'reject' })
  const unrouted: unknown[] = []
  one.on('unrouted', (event) => unrouted.push(event))
  await one.publish({ id: 'm', type: 'A', data: 1 })
  await expect(strict.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'UNROUTED' })
  expect(unrouted).toEqual([{ id: 'm', type: 'A' }])
  await (await one.subscribe({ group: 'g', types: ['A'], handle: () => {} })).close()
  await strict.publish({ type: 'A', data: 1 }) // a group that came meanwhile is seen
  await expect(
    strict.publish([
      { type: 'A', data: 2 },
      { type: 'B', data: 3 },
    ]),
  ).rejects.toMatchObject({ code: 'UNROUTED' })
  expect(await redis.xlen(key('log'))).toBe(1)
})

test('stats tell where the messages of each group stand, for all processes', async () => {
  const { bus } = await open()
  const [one, two] = [bus(), bus()]
  const retry = {
    attempts: 2,
    backoff: (_: number, error: unknown) => ((error as Error).message === 'soon' ? 0 : 60_000),
  }
  const subscription = await one.subscribe({
    group: 'g',
    types: '*',
    graceMs: 0,
    retry,
    handle: ({ data }) => {
      if (data === 'run') return new Promise(() => {})
      throw new Error(data as string)
    },
  })
  for (const data of ['run', 'late', 'soon']) await two.publish({ type: 'A', key: data, data }) // oxlint-disable-line no-await-in-loop
  await two.publish({ type: 'A', key: 'run', data: 'wait' })
  await until(async () => (await two.stats())[0]?.dead === 1)
  expect(await two.stats()).toEqual([{ group: 'g', waiting: 1, running: 1, retrying: 1, dead: 1 }])
  await subscription.close()
  expect(await two.stats()).toEqual([{ group: 'g', waiting: 2, running: 0, retrying: 1, dead: 1 }])
})
