import amqp from 'amqplib'
import { RabbitMqEventBus } from 'holdfast/messaging/rabbitmq'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Comparison, type Survey } from './harness.js'
import { consumed, type Way } from './messaging-consumed.js'
import { Counter, message, OURS, takenByOurs, text, TYPE } from './messaging-kit.js'

const CONFIRMED = 'amqplib, a confirm channel and a quorum queue (floor)'
const RATE = 0.8

/** As ours: persistent, to a quorum queue, and told when it does not arrive anywhere. */
async function channelTo(url: string, queue: string): Promise<amqp.ConfirmChannel> {
  const channel = await (await amqp.connect(url)).createConfirmChannel()
  await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } })
  channel.on('return', () => {
    throw new Error('returned')
  })
  return channel
}

let ids = 0
const sent = (channel: amqp.ConfirmChannel, queue: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const options = { persistent: true, mandatory: true, messageId: `${ids++}`, type: TYPE }
    channel.publish('', queue, Buffer.from(text), options, (error: unknown) => (error ? reject(error) : resolve()))
  })

const busOn = (url: string, prefix: string): RabbitMqEventBus =>
  new RabbitMqEventBus({ connect: () => amqp.connect(url), prefix, maxBacklog: 1_000_000 })

/** A group that has taken part once, so that messages are kept for it. */
async function known(bus: RabbitMqEventBus, group: string): Promise<void> {
  await (await bus.subscribe({ group, types: [TYPE], order: 'none', handle: () => {} })).close()
}

async function publishing(url: string, callers: number): Promise<Comparison> {
  const queue = `publish-${callers}`
  const channel = await channelTo(url, queue)
  const bus = busOn(url, `publish-${callers}.`)
  await known(bus, 'g')
  return {
    title: `Messages to RabbitMQ, published with confirm, ${callers} at once`,
    callers,
    candidates: [
      { name: CONFIRMED, batch: sequential(() => sent(channel, queue)) },
      { name: OURS, batch: sequential(() => bus.publish(message)) },
    ],
    targets: [{ candidate: OURS, than: CONFIRMED, rate: RATE }],
  }
}

async function byHand(url: string, at: number): Promise<Way> {
  const queue = `consume-${at}`
  const channel = await channelTo(url, queue)
  return {
    name: 'amqplib, ack of each (floor)',
    fill: (count) => Promise.all(Array.from({ length: count }, () => sent(channel, queue))),
    take: async (count) => {
      const taking = await (await amqp.connect(url)).createChannel()
      await taking.prefetch(at)
      const counter = new Counter()
      await taking.consume(queue, async (delivery) => {
        if (!delivery) return
        JSON.parse(delivery.content.toString())
        await Promise.resolve() // a handler
        taking.ack(delivery)
        counter.add()
      })
      await counter.until(count)
      return () => taking.close()
    },
  }
}

async function ours(url: string, at: number): Promise<Way> {
  const bus = busOn(url, `consume-${at}.`)
  await known(bus, 'g')
  return {
    name: OURS,
    fill: (count) => Promise.all(Array.from({ length: count }, () => bus.publish(message))),
    take: (count) => takenByOurs(bus, 'g', { count, concurrency: at }),
  }
}

/** One RabbitMQ; a connection for each candidate. */
export async function messagingRabbitMq(): Promise<readonly (Comparison | Survey)[]> {
  const { url } = await new Servers().rabbitmq() // ends with this process
  return [
    await publishing(url, 1),
    await publishing(url, 256),
    ...[1, 10, 100].map((at) =>
      consumed(
        `Messages from RabbitMQ, handled, ${at} at a time`,
        at === 1 ? 1_000 : 5_000, // a subscription of ours begins with a score of questions to the broker
        async () => [await byHand(url, at), await ours(url, at)],
        RATE,
      ),
    ),
  ]
}
