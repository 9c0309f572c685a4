import { RedisEventStore } from 'holdfast/event-sourcing/redis'
import { Redis } from 'ioredis'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Candidate, type Comparison } from './harness.js'

const event = {
  type: 'OrderPlaced',
  data: {
    orderId: 'order-1',
    userId: 'user-1',
    cents: 1_999,
    items: [{ sku: 'tea', quantity: 2 }],
    note: 'x'.repeat(80),
  },
}
const ten = Array.from({ length: 10 }, () => event)
const STREAMS = 1_000
let at = 0
const stream = (): string => `order-${at++ % STREAMS}`

const RAW = 'JSON.stringify and ioredis XADD (floor)'
const OURS = 'holdfast, append'
const RAW_TEN = 'ten XADD in one MULTI (floor)'
const OURS_TEN = 'holdfast, append of ten'

/** A log without a check, a version and a result. */
const xadd =
  (client: Redis): Candidate['batch'] =>
  (n) =>
    sequential(() => client.xadd(`raw:${stream()}`, '*', 'e', JSON.stringify(event)))(n)

/** The least that a script has to do: a list for the stream, and a log that points to it. */
const LUA = `local version = redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('XADD', KEYS[2], '*', 's', KEYS[1], 'v', version)
return version`

function bareLua(client: Redis, prefix: string): Candidate['batch'] {
  client.defineCommand('bareAppend', { numberOfKeys: 2, lua: LUA })
  const { bareAppend } = client as unknown as { bareAppend(...args: string[]): Promise<number> }
  return sequential(() => bareAppend.call(client, `${prefix}:${stream()}`, `${prefix}:log`, JSON.stringify(event)))
}

function appends(url: string, prefix: string): readonly Candidate[] {
  const store = new RedisEventStore(new Redis(url), { namespace: `${prefix}:` })
  const tagged = new RedisEventStore(new Redis(url), { namespace: `${prefix}-tagged:` })
  const withTags = [{ ...event, tags: ['customer:7', 'shop:1'] }]
  return [
    { name: RAW, batch: xadd(new Redis(url)) },
    { name: 'bare Lua: a list and a log', batch: bareLua(new Redis(url), `${prefix}-lua`) },
    { name: OURS, batch: sequential(() => store.append(stream(), [event])) },
    {
      name: 'holdfast, append with an idempotency key',
      batch: sequential(() => store.append(stream(), [event], { idempotencyKey: `k${at}` })),
    },
    { name: 'holdfast, append, two tags', batch: sequential(() => tagged.append(stream(), withTags)) },
  ]
}

function tens(url: string): readonly Candidate[] {
  const raw = new Redis(url)
  const store = new RedisEventStore(new Redis(url), { namespace: 'tens:' })
  return [
    {
      name: RAW_TEN,
      batch: sequential(() => {
        const key = `raw-ten:${stream()}`
        const all = raw.multi()
        for (const one of ten) all.xadd(key, '*', 'e', JSON.stringify(one))
        return all.exec()
      }),
    },
    { name: OURS_TEN, batch: sequential(() => store.append(stream(), ten)) },
  ]
}

async function reads(url: string): Promise<Comparison> {
  const raw = new Redis(url)
  const store = new RedisEventStore(new Redis(url), { namespace: 'reads:' })
  for (let i = 0; i < 100; i++) {
    await store.append('long', ten)
    await raw.rpush('raw-list', ...ten.map((one) => JSON.stringify(one)))
  }
  const [lrange, read] = ['LRANGE and JSON.parse (floor)', 'holdfast, read']
  return {
    title: 'Event store on Redis, a stream of 1,000 events is read',
    callers: 1,
    candidates: [
      {
        name: lrange,
        batch: sequential(async () => (await raw.lrange('raw-list', 0, -1)).map((text) => JSON.parse(text))),
      },
      {
        name: read,
        batch: sequential(async () => {
          let count = 0
          for await (const { version } of store.read('long')) count += version
          return count
        }),
      },
      { name: 'holdfast, readPage', batch: sequential(() => store.readPage({ limit: 1_000 })) },
    ],
  }
}

/** One Redis without persistence and one that writes its file every second; one connection for each candidate. */
export async function eventSourcingRedis(): Promise<readonly Comparison[]> {
  const servers = new Servers() // end with this process
  const { url } = await servers.redis()
  const durable = await servers.redis({ appendonly: 'yes', appendfsync: 'everysec' })
  return [
    { title: 'Event store on Redis, append, 1 caller', callers: 1, candidates: appends(url, 'one') },
    {
      title: 'Event store on Redis, append, 64 callers at once',
      callers: 64,
      candidates: appends(url, 'many'),
      targets: [{ candidate: OURS, than: RAW, rate: 0.85 }],
    },
    {
      title: 'Event store on Redis with AOF everysec, append, 64 callers at once',
      callers: 64,
      candidates: appends(durable.url, 'many'),
    },
    {
      title: 'Event store on Redis, append of ten events, 64 callers at once',
      callers: 64,
      candidates: tens(url),
      targets: [{ candidate: OURS_TEN, ns: 100_000 }],
    },
    await reads(url),
  ]
}
