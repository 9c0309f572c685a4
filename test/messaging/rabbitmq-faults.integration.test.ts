import { expect, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import type { Message, SubscribeOptions } from '../../src/messaging/index.js'
import { groupNames } from '../../src/messaging/rabbitmq-wire.js'
import type { RabbitMqEventBus } from '../../src/messaging/rabbitmq.js'
import { gate, inOrder, numbers, range } from '../conformance/event-bus/bench.js'
import { until } from '../support/until.js'
import { byHand, farBus, openBus, ownBus, ownPrefix } from './broker.js'

const orders = ['key', 'none'] as const

async function collect(bus: RabbitMqEventBus, options: Partial<SubscribeOptions> = {}): Promise<Message[]> {
  const seen: Message[] = []
  await bus.subscribe({ group: 'g', types: ['A'], handle: (message) => void seen.push(message), ...options })
  return seen
}

const many = (count: number, key?: string) =>
  range(count).map((data) => ({ type: 'A', data, ...(key === undefined ? {} : { key }) }))

test('a message that no group takes is told of, or refused: a confirm alone would call it stored', async () => {
  const bus = ownBus()
  const lost: unknown[] = []
  bus.on('unrouted', (event) => lost.push(event))
  await bus.publish({ id: 'm', type: 'nobody', data: 1 })
  expect(lost).toEqual([{ id: 'm', type: 'nobody' }])
  const strict = ownBus({ unrouted: 'reject' })
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
    const { bus, line } = await farBus()
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
    const other = ownBus({ prefix: ownPrefix() })
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
  const bus = ownBus({ prefix })
  const seen = await collect(bus, { order })
  await byHand(async (channel) => {
    for (const name of ['0', '1', '0.aside']) await channel.deleteQueue(`${prefix}group.g.${name}`)
  })
  let n = 0
  await until(async () => {
    await bus.publish({ type: 'A', key: `${++n}`, data: n }).catch(() => {})
    return seen.length > 5
  })
})

test.each(orders)('order %s: what is not consumed itself is declared again when it is needed', async (order) => {
  const prefix = ownPrefix()
  const bus = ownBus({ prefix })
  const handle = (): void => {
    throw new Error('no')
  }
  await bus.subscribe({ group: 'g', types: ['A'], order, retry: { attempts: 2, backoff: () => 10 }, handle })
  await byHand(async (channel) => {
    for (const name of ['dead', 'record']) await channel.deleteQueue(`${prefix}group.g.${name}`)
  })
  await bus.publish({ id: 'bad', type: 'A', key: 'k', data: 1 })
  await until(async () => (await bus.deadLetters('g').list()).some(({ id }) => id === 'bad'))
})

test('an exchange that is deleted under a publisher is declared again, and the publish that missed it rejects', async () => {
  const prefix = ownPrefix()
  const bus = ownBus({ prefix })
  const seen = await collect(bus)
  await byHand((channel) => channel.deleteExchange(`${prefix}messages`))
  await expect(bus.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await until(async () => {
    await bus.publish({ type: 'A', data: 2 }).catch(() => {})
    return seen.length > 0
  })
})

test('what the broker has not confirmed when the line is cut rejects, and the bus goes on when the line is back', async () => {
  const { bus, line } = await farBus()
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
  const { bus, line } = await farBus({ timeoutMs: 1_500 })
  const seen = await collect(bus)
  line.set('silent')
  await expect(bus.publish({ type: 'A', data: 0 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  line.set('cut')
  await expect(bus.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'STORE_FAILED' })
  line.set('open')
  await bus.publish({ type: 'A', data: 2 })
  await until(() => seen.some(({ data }) => data === 2))
  const nowhere = openBus({ timeoutMs: 200 }, 'amqp://127.0.0.1:1')
  await expect(collect(nowhere)).rejects.toMatchObject({ code: 'STORE_FAILED' })
  await nowhere.close()
})

test.each(orders)('order %s: a full group refuses, and loses nothing that it took', async (order) => {
  const bus = ownBus({ maxBacklog: 6 })
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

test.each(orders)(
  'order %s: attempts and the first error outlive the process that saw them',
  async (order) => {
    const once = async (): Promise<number[]> => {
      const prefix = ownPrefix()
      const { bus, line } = await farBus({ prefix })
      const attempts: number[] = []
      const taking =
        (name: string): SubscribeOptions['handle'] =>
        (_, { attempt }) => {
          attempts.push(attempt)
          throw new Error(`${name} ${attempt}`)
        }
      const retry = { attempts: 3, backoff: () => 500 }
      await bus.subscribe({ group: 'g', types: ['A'], order, retry, handle: taking('one') })
      await bus.publish({ id: 'm', type: 'A', key: 'k', data: 1 })
      await until(() => attempts.length === 1)
      await systemClock.sleep(250)
      line.set('cut') // as if it had been killed
      const next = ownBus({ prefix })
      await next.subscribe({ group: 'g', types: ['A'], order, retry, handle: taking('two') })
      await until(async () => (await next.deadLetters('g').list()).length > 0)
      expect(await next.deadLetters('g').list()).toMatchObject([
        { id: 'm', attempts: 3, firstError: { message: 'one 1' }, lastError: { message: 'two 3' } },
      ])
      return attempts
    }
    // On a busy machine the first attempt may not have been recorded when the line is cut: then it comes again.
    await until(async () => (await once()).join() === '1,2,3')
  },
  60_000,
)

test('a key that fails holds back no other, however many wait behind it, and comes in order later, in another process too', async () => {
  const prefix = ownPrefix()
  const { bus, line } = await farBus({ prefix, prefetch: 10, partitions: 1 })
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
  const next = ownBus({ prefix, prefetch: 10 })
  await next.subscribe({ group: 'g', types: ['A'], handle: (message) => void healed.push(message) })
  await until(() => healed.filter(({ key }) => key === 'bad').length >= 60)
  const once = [...new Set(inOrder(healed.filter(({ key }) => key === 'bad')))]
  expect(once).toEqual(range(60))
})

test('a message whose consumers end without an answer becomes a dead letter when its deliveries are used up', async () => {
  const prefix = ownPrefix()
  const bus = ownBus({ prefix, deliveryLimit: 2 })
  const first = await bus.subscribe({ group: 'g', types: ['A'], order: 'none', handle: () => {} })
  await first.close()
  await bus.publish({ id: 'deadly', type: 'A', data: 1 })
  for (let i = 0; i < 3; i++)
    await byHand(async (channel) => {
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
  const bus = ownBus({ prefix })
  const seen = await collect(bus)
  await byHand(async (channel) => {
    channel.publish(`${prefix}messages`, 'A.0', Buffer.from('hello'))
    await channel.checkExchange(`${prefix}messages`)
  })
  await bus.publish({ type: 'A', data: 1 })
  await until(async () => seen.length === 1 && (await bus.deadLetters('g').list()).length === 1)
  expect(await bus.deadLetters('g').list()).toMatchObject([{ reason: 'invalid', message: { data: 'hello' } }])
})

test('a type that the group no longer takes: what waits is a dead letter, what comes is not kept', async () => {
  const bus = ownBus()
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

test('when a process closes, another goes on in order, and no message comes twice', async () => {
  const prefix = ownPrefix()
  const group = { prefix, partitions: 1, prefetch: 20 }
  const seen: Message[] = []
  const handle = async (message: Message): Promise<void> => {
    await systemClock.sleep(1)
    seen.push(message)
  }
  const options = { group: 'g', types: ['A'], concurrency: 2, handle }
  const one = ownBus(group)
  await one.subscribe(options)
  const others = [ownBus(group), ownBus(group)]
  for (const bus of others) await bus.subscribe(options)
  await others[0]?.publish(['a', 'b', 'c'].flatMap((key) => many(100, key)))
  await until(() => seen.length > 30)
  await one.close()
  await until(() => seen.length > 100)
  await others[0]?.close()
  await until(() => seen.length >= 300)
  for (const key of ['a', 'b', 'c']) expect(inOrder(seen.filter((message) => message.key === key))).toEqual(range(100))
})

test('a mark that comes late or twice, as its sender gave it up or sent it again, is no dead letter', async () => {
  const prefix = ownPrefix()
  const bus = ownBus({ prefix, partitions: 1 })
  const seen = await collect(bus)
  await bus.publish({ type: 'A', data: 1 })
  await until(() => seen.length === 1)
  await byHand(async (channel) => {
    const aside = groupNames(prefix, 'g').aside(0)
    channel.sendToQueue(aside, Buffer.alloc(0), { type: 'holdfast.mark', messageId: 'late' })
    channel.sendToQueue(aside, Buffer.from('of somebody else'))
    await channel.checkQueue(aside)
  })
  const letters = await until(async () => {
    const list = await bus.deadLetters('g').list()
    return list.length > 0 && list
  })
  expect(letters).toMatchObject([{ message: { data: 'of somebody else' } }])
})

test('a subscription that closes after the others still has its handlers, and its messages', async () => {
  const prefix = ownPrefix()
  const [bus, other] = [ownBus({ prefix }), ownBus({ prefix })]
  const release = gate()
  const seen: string[] = []
  const slow = await bus.subscribe({
    group: 'g',
    types: ['A'],
    handle: async () => {
      seen.push('begun')
      await release.opened
      seen.push('done')
    },
  })
  await bus.publish({ type: 'A', key: 'k', data: 0 })
  await until(() => seen.length === 1)
  const quick = await bus.subscribe({ group: 'g', types: ['A'], handle: () => {} })
  const closing = slow.close()
  await quick.close()
  await other.subscribe({ group: 'g', types: ['A'], handle: () => void seen.push('elsewhere') })
  await systemClock.sleep(200)
  release.open()
  await closing
  await other.publish({ type: 'A', key: 'k', data: 1 })
  await until(() => seen.length >= 3)
  expect(seen).toEqual(['begun', 'done', 'elsewhere'])
})

test('two processes see one group: its order, its types, its messages, its lock', async () => {
  const prefix = ownPrefix()
  const [one, two] = [ownBus({ prefix }), ownBus({ prefix })]
  const seen = await Promise.all([collect(one), collect(two)])
  await expect(collect(two, { order: 'none' })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  const three = ownBus({ prefix })
  await expect(collect(three, { types: ['B'] })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await expect(three.deleteGroup('g')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  await Promise.all([one.publish(many(20, 'a')), two.publish(many(20, 'b'))])
  await until(() => seen.flat().length >= 40)
  for (const key of ['a', 'b']) expect(inOrder(seen.flat().filter((message) => message.key === key))).toEqual(range(20))
})
