import { chmodSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import amqp from 'amqplib'
import { Pool } from 'pg'
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest'
import { Servers, type Broker } from '../../scripts/servers.mjs'
import { systemClock } from '../../src/kernel/clock.js'
import type { DeadLetter, Message, SubscribeOptions } from '../../src/messaging/index.js'
import { PostgresOutbox } from '../../src/messaging/postgres.js'
import { Link } from '../../src/messaging/rabbitmq-link.js'
import { groupNames, roundDelay } from '../../src/messaging/rabbitmq-wire.js'
import type { RabbitMqEventBus, RabbitMqEventBusOptions } from '../../src/messaging/rabbitmq.js'
import { gate, inOrder, range } from '../conformance/event-bus/bench.js'
import { until } from '../support/until.js'
import { openBus, ownPrefix } from './broker.js'

// A broker of its own, which refuses, blocks, closes connections and loses its data.

const servers = new Servers()
let broker: Broker
beforeAll(async () => {
  broker = await servers.rabbitmq({ settings: 'max_message_size = 100000\n' })
}, 150_000)
afterAll(() => servers.stop())

/** Ends with the test. */
function open(options: Partial<RabbitMqEventBusOptions> = {}): RabbitMqEventBus {
  const bus = openBus(options, broker.url)
  onTestFinished(() => bus.close())
  return bus
}

async function collect(bus: RabbitMqEventBus, options: Partial<SubscribeOptions> = {}): Promise<Message[]> {
  const seen: Message[] = []
  await bus.subscribe({ group: 'g', types: ['A'], handle: (message) => void seen.push(message), ...options })
  return seen
}

/** The dead letters of the group, as soon as there are any. */
const letters = (bus: RabbitMqEventBus): Promise<DeadLetter[]> =>
  until(async () => {
    const list = await bus.deadLetters('g').list()
    return list.length > 0 && list
  })

/** Evaluates terms in the broker. */
const evaluate = (...terms: string[]): Promise<string> => broker.ctl('eval', `${terms.join(', ')}.`)

const closeAll = (why: string): string =>
  `[rabbit_networking:close_connection(C, "${why}") || C <- rabbit_networking:connections()]`
const setAlarm = 'rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []})'
const clearAlarm = 'rabbit_alarm:clear_alarm({resource_limit, memory, node()})'

const succeeds = (call: Promise<unknown>): Promise<boolean> =>
  call.then(
    () => true,
    () => false,
  )

/** The error of the first call that fails, of those that are made one after another. */
async function failure(call: () => Promise<unknown>): Promise<Error> {
  for (;;) {
    try {
      await call()
    } catch (error) {
      return error as Error
    }
  }
}

test('a connection that the operator closes, and a channel that the broker closes: whoever waited is told why', async () => {
  const told: string[] = []
  const link = new Link({
    connect: () => amqp.connect(broker.url),
    prepare: () => Promise.resolve(),
    onReturn: () => {},
    onChange: (error) => told.push(String(error)),
    clock: systemClock,
    timeoutMs: 60_000,
  })
  onTestFinished(() => link.close())
  const notThere = link.use((channel) => {
    channel.checkQueue('first').catch(() => {})
    return channel.checkQueue('second')
  })
  await expect(notThere).rejects.toThrow(/404 .*first/)
  await evaluate(setAlarm) // a connection that publishes is heard no more
  const session = await link.session()
  const publish = () => session.publish([{ exchange: '', routingKey: 'nowhere', body: Buffer.from('x') }])
  publish().catch(() => {}) // it may be answered for
  const under = [publish(), publish(), link.use((channel) => channel.checkQueue('first'))]
  const failed = under.map((one) => expect(one).rejects.toThrow(/RabbitMQ: .*320 .*time for tea/))
  await evaluate(closeAll('time for tea'), clearAlarm)
  await Promise.all(failed)
  expect(told.join()).toMatch(/320 .*time for tea/)
})

test('when the broker fails at a queue (541), which ends the connection, subscribing tries again', async () => {
  const node = `holdfast${broker.port}@localhost`
  const folder = join(broker.folder, node, 'quorum', node)
  chmodSync(folder, 0)
  onTestFinished(() => chmodSync(folder, 0o755))
  const bus = open()
  const reasons: string[] = []
  bus.on('disconnected', ({ error }) => reasons.push(String(error)))
  const collecting = collect(bus)
  await until(() => reasons.length > 0)
  expect(reasons[0]).toContain('541')
  chmodSync(folder, 0o755)
  const seen = await collecting
  await bus.publish({ type: 'A', data: 1 })
  await until(() => seen.length > 0)
})

test('a group that may not consume says so each time, with the reason, and goes on when it may', async () => {
  const prefix = ownPrefix()
  const allow = (read: string): string => {
    const all = '<<".*">>'
    return `rabbit_auth_backend_internal:set_permissions(<<"clerk">>, <<"/">>, ${all}, ${all}, <<"${read}">>, <<"test">>)`
  }
  await evaluate('rabbit_auth_backend_internal:add_user(<<"clerk">>, <<"clerk">>, <<"test">>)', allow('.*'))
  const bus = open({ prefix, connect: () => amqp.connect(broker.url.replace('guest:guest', 'clerk:clerk')) })
  const seen = await collect(bus)
  const errors: unknown[] = []
  bus.on('error', (event) => errors.push(event))
  await evaluate(allow('^(?!.*group.g.[0-9]).*'), closeAll('new permissions'))
  await until(() => errors.length >= 3)
  for (const event of errors)
    expect(event).toMatchObject({
      group: 'g',
      error: { code: 'STORE_FAILED', message: expect.stringMatching(/403 .*group.g/) },
    })
  await evaluate(allow('.*'))
  await until(async () => {
    await bus.publish({ type: 'A', data: 1 }).catch(() => {})
    return seen.length > 0
  })
}, 120_000)

test('a message that is larger than the broker takes is refused for good, and hurts no other that is under way', async () => {
  const bus = open()
  const seen = await collect(bus)
  let lost = 0
  bus.on('disconnected', () => lost++)
  const large = { type: 'A', key: 'k', data: 'x'.repeat(200_000) }
  const small = (data: number) => ({ type: 'A', key: 'k', data })
  const before = range(20).map((n) => bus.publish(small(n)))
  const refused = expect(bus.publish([small(-1), large])).rejects.toMatchObject({ code: 'INVALID_PAYLOAD' })
  const after = range(20).map((n) => bus.publish(small(20 + n)))
  await Promise.all([...before, ...after])
  await refused
  const stored = seen.length
  await expect(bus.publish([small(-2), large])).rejects.toThrow(/never .*200\d\d\d bytes.* 100000/) // known by now: nothing is sent
  await until(() => seen.some(({ data }) => data === 39))
  expect(seen.length).toBeGreaterThanOrEqual(stored)
  // What was not confirmed when the broker closed the channel was sent again: some of it comes twice, and all in order.
  const good = seen.filter(({ data }) => (data as number) >= 0)
  expect([...new Set(inOrder(good))]).toEqual(range(40))
  expect(seen.some(({ data }) => data === -2)).toBe(false)
  expect(lost).toBe(0)
})

test('messages that are larger than the broker takes, with more of them still on their way, do not end the connection', async () => {
  const bus = open()
  let lost = 0
  bus.on('disconnected', () => lost++)
  await bus.publish({ type: 'A', data: 0 })
  const codes: unknown[] = []
  const all: Promise<unknown>[] = []
  while (codes.length === 0) {
    const large = bus.publish({ type: 'A', data: 'x'.repeat(800_000) })
    all.push(large.catch(({ code }: { code: string }) => codes.push(code)))
    await new Promise((resolve) => setImmediate(resolve))
  }
  await Promise.all(all)
  expect(codes).toEqual(all.map(() => 'INVALID_PAYLOAD'))
  await bus.publish({ type: 'A', data: 0 })
  expect(lost).toBe(0)
})

test.each(['key', 'none'] as const)(
  'order %s: what is too large with the errors that it has met is tried again, and dies, with the beginning of them',
  async (order) => {
    const bus = open()
    const seen: unknown[] = []
    const handle = ({ data }: Message): void => {
      seen.push(data)
      if (data === 'bad') throw new Error('no'.repeat(100_000))
    }
    await bus.subscribe({ group: 'g', types: ['A'], order, retry: { attempts: 2, backoff: () => 10 }, handle })
    await bus.publish(['bad', 'good'].map((data) => ({ type: 'A', key: 'k', data })))
    expect(await letters(bus)).toMatchObject([{ attempts: 2, lastError: { message: 'no'.repeat(100) } }])
    await until(() => seen.includes('good'))
    expect(seen.filter((data) => data === 'bad')).toHaveLength(2)
  },
)

test.each(['key', 'none'] as const)(
  'order %s: what just fits the broker can fail, die, and be sent again',
  async (order) => {
    const bus = open()
    const seen: string[] = []
    let heals = false
    const handle = ({ id }: Message): void => {
      seen.push(id)
      if (id === 'bad' && !heals) throw new Error('no')
    }
    await bus.subscribe({ group: 'g', types: ['A'], order, retry: { attempts: 2, backoff: () => 10 }, handle })
    const room = 100_000 - '["bad","A","k",1700000000000]\n{"data":"","headers":{}}'.length
    await bus.publish({ id: 'bad', type: 'A', key: 'k', data: 'x'.repeat(room) })
    await bus.publish({ id: 'good', type: 'A', key: 'k', data: 1 })
    expect(await letters(bus)).toMatchObject([{ id: 'bad', attempts: 2, lastError: { message: 'no' } }])
    await until(() => seen.includes('good'))
    heals = true
    await bus.deadLetters('g').requeue('bad')
    await until(() => seen.filter((id) => id === 'bad').length === 3)
    expect(await bus.deadLetters('g').list()).toEqual([])
  },
)

test.each(['key', 'none'] as const)('order %s: what somebody else sent dies as it is, however large', async (order) => {
  const prefix = ownPrefix()
  const bus = open({ prefix })
  const seen = await collect(bus, { order })
  const connection = await amqp.connect(broker.url)
  onTestFinished(() => connection.close())
  const channel = await connection.createChannel()
  channel.sendToQueue(groupNames(prefix, 'g').queue(0), Buffer.alloc(90_000, 1))
  await bus.publish({ type: 'A', data: 1 })
  await until(() => seen.length === 1)
  const [letter] = await letters(bus)
  expect(letter).toMatchObject({ reason: 'invalid', attempts: 0, message: { data: '\u0001'.repeat(90_000) } })
  expect(letter!.diedAt.getTime()).toBeGreaterThan(0)
})

test('the relay of an outbox parks what is larger than the broker takes, and publishes the others', async () => {
  const pool = new Pool({ connectionString: inject('postgresUrl'), max: 4 })
  const schema = `large_${process.pid}`
  const outbox = new PostgresOutbox(pool, { schema })
  await outbox.migrate()
  const bus = open()
  const seen = await collect(bus)
  const client = await pool.connect()
  await outbox.put(client, { type: 'A', data: 1 })
  await outbox.put(client, { id: 'large', type: 'A', data: 'x'.repeat(200_000) })
  await outbox.put(client, { type: 'A', data: 2 })
  client.release()
  const relay = outbox.relay(bus)
  onTestFinished(async () => {
    await relay.close()
    await pool.query(`drop schema ${schema} cascade`)
    await pool.end()
  })
  await until(async () => (await outbox.parked.list()).length > 0 && new Set(seen.map(({ data }) => data)).size === 2)
  expect(await outbox.parked.list()).toMatchObject([{ message: { id: 'large' } }])
})

test('a broker that is low on memory: publish fails in time with the reason, consumers go on, and all is well afterwards', async () => {
  const bus = open({ timeoutMs: 2_000 })
  const begin = gate()
  const seen: Message[] = []
  const handle = async (message: Message): Promise<void> => {
    await begin.opened
    seen.push(message)
  }
  // A busy machine may need more than one try. With one place, the next comes when one is answered.
  const options: SubscribeOptions = { group: 'g', types: ['A'], order: 'none', concurrency: 1, handle }
  await until(() => succeeds(bus.subscribe(options)))
  await until(() => succeeds(bus.publish(range(5).map((data) => ({ type: 'A', data })))))
  await evaluate(setAlarm)
  let error: Error
  try {
    error = await failure(() => bus.publish({ type: 'A', data: 0 }))
    if (!error.message.includes('blocks')) error = await failure(() => bus.publish({ type: 'A', data: 0 }))
    begin.open()
    await until(() => seen.length >= 5)
  } finally {
    await evaluate(clearAlarm)
  }
  expect(error).toMatchObject({ code: 'STORE_FAILED' })
  expect(error.message).toMatch(/blocks publishers: .*memory/)
  await until(async () => {
    await bus.publish({ type: 'A', data: 9 }).catch(() => {})
    return seen.some(({ data }) => data === 9)
  })
})

test('a bus that closes while the broker blocks it does not keep its process alive', async () => {
  const sockets: Socket[] = []
  const connect = async (): Promise<amqp.ChannelModel> => {
    const connection = await amqp.connect(broker.url)
    sockets.push((connection.connection as unknown as { stream: Socket }).stream)
    return connection
  }
  const bus = open({ connect, timeoutMs: 2_000 })
  await until(() => succeeds(bus.publish({ type: 'A', data: 1 })))
  await evaluate(setAlarm)
  try {
    while (!(await failure(() => bus.publish({ type: 'A', data: 2 }))).message.includes('blocks'));
    await bus.close()
    expect(sockets.map(({ destroyed }) => destroyed)).not.toContain(false)
  } finally {
    await evaluate(clearAlarm)
  }
})

test('a retry whose queue can not be had comes again later, not at once, and is told of', async () => {
  const prefix = ownPrefix()
  const bus = open({ prefix })
  const errors: unknown[] = []
  bus.on('error', (event) => errors.push(event))
  const connection = await amqp.connect(broker.url)
  const channel = await connection.createChannel()
  await channel.assertQueue(groupNames(prefix, 'g').delay(roundDelay(10)), { durable: true }) // of another kind than the bus wants
  await connection.close()
  const times: number[] = []
  const handle = (): void => {
    times.push(performance.now())
    throw new Error('no')
  }
  await bus.subscribe({ group: 'g', types: ['A'], order: 'none', retry: { backoff: () => 10 }, handle })
  await bus.publish({ type: 'A', data: 1 })
  await until(() => times.length >= 3)
  expect(times[2]! - times[0]!).toBeGreaterThan(1_900)
  expect(errors[0]).toMatchObject({ group: 'g', error: { message: expect.stringContaining('406') } })
})

test('who ends while a group is made leaves one that others can join, with the settings that it began', async () => {
  const prefix = ownPrefix()
  let isKilled = false
  const dying = open({
    prefix,
    partitions: 3,
    maxBacklog: 70,
    connect: async () => {
      const connection = await amqp.connect(broker.url)
      const { stream: socket } = connection.connection as { stream?: Socket }
      const create = connection.createChannel.bind(connection)
      connection.createChannel = async () => {
        const channel = await create()
        channel.bindQueue = () => {
          isKilled = true
          socket?.destroy(new Error('killed'))
          return Promise.reject(new Error('killed'))
        }
        return channel
      }
      return connection
    },
  })
  const failed = expect(collect(dying)).rejects.toBeDefined()
  await until(() => isKilled)
  await dying.close()
  await failed
  const bus = open({ prefix, partitions: 2, maxBacklog: 1_000 })
  const seen = await collect(bus)
  await bus.publish(range(10).map((data) => ({ type: 'A', key: `${data}`, data })))
  await until(() => seen.length >= 10)
})

test('a broker that has lost its data: groups of the publisher are made again first, and others are waited for', async () => {
  const prefix = ownPrefix()
  const both = open({ prefix })
  const own = await collect(both, { group: 'own' })
  const back = gate()
  let isLost = false
  const consumer = open({
    prefix,
    connect: async () => {
      if (isLost) await back.opened
      return amqp.connect(broker.url)
    },
  })
  const others = await collect(consumer, { group: 'other', types: ['A', 'B'], order: 'none' })
  const publisher = open({ prefix })
  await publisher.publish({ type: 'B', data: 0 })
  await until(() => others.length === 1)
  isLost = true
  await evaluate(
    'rabbit_maintenance:suspend_all_client_listeners()',
    closeAll('all is lost'),
    '[rabbit_amqqueue:delete(Q, false, false, <<"test">>) || Q <- rabbit_amqqueue:list()]',
    `rabbit_exchange:delete(rabbit_misc:r(<<"/">>, exchange, <<"${prefix}messages">>), false, <<"test">>)`,
    'rabbit_maintenance:resume_all_client_listeners()',
  )
  const publishing = publisher.publish({ type: 'B', key: 'k', data: 1 })
  await both.publish({ type: 'A', data: 2 })
  await until(() => own.some(({ data }) => data === 2))
  const unrouted: unknown[] = []
  publisher.on('unrouted', (event) => unrouted.push(event))
  back.open()
  await publishing
  await until(() => others.some(({ data }) => data === 1))
  expect(unrouted).toEqual([])
  // The records are there again too: a newcomer joins the groups as they are.
  const newcomer = open({ prefix, partitions: 7 })
  await collect(newcomer, { group: 'own' })
}, 120_000)
