import Bottleneck from 'bottleneck'
import { MemoryStore, type Options } from 'express-rate-limit'
import { RateLimiter, TokenBucket } from 'holdfast/rate-limit'
import { RateLimiter as Limiter } from 'limiter'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { sequential, synchronous, type Candidate, type Comparison } from './harness.js'

const CAPACITY = 1_000_000_000 // never refuses: what is measured is the decision
const HOUR_MS = 3_600_000
const keys = Array.from({ length: 1_000 }, (_, i) => `user-${i}`)
let at = 0
const key = (): string => keys[at++ % keys.length] as string

const FLEXIBLE = 'rate-limiter-flexible 11, memory'

function bucket(): Comparison {
  let tokens = CAPACITY
  let last = performance.now()
  const floor = (): boolean => {
    const now = performance.now()
    tokens = Math.min(CAPACITY, tokens + ((now - last) / 1_000) * 1_000)
    last = now
    if (tokens < 1) return false
    tokens--
    return true
  }
  const ours = new TokenBucket({ capacity: CAPACITY, refillPerSecond: 1_000 })
  const limiter = new Limiter({ tokensPerInterval: CAPACITY, interval: 'hour' })
  const flexible = new RateLimiterMemory({ points: CAPACITY, duration: 3_600 })
  return {
    title: 'Token bucket, one decision',
    candidates: [
      { name: 'hand-written bucket (floor)', batch: synchronous(floor) },
      { name: 'holdfast TokenBucket.tryTake', batch: synchronous(() => ours.tryTake()) },
      { name: 'limiter 4, tryRemoveTokens', batch: synchronous(() => limiter.tryRemoveTokens(1)) },
      { name: FLEXIBLE, batch: sequential(() => flexible.consume('one')) },
    ],
    targets: [
      { candidate: 'holdfast TokenBucket.tryTake', than: 'hand-written bucket (floor)', times: 1.2 },
      { candidate: 'holdfast TokenBucket.tryTake', than: FLEXIBLE, rate: 4 },
    ],
  }
}

function waiting(): Comparison {
  const ours = new TokenBucket({ capacity: CAPACITY, refillPerSecond: 1_000 })
  const limiter = new Limiter({ tokensPerInterval: CAPACITY, interval: 'hour' })
  const bottleneck = new Bottleneck()
  const done = async (): Promise<boolean> => true
  return {
    title: 'One queue, 10 callers at once, tokens for all',
    callers: 10,
    candidates: [
      { name: 'limiter 4, removeTokens', batch: sequential(() => limiter.removeTokens(1)) },
      { name: 'holdfast TokenBucket.take', batch: sequential(() => ours.take()) },
      { name: 'Bottleneck 2, schedule', batch: sequential(() => bottleneck.schedule(done)) },
    ],
  }
}

/** Bytes of a limiter are those of its keys: each candidate fills in `n` keys that nobody else holds. */
const filling =
  (use: (key: string) => unknown): Candidate['batch'] =>
  async (n) => {
    for (let i = 0; i < n; i++) await use((36 ** 10 + i).toString(36))
  }

function handWritten(): (id: string) => boolean {
  const buckets = new Map<string, { tokens: number; last: number }>()
  return (id) => {
    const now = performance.now()
    let mine = buckets.get(id)
    if (!mine) buckets.set(id, (mine = { tokens: CAPACITY, last: now }))
    mine.tokens = Math.min(CAPACITY, mine.tokens + (now - mine.last)) - 1
    mine.last = now
    return mine.tokens >= 0
  }
}

function limiterPerKey(): (id: string) => boolean {
  const limiters = new Map<string, Limiter>()
  return (id) => {
    let mine = limiters.get(id)
    if (!mine) limiters.set(id, (mine = new Limiter({ tokensPerInterval: CAPACITY, interval: 'hour' })))
    return mine.tryRemoveTokens(1)
  }
}

function expressStore(): MemoryStore {
  const store = new MemoryStore()
  store.init({ windowMs: HOUR_MS } as Options)
  return store
}

function keyed(): Comparison {
  const floor = handWritten()
  const ours = new RateLimiter({ limits: { name: 'bench', capacity: CAPACITY, refillPerSecond: 1_000 } })
  const flexible = new RateLimiterMemory({ points: CAPACITY, duration: 3_600 })
  const express = expressStore()
  return {
    title: 'Rate limiter in memory, 1,000 keys',
    plot: true,
    heap: true,
    candidates: [
      { name: 'hand-written Map of buckets (floor)', batch: sequential(async () => floor(key())) },
      { name: 'holdfast RateLimiter.consume', batch: sequential(() => ours.consume(key())) },
      { name: FLEXIBLE, batch: sequential(() => flexible.consume(key())) },
      { name: 'express-rate-limit 8, memory store', batch: sequential(() => express.increment(key())) },
    ],
    targets: [{ candidate: 'holdfast RateLimiter.consume', than: FLEXIBLE, rate: 1.7 }],
  }
}

function memory(): Comparison {
  const floor = handWritten()
  const ours = new RateLimiter({ limits: { name: 'bench', capacity: 100, refillPerSecond: 0.01 } })
  const flexible = new RateLimiterMemory({ points: 100, duration: 3_600 })
  const express = expressStore()
  const limiter = limiterPerKey()
  const group = new Bottleneck.Group()
  const done = async (): Promise<boolean> => true
  return {
    title: 'Rate limiter in memory, what a key takes, of 1,000,000',
    keys: 1_000_000,
    candidates: [
      { name: 'hand-written Map of buckets (floor)', batch: filling(floor) },
      { name: 'holdfast', batch: filling((id) => ours.consume(id)) },
      { name: FLEXIBLE, batch: filling((id) => flexible.consume(id)) },
      { name: 'express-rate-limit 8, memory store', batch: filling((id) => express.increment(id)) },
      { name: 'limiter 4, a Map of them', batch: filling(limiter) },
      {
        name: 'Bottleneck 2, Group, of 2,000',
        keys: 2_000,
        batch: filling((id) => group.key(id).schedule(done)),
      },
    ],
    targets: [{ candidate: 'holdfast', bytes: 95 }],
  }
}

/** One bucket, a limiter with a bucket for each of a thousand keys, and what a million of them take. */
export function rateLimit(): readonly Comparison[] {
  return [bucket(), waiting(), keyed(), memory()]
}
