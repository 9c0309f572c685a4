// A mail service that lets each user send 3 at once and 5 per second, and a sender that paces itself to that.
import { perMinute, perSecond, RateLimiter, TokenBucket, isHoldfastError } from 'holdfast/rate-limit'

const limiter = new RateLimiter({ limits: [perSecond(5, { burst: 3 }), perMinute(100)] })
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

console.log('--- ann sends five at once')
for (let i = 1; i <= 5; i++) {
  const { allowed, remaining, retryAfterMs, limit } = await limiter.consume('ann')
  const why = allowed ? `${remaining} left` : `'${limit.name}' says: in ${retryAfterMs} ms`
  console.log(`mail ${i}: ${allowed ? 'sent' : 'refused'}, ${why}`)
}
console.log(`bob has a bucket of his own: ${(await limiter.peek('bob')).remaining} left`)

console.log('--- 200 ms later a token is back')
await sleep(200)
const send = limiter.for('ann').wrap(async (to: string) => `sent to ${to}`)
for (const to of ['carl', 'dora']) {
  try {
    console.log(await send(to))
  } catch (error) {
    if (!isHoldfastError(error, 'RATE_LIMITED')) throw error
    console.log(`not sent to ${to}: ${error.message}`)
  }
}

console.log('--- a reservation that is not needed after all gives its tokens back')
const reservation = await limiter.reserve('bob', 3)
console.log(`reserved: ${reservation.decision.allowed}, left: ${(await limiter.peek('bob')).remaining}`)
await reservation.cancel()
console.log(`cancelled, left: ${(await limiter.peek('bob')).remaining}`)

console.log('--- a sender that waits for its turn')
const bucket = new TokenBucket({ capacity: 2, refillPerSecond: 10 })
const began = performance.now()
await Promise.all(
  ['a', 'b', 'c', 'd', 'e'].map(async (name) => {
    await bucket.take(1, { maxWaitMs: 2_000 })
    console.log(`${name} after ${Math.round((performance.now() - began) / 100) * 100} ms`)
  }),
)
