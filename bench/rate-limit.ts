import { RateLimiter, TokenBucket } from 'holdfast/rate-limit'
import { RateLimiter as Limiter } from 'limiter'
import { RateLimiterMemory } from 'rate-limiter-flexible'
import { sequential, synchronous, type Candidate, type Comparison } from './harness.js'

const CAPACITY = 1_000_000_000 // never refuses: what is measured is the decision
const keys = Array.from({ length: 1_000 }, (_, i) => `user-${i}`)
let at = 0
const key = (): string => keys[at++ % keys.length] as string

function bucket(): Candidate[] {
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
  return [
    { name: 'hand-written bucket (floor)', batch: synchronous(floor) },
    { name: 'holdfast TokenBucket.tryTake', batch: synchronous(() => ours.tryTake()) },
    { name: 'limiter, tryRemoveTokens', batch: synchronous(() => limiter.tryRemoveTokens(1)) },
  ]
}

function keyed(): Candidate[] {
  const tokens = new Map<string, { tokens: number; last: number }>()
  const floor = async (id: string): Promise<boolean> => {
    const now = performance.now()
    let mine = tokens.get(id)
    if (!mine) tokens.set(id, (mine = { tokens: CAPACITY, last: now }))
    mine.tokens = Math.min(CAPACITY, mine.tokens + (now - mine.last)) - 1
    mine.last = now
    return mine.tokens >= 0
  }
  const ours = new RateLimiter({ limits: { name: 'bench', capacity: CAPACITY, refillPerSecond: 1_000 } })
  const peer = new RateLimiterMemory({ points: CAPACITY, duration: 3_600 })
  return [
    { name: 'hand-written Map of buckets (floor)', batch: sequential(() => floor(key())) },
    { name: 'holdfast RateLimiter.consume', batch: sequential(() => ours.consume(key())) },
    { name: 'rate-limiter-flexible, memory', batch: sequential(() => peer.consume(key())) },
  ]
}

/** One bucket, and a limiter with a bucket for each of a thousand keys. */
export function rateLimit(): readonly Comparison[] {
  return [
    { title: 'Token bucket, one decision', candidates: bucket() },
    { title: 'Rate limiter in memory, 1,000 keys', candidates: keyed() },
  ]
}
