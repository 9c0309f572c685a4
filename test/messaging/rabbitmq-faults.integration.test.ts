import amqp from 'amqplib'
import { afterAll, expect, inject, onTestFinished, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import type { Message, SubscribeOptions } from '../../src/messaging/index.js'
import type { RabbitMqEventBus, RabbitMqEventBusOptions } from '../../src/messaging/rabbitmq.js'
import { gate, inOrder, numbers, range } from '../conformance/event-bus/bench.js'
import { Proxy } from '../support/proxy.js'
import { openBus, ownPrefix, removeGroups, until } from './broker.js'

const servers = new Servers()
afterAll(() => servers.stop())

const url = inject('rabbitmqUrl')
const orders = ['key', 'none'] as const

function open(options: Partial<RabbitMqEventBusOptions> = {}, at?: string): RabbitMqEventBus {
  const bus = openBus(options, at)
  onTestFinished(async () => {
    await bus.close()
    if (!at) await removeGroups(bus)
  })
  return bus
}

/** A bus whose line to the broker can fail. */
async function openFar(
  options: Partial<RabbitMqEventBusOptions> = {},
): Promise<{ bus: RabbitMqEventBus; line: Proxy }> {
  const line = await Proxy.to(Number(new URL(url).port))
  const far = new URL(url)
  far.port = `${line.port}`
  const bus = openBus(options, far.href)
  onTestFinished(async () => {
    line.set('open')
    await bus.close()
    line.close()
    await removeGroups(bus)
  })
  return { bus, line }
}

async function raw<T>(work: (channel: amqp.Channel) => Promise<T>): Promise<T> {
  const connection = await amqp.connect(url)
  try {
    return await work(await connection.createChannel())
  } finally {
    await connection.close()
  }
}

async function collect(bus: RabbitMqEventBus, options: Partial<SubscribeOptions> = {}): Promise<Message[]> {
  const seen: Message[] = []
  await bus.subscribe({ group: 'g', types: ['A'], handle: (message) => void seen.push(message), ...options })
  return seen
}

const many = (count: number, key?: string) =>
  range(count).map((data) => ({ type: 'A', data, ...(key === undefined ? {} : { key }) }))

test('a message that no group takes is told of, or refused: a confirm alone would call it stored', async () => {
  const bus = open()
  const lost: unknown[] = []
  bus.on('unrouted', (event) => lost.push(event))
  await bus.publish({ id: 'm', type: 'nobody', data: 1 })
  expect(lost).toEqual([{ id: 'm', type: 'nobody' }])
  const strict = open({ unrouted: 'reject' })
  await expect(strict.publish({ type: 'nobody', data: 1 })).rejects.toMatchObject({ code: 'UNROUTED' })
  const seen = await collect(strict)
  await strict.publish([{ type: 'A', data: 1 }])
  await expect(
    strict.publish([
      { type: 'A', data: 2 },
      { type: 'B', data: 3 },
    ]),
  ).rejects.toMatchObject({ code: 'UNROUTED' })
  await until(() => seen.length === 2)
})

test.each(orders)(
  'order %s: an answer that comes after its channel speaks of no message on the next',
  async (order) => {
    const { bus, line } = await openFar()
    const release = gate()
    const seen: unknown[] = []
    const handle = async ({ data }: Message): Promise<void> => {
      seen.push(data)
      if (seen.length === 1) await release.opened
      if (data === 1) throw new Error('this one is never done')
    }
    const retry = { attempts: 1_000, backoff: () => 20 }
    await bus.subscribe({ group: 'g', types: ['A'], order, concurrency: 1, handle, retry })
    const back = new Promise<void>((resolve) => void bus.on('disconnected', () => resolve()))
    await bus.publish({ type: 'A', key: 'k', data: 0 })
    await until(() => seen.length === 1)
    await bus.publish({ type: 'A', key: 'k', data: 1 })
    line.set('cut')
    await back
    line.set('open')
    const other = open({ prefix: ownPrefix() })
    await other.publish({ type: 'A', data: 1 })
    await systemClock.sleep(500) // the messages are here again
    expect(seen).toEqual([0]) // but not beside the handler that still runs
    release.open()
    await until(() => seen.length >= 5)
    expect(seen.slice(0, 2)).toEqual([0, 0]) // the first answer was dropped, so it came again
    expect(seen.slice(2)).toEqual(seen.slice(2).map(() => 1))
  },
)

test.each(orders)('order %s: queues that are deleted under a consumer are declared again', async (order) => {
  const prefix = ownPrefix()
  const bus = open({ prefix })
  const seen = await collect(bus, { order })
  await raw(async (channel) => {
    for (const name of ['0', '1', '0.aside']) await channel.deleteQueue(`${prefix}group.g.${name}`)
  })
  let n = 0
  await until(async () => {
    await bus.publish({ type: 'A', key: `${++n}`, data: n }).catch(() => {})
    return seen.length > 5
  })
})

test('an exchange that is deleted under a publisher is declared again, and the publish that missed it rejects', async () => {
  const prefix = ownPrefix()
  const bus = open({ prefix })
  const seen = await collect(bus)
  await raw((channel) => channel.deleteExchange(`${prefix}messages`))
  await expect(bus.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await until(async () => {
    await bus.publish({ type: 'A', data: 2 }).catch(() => {})
    return seen.length > 0
  })
})

test('what the broker has not confirmed when the line is cut rejects, and the bus goes on when the line is back', async () => {
  const { bus, line } = await openFar()
  const seen = await collect(bus)
  line.set('silent')
  const publishing = bus.publish({ type: 'A', data: 0 })
  const outcome = expect(publishing).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await systemClock.sleep(50)
  line.set('cut')
  await outcome
  line.set('open')
  await bus.publish({ type: 'A', data: 1 })
  await until(() => seen.some(({ data }) => data === 1))
})

test('a broker that is silent, or gone, fails a publish in time', async () => {
  const { bus, line } = await openFar({ timeoutMs: 1_500 })
  const seen = await collect(bus)
  line.set('silent')
  await expect(bus.publish({ type: 'A', data: 0 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  line.set('cut')
  await expect(bus.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  line.set('open')
  await bus.publish({ type: 'A', data: 2 })
  await until(() => seen.some(({ data }) => data === 2))
  const nowhere = open({ timeoutMs: 200 }, 'amqp://127.0.0.1:1')
  await expect(collect(nowhere)).rejects.toMatchObject({ code: 'STORE_FAILED' })
})

test.each(orders)('order %s: a full group refuses, and loses nothing that it took', async (order) => {
  const bus = open({ maxBacklog: 6 })
  const first = await bus.subscribe({ group: 'g', types: ['A'], order, handle: () => {} })
  await first.close()
  const stored: unknown[] = []
  await expect(
    (async () => {
      for (let data = 0; data < 1_000; data++) {
        await bus.publish({ type: 'A', key: `${data}`, data })
        stored.push(data)
      }
    })(),
  ).rejects.toMatchObject({ code: 'BACKLOG_FULL', group: 'g', limit: 6 })
  expect(stored.length).toBeGreaterThanOrEqual(3)
  expect(stored.length).toBeLessThan(100)
  const seen = await collect(bus, { order })
  await until(() => seen.length >= stored.length)
  expect(numbers(seen)).toEqual(stored)
})

test.each(orders)('order %s: attempts and the first error outlive the process that saw them', async (order) => {
  const prefix = ownPrefix()
  const { bus, line } = await openFar({ prefix })
  const attempts: number[] = []
  const taking =
    (name: string): SubscribeOptions['handle'] =>
    (_, { attempt }) => {
      attempts.push(attempt)
      throw new Error(`${name} ${attempt}`)
    }
  const retry = { attempts: 3, backoff: () => 700 }
  await bus.subscribe({ group: 'g', types: ['A'], order, retry, handle: taking('one') })
  await bus.publish({ id: 'm', type: 'A', key: 'k', data: 1 })
  await until(() => attempts.length === 1)
  await systemClock.sleep(300)
  line.set('cut') // as if it had been killed
  const next = open({ prefix })
  await next.subscribe({ group: 'g', types: ['A'], order, retry, handle: taking('two') })
  await until(async () => (await next.deadLetters('g').list()).length === 1)
  expect(attempts).toEqual([1, 2, 3])
  expect(await next.deadLetters('g').list()).toMatchObject([
    { id: 'm', attempts: 3, firstError: { message: 'one 1' }, lastError: { message: 'two 3' } },
  ])
})

test('a key that fails holds back no other, however many wait behind it, and comes in order later, in another process too', async () => {
  const prefix = ownPrefix()
  const { bus, line } = await openFar({ prefix, prefetch: 10, partitions: 1 })
  const good: Message[] = []
  const handle = (message: Message): void => {
    if (message.key === 'bad') throw new Error('not yet')
    good.push(message)
  }
  const retry = { attempts: 1_000, backoff: () => 100 }
  await bus.subscribe({ group: 'g', types: ['A'], retry, handle })
  await bus.publish([...many(60, 'bad'), ...many(20, 'good')])
  await until(() => good.length >= 20)
  await systemClock.sleep(200)
  line.set('cut')
  const healed: Message[] = []
  const next = open({ prefix, prefetch: 10 })
  await next.subscribe({ group: 'g', types: ['A'], handle: (message) => void healed.push(message) })
  await until(() => healed.filter(({ key }) => key === 'bad').length >= 60)
  const once = [...new Set(inOrder(healed.filter(({ key }) => key === 'bad')))]
  expect(once).toEqual(range(60))
})

test('a message whose consumers end without an answer becomes a dead letter when its deliveries are used up', async () => {
  const prefix = ownPrefix()
  const bus = open({ prefix, deliveryLimit: 2 })
  const first = await bus.subscribe({ group: 'g', types: ['A'], order: 'none', handle: () => {} })
  await first.close()
  await bus.publish({ id: 'deadly', type: 'A', data: 1 })
  for (let i = 0; i < 3; i++)
    await raw(async (channel) => {
      await new Promise<void>((resolve) => void channel.consume(`${prefix}group.g.0`, () => resolve()))
    })
  await until(async () => (await bus.deadLetters('g').list()).length === 1)
  expect(await bus.deadLetters('g').list()).toMatchObject([{ id: 'deadly', reason: 'attempts', message: { data: 1 } }])
  const seen = await collect(bus, { order: 'none' })
  await bus.deadLetters('g').requeue('deadly')
  await until(() => seen.length === 1)
})

test('what somebody else puts on the exchange is a dead letter, and holds up nothing', async () => {
  const prefix = ownPrefix()
  const bus = open({ prefix })
  const seen = await collect(bus, { types: '*' })
  await raw(async (channel) => {
    channel.publish(`${prefix}messages`, 'A.0', Buffer.from('hello'))
    await channel.checkExchange(`${prefix}messages`)
  })
  await bus.publish({ type: 'A', data: 1 })
  await until(async () => seen.length === 1 && (await bus.deadLetters('g').list()).length === 1)
  expect(await bus.deadLetters('g').list()).toMatchObject([{ reason: 'invalid', message: { data: 'hello' } }])
})

test('a type that the group no longer takes: what waits is a dead letter, what comes is not kept', async () => {
  const bus = open()
  const first = await bus.subscribe({ group: 'g', types: ['A', 'B'], handle: () => {} })
  await first.close()
  await bus.publish([
    { type: 'A', data: 1 },
    { id: 'b', type: 'B', data: 2 },
  ])
  const seen = await collect(bus)
  await bus.publish([
    { type: 'A', data: 3 },
    { type: 'B', data: 4 },
  ])
  await until(async () => seen.length === 2 && (await bus.deadLetters('g').list()).length === 1)
  expect(await bus.deadLetters('g').list()).toMatchObject([{ id: 'b', reason: 'unhandled', attempts: 0 }])
})

test('two processes see one group: its order, its types, its messages, its lock', async () => {
  const prefix = ownPrefix()
  const [one, two] = [open({ prefix }), open({ prefix })]
  const seen = await Promise.all([collect(one), collect(two)])
  await expect(collect(two, { order: 'none' })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  const three = open({ prefix })
  await expect(collect(three, { types: ['B'] })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await expect(three.deleteGroup('g')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await Promise.all([one.publish(many(20, 'a')), two.publish(many(20, 'b'))])
  await until(() => seen.flat().length >= 40)
  for (const key of ['a', 'b']) expect(inOrder(seen.flat().filter((message) => message.key === key))).toEqual(range(20))
})

test('messages, retries and dead letters outlive a broker that is killed and started again', async () => {
  const broker = await servers.rabbitmq()
  const prefix = ownPrefix()
  const bus = open({ prefix }, broker.url)
  const seen: Message[] = []
  let heal = false
  const handle = (message: Message): void => {
    if (message.key === 'dead' || (message.key === 'later' && !heal)) throw new Error('no')
    seen.push(message)
  }
  for (const order of orders)
    await bus.subscribe({
      group: order,
      types: ['A'],
      order,
      handle,
      retry: { attempts: order === 'key' ? 1_000 : 1_000, backoff: () => 200, retryOn: () => true },
    })
  const dying = await bus.subscribe({ group: 'dying', types: ['A'], handle, retry: { attempts: 1 } })
  await bus.publish([...many(3, 'later'), ...many(5, 'fine')])
  await until(async () => seen.length >= 15 && (await bus.deadLetters('dying').list()).length === 3)
  await dying.close()
  process.kill(broker.pid, 'SIGKILL')
  await expect(bus.publish({ type: 'A', data: 9 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  heal = true
  seen.length = 0
  await servers.rabbitmq(broker)
  await until(() => seen.filter(({ key }) => key === 'later').length >= 6, 'the rest', 90_000)
  expect(await bus.deadLetters('dying').list()).toHaveLength(3)
}, 300_000) // a broker takes its time to start on a busy machine
