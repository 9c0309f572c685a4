import type { Redis } from 'ioredis'
import { afterAll, expect, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import type { RedisClient } from '../../src/kernel/redis.js'
import type { Message } from '../../src/messaging/index.js'
import { RedisEventBus } from '../../src/messaging/redis.js'
import { bundle } from '../support/bundle.js'
import { Proxy } from '../support/proxy.js'
import { connect } from '../support/redis.js'
import { until } from '../support/until.js'
import { numbers, open, work } from './redis-bench.js'

// A real Redis, processes that are killed and stopped, connections that are cut and fall silent.

const servers = new Servers()
afterAll(() => servers.stop())
const worker = await bundle('test/messaging/redis-worker.ts')

test('what a killed process had is taken over when its lease is over, in order, with the attempt counted', async () => {
  const { redis, bus, worker: fork } = await open(servers)
  const child = await fork(worker, { handleMs: 60_000, leaseMs: 1_000 })
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
  const { redis, bus, worker: fork, key } = await open(servers)
  const child = await fork(worker, { handleMs: 600, leaseMs: 1_000 })
  const publisher = bus({ leaseMs: 1_000 })
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
  const { bus } = await open(servers)
  const [slow, other] = [bus({ leaseMs: 500 }), bus({ leaseMs: 500 })]
  const begun: string[] = []
  let ended = 0
  const handle = (name: string) => async (): Promise<void> => {
    begun.push(name)
    await systemClock.sleep(1_800)
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

test('when the memory of Redis is full, publish fails, and consumers go on and make room', async () => {
  const { bus, redis, key } = await open(servers)
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
  const { bus, redis } = await open(servers)
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
    const { bus, redis, key } = await open(servers)
    const one = bus()
    const lost: unknown[] = []
    one.on('lost', (event) => lost.push(event))
    const seen: Message[] = []
    let held = true
    let begun = 0
    await one.subscribe({
      group: 'g',
      types: '*',
      handle: async (m, { signal }) => {
        begun++
        if (held) return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined)))
        seen.push(m)
        return undefined
      },
    })
    await one.publish(Array.from({ length: 12 }, (_, n) => work(n, `k${n % 3}`)))
    await until(() => begun === 3)
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
  const { bus, redis, key } = await open(servers)
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

test('when Redis is killed and comes back empty, the groups are made again, and it is told', async () => {
  const { bus, port, pid } = await open(servers)
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

test('cut and silent connections: each message is stored once and handled, in order', async () => {
  const { bus, port, redis, key } = await open(servers)
  const proxy = await Proxy.to(port)
  onTestFinished(() => proxy.close())
  const one = bus({ leaseMs: 1_000 }, proxy.port)
  const seen: Message[] = []
  await one.subscribe({ group: 'g', types: '*', handle: (m) => void seen.push(m) })
  const stopped = new AbortController()
  const published: number[] = []
  const faults = (async () => {
    for (let i = 0; !stopped.signal.aborted; i++) {
      const before = published.length + seen.length
      await systemClock.sleep(40) // oxlint-disable-line no-await-in-loop
      // a machine that needs longer to connect would get nowhere
      await until(() => stopped.signal.aborted || published.length + seen.length > before, 90_000) // oxlint-disable-line no-await-in-loop
      proxy.set(i % 3 === 2 ? 'silent' : 'cut')
      await systemClock.sleep(i % 3 === 2 ? 200 : 5) // oxlint-disable-line no-await-in-loop
      proxy.set('open')
    }
  })()
  for (let n = 0; n < 150; n++) {
    await one.publish(work(n, 'k')) // oxlint-disable-line no-await-in-loop -- the client sends again what was cut off
    published.push(n)
  }
  await until(() => new Set(numbers(seen)).size === 150, 90_000)
  stopped.abort()
  await faults
  await until(async () => (await redis.xlen(key('log'))) === 0)
  const about = (await redis.xinfo('STREAM', key('log'))) as unknown[]
  expect(about[about.indexOf('entries-added') + 1]).toBe(150) // also of calls that were sent twice
  const firsts = [...new Set(numbers(seen))]
  expect(firsts).toEqual(published)
}, 120_000)

test('a message that can no longer be read is a dead letter, and hides no other; of a trimmed one it is told', async () => {
  const { bus, redis, key } = await open(servers)
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
  const { bus, port } = await open(servers)
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
  const { bus, pid, redis, worker: fork } = await open(servers)
  const ended: string[] = []
  const lost: unknown[] = []
  const stop = new AbortController()
  const handle = async ({ data }: Message, { attempt }: { attempt: number }): Promise<void> => {
    if (attempt === 1) await new Promise((resolve) => stop.signal.addEventListener('abort', resolve))
    ended.push(`${(data as { n: number }).n} at ${attempt}`)
  }
  const child = await fork(worker, { handleMs: 60_000, concurrency: 1, leaseMs: 600 })
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
  const { bus, pid } = await open(servers)
  const away = connect(1, { retryStrategy: () => 50, maxRetriesPerRequest: null })
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

test('when Redis comes back empty before the consumers do, a publisher that knew their groups loses nothing', async () => {
  const { bus, port, pid } = await open(servers)
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

test('a publisher that could make only some of its groups again makes the others at its next try', async () => {
  const { bus, port, redis, namespace } = await open(servers)
  const client = connect(port)
  const consumer = bus({}, client)
  const seen: string[] = []
  for (const group of ['g', 'h'])
    await consumer.subscribe({
      group,
      types: ['work'],
      handle: ({ data }) => void seen.push(`${group}${(data as { n: number }).n}`),
    })
  let refused = 0
  const through: RedisClient = {
    // what makes a group names it by itself
    call: async (command, ...args) => {
      if (args.includes(':h') && ++refused === 1) throw new Error('the connection is gone')
      return redis.call(command, ...args)
    },
  }
  const publisher = new RedisEventBus(through, { namespace })
  onTestFinished(() => publisher.close())
  await publisher.publish(work(0))
  await until(() => seen.length === 2)
  client.disconnect()
  await redis.flushall() // as one that comes back empty
  await expect(publisher.publish(work(1))).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await publisher.publish(work(2))
  expect(refused).toBe(2)
  await client.connect()
  await until(() => seen.length === 4)
  expect(seen.toSorted()).toEqual(['g0', 'g2', 'h0', 'h2'])
})
