import { afterAll, expect, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import type { Message } from '../../src/messaging/index.js'
import { RedisEventBus } from '../../src/messaging/redis.js'
import { until } from '../support/until.js'
import { numbers, open, work } from './redis-bench.js'

// What is in Redis is there for all processes: groups and their rules, attempts, dead letters, what is full, what may go.

const servers = new Servers()
afterAll(() => servers.stop())

test('attempts and the time of the next one are in Redis: another process goes on with them', async () => {
  const { bus } = await open(servers)
  const first = bus()
  const at: number[] = []
  const backoff = (failed: number): number => (failed === 1 ? 1_500 : 10)
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
  expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(1_499)
  const [letter] = await second.deadLetters('g').list()
  expect(letter).toMatchObject({ attempts: 3, firstError: { message: 'first' }, lastError: { message: 'attempt 3' } })
})

test('close gives the rest back at once: nobody waits for a lease', async () => {
  const { bus } = await open(servers)
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
  expect(systemClock.now() - before).toBeLessThan(30_000)
  expect(numbers(seen).toSorted((a, b) => a - b)).toEqual([0, 1, 2])
})

test('nothing is trimmed while a group needs it, and nothing stays when none does', async () => {
  const { bus, redis, key } = await open(servers)
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
  const { bus, redis, key } = await open(servers)
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

test('other processes count: order and types of a group, and its deletion', async () => {
  const { bus } = await open(servers)
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

test('what no group takes is told of, or refused with all that came with it', async () => {
  const { bus, redis, key } = await open(servers)
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
  const { bus } = await open(servers)
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

test('what other groups hold does not count, and of what is published at once each call is taken while there is room', async () => {
  const { bus, redis, key } = await open(servers)
  const one = bus({ maxBacklog: 5 })
  await (await one.subscribe({ group: 'g', types: ['a'], handle: () => {} })).close()
  await (await one.subscribe({ group: 'other', types: ['b'], handle: () => {} })).close()
  await one.publish(['b', 'b'].map((type) => ({ type, data: 1 })))
  const calls = [2, 2, 2, 1].map((count) => one.publish(Array.from({ length: count }, () => ({ type: 'a', data: 1 }))))
  const ended = (await Promise.allSettled(calls)).map(({ status }) => status)
  expect(ended).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
  expect(await redis.xlen(key('log'))).toBe(7)
})

test('more than one script call can be asked for is refused, and nothing is stored', async () => {
  const { bus } = await open(servers)
  const one = bus()
  await (await one.subscribe({ group: 'g', types: '*', handle: () => {} })).close()
  const many = Array.from({ length: 10_001 }, (_, n) => work(n))
  await expect(one.publish(many)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await one.publish(many.slice(1))
  expect(await one.stats()).toMatchObject([{ waiting: 10_000 }])
})

test('a group that is left while the answer to it is lost is left, not lost', async () => {
  const { redis, namespace } = await open(servers)
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
