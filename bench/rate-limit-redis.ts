import { Ratelimit } from '@upstash/ratelimit'
import { RateLimiter } from 'holdfast/rate-limit'
import { RedisTokenBucketStore } from 'holdfast/rate-limit/redis'
import { Redis } from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Candidate, type Comparison } from './harness.js'
import { upstashClient } from './upstash-client.js'

const CAPACITY = 1_000_000_000 // never refuses: what is measured is the decision
const RATE = 1_000
const keys = Array.from({ length: 1_000 }, (_, i) => `user-${i}`)
let at = 0
const key = (): string => keys[at++ % keys.length] as string

const RAW = 'one EVALSHA of a GCRA script (floor)'
const OURS = 'holdfast RateLimiter.consume'
const LEASED = 'holdfast, leases of 1,000 tokens'
const FLEXIBLE = 'rate-limiter-flexible 11, Redis'

/** The least that a limiter on Redis does. */
const GCRA = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + tonumber(ARGV[1])
if at - now > tonumber(ARGV[2]) then return {0, at - now} end
redis.call('SET', KEYS[1], string.format('%.0f', at), 'PX', string.format('%.0f', math.ceil((at - now) / 1000)))
return {1, at - now}
`

async function candidates(url: string): Promise<readonly Candidate[]> {
  const raw = new Redis(url)
  const sha = (await raw.script('LOAD', GCRA)) as string
  // An answer that is late would not be measured but replaced: here it is waited for.
  const ours = new RateLimiter({
    limits: { name: 'bench', capacity: CAPACITY, refillPerSecond: RATE },
    store: new RedisTokenBucketStore(new Redis(url)),
    storeTimeoutMs: 10_000,
  })
  const leased = new RateLimiter({
    limits: { name: 'bench', capacity: CAPACITY, refillPerSecond: RATE },
    store: new RedisTokenBucketStore(new Redis(url), { prefix: 'leased:', lease: { tokens: 1_000, ttlMs: 10_000 } }),
    storeTimeoutMs: 10_000,
  })
  const flexible = new RateLimiterRedis({ storeClient: new Redis(url), points: CAPACITY, duration: 3_600 })
  const upstash = new Ratelimit({
    redis: upstashClient(new Redis(url)),
    limiter: Ratelimit.tokenBucket(RATE, '1 s', CAPACITY),
    analytics: false,
    ephemeralCache: false,
  })
  return [
    { name: RAW, batch: sequential(() => raw.evalsha(sha, 1, `raw:${key()}`, 1e6 / RATE, (CAPACITY / RATE) * 1e6)) },
    { name: OURS, batch: sequential(() => ours.consume(key())) },
    { name: LEASED, batch: sequential(() => leased.consume(key())) },
    { name: FLEXIBLE, batch: sequential(() => flexible.consume(key())) },
    { name: '@upstash/ratelimit 2 over ioredis, token bucket', batch: sequential(() => upstash.limit(key())) },
  ]
}

function down(): Comparison {
  const client = new Redis('redis://127.0.0.1:1')
  client.on('error', () => {})
  const limits = { name: 'bench', capacity: 10, refillPerSecond: 1 }
  const limiter = new RateLimiter({ limits, store: new RedisTokenBucketStore(client) })
  return {
    title: 'Redis not reachable, time to a decision (rate-limiter-flexible: still none after 8 s)',
    callers: 1,
    candidates: [{ name: OURS, batch: sequential(() => limiter.consume(key())) }],
    targets: [{ candidate: OURS, ns: 50e6 }],
  }
}

/** The same Redis and one connection for each candidate, under 1, 64 and 256 callers; then no Redis at all. */
export async function rateLimitRedis(): Promise<readonly Comparison[]> {
  const { url } = await new Servers().redis() // ends with this process
  const all = await candidates(url)
  const rates: Readonly<Record<number, number>> = { 1: 0.95, 64: 1.5, 256: 2 }
  const loads = Object.entries(rates).map(([callers, rate]): Comparison => ({
    title: `Rate limiter on Redis, ${callers} ${callers === '1' ? 'caller' : 'callers'} at once`,
    callers: Number(callers),
    candidates: all,
    targets: [
      { candidate: OURS, than: RAW, rate },
      ...(callers === '1' ? [] : [{ candidate: OURS, than: FLEXIBLE, p99: 0.6 }]),
      { candidate: LEASED, than: FLEXIBLE, rate: 20 },
    ],
  }))
  return [...loads, down()]
}
