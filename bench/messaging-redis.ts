import { RedisEventBus } from 'holdfast/messaging/redis'
import { Redis } from 'ioredis'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Comparison, type Survey } from './harness.js'
import { consumed, type Way } from './messaging-consumed.js'
import { message, OURS, takenByOurs, text, TYPE } from './messaging-kit.js'

const XADD = 'ioredis, XADD (floor)'
const RATE = 0.6

const xadd = (client: Redis, stream: string): Promise<unknown> =>
  client.xadd(stream, '*', 'id', `${performance.now()}`, 'type', TYPE, 'data', text)

/** A group that has taken part once, so that messages are kept for it. */
async function known(bus: RedisEventBus, group: string): Promise<void> {
  await (await bus.subscribe({ group, types: [TYPE], order: 'none', handle: () => {} })).close()
}

async function publishing(url: string, callers: number): Promise<Comparison> {
  const raw = new Redis(url)
  const stream = `publish-${callers}`
  const bus = new RedisEventBus(new Redis(url), { namespace: `publish-${callers}:`, maxBacklog: 100_000_000 })
  await known(bus, 'g')
  return {
    title: `Messages to Redis Streams, published, ${callers} at once`,
    callers,
    candidates: [
      { name: XADD, batch: sequential(() => xadd(raw, stream)) },
      { name: OURS, batch: sequential(() => bus.publish(message)) },
    ],
    targets: [{ candidate: OURS, than: XADD, rate: RATE }],
  }
}

/** `XREADGROUP`, and `XACK` of each message, as a handler that may fail needs it. */
async function byHand(url: string, at: number): Promise<Way> {
  const raw = new Redis(url)
  const stream = `consume-${at}`
  await raw.xgroup('CREATE', stream, 'g', '0', 'MKSTREAM')
  return {
    name: 'ioredis, XREADGROUP and XACK (floor)',
    fill: (count) => Promise.all(Array.from({ length: count }, () => xadd(raw, stream))),
    take: async (count) => {
      let taken = 0
      while (taken < count) {
        // oxlint-disable-next-line no-await-in-loop -- one page after the other
        const reply = await raw.xreadgroup('GROUP', 'g', 'c', 'COUNT', at, 'STREAMS', stream, '>')
        const [, entries] = (reply as [string, [string, string[]][]][])[0]!
        for (const [, fields] of entries) JSON.parse(fields[5]!)
        // oxlint-disable-next-line no-await-in-loop
        await Promise.all(entries.map(([id]) => raw.xack(stream, 'g', id)))
        taken += entries.length
      }
      return async () => {}
    },
  }
}

async function ours(url: string, at: number): Promise<Way> {
  const bus = new RedisEventBus(new Redis(url), {
    ...{ namespace: `consume-${at}:`, subscriber: new Redis(url), maxBacklog: 1_000_000 },
  })
  await known(bus, 'g')
  return {
    name: OURS,
    fill: (count) => Promise.all(Array.from({ length: count }, () => bus.publish(message))),
    take: (count) => takenByOurs(bus, 'g', { count, concurrency: at }),
  }
}

/** One Redis without persistence; a connection for each candidate. */
export async function messagingRedis(): Promise<readonly (Comparison | Survey)[]> {
  const { url } = await new Servers().redis() // ends with this process
  return [
    await publishing(url, 1),
    await publishing(url, 256),
    ...[1, 10, 100].map((at) =>
      consumed(
        `Messages from Redis Streams, handled, ${at} at a time`,
        at === 1 ? 200 : 2_000,
        async () => [await byHand(url, at), await ours(url, at)],
        RATE,
      ),
    ),
  ]
}
