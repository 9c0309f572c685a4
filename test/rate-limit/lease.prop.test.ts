import { expect } from 'vitest'
import { MemoryTokenBucketStore, type Limit, type TokenBucketStore } from '../../src/rate-limit/index.js'
import { LeasingStore } from '../../src/rate-limit/lease.js'
import { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

const capacity = 20
const slow: Limit = { name: 'slow', capacity, refillPerSecond: 1e-6 } // refills nothing here
const lists: readonly (readonly Limit[])[] = [[slow], [slow, { name: 'quick', capacity: 30, refillPerSecond: 1_000 }]]

/** A question of one process, and what the wire makes of it. */
const step = fc.record({
  do: fc.oneof(
    { weight: 9, arbitrary: fc.constant('take' as const) },
    { weight: 2, arbitrary: fc.constant('wait' as const) },
    fc.constantFrom('peek' as const, 'refund' as const, 'penalize' as const, 'reset' as const, 'close' as const),
  ),
  who: fc.nat(2),
  list: fc.nat(1),
  tokens: fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 3 }) }, fc.integer({ min: 4, max: 25 })),
  wayThereMs: fc.constantFrom(0, 0, 0, 5, 200),
  wayBackMs: fc.constantFrom(0, 0, 0, 5, 300),
  isLost: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.constant(true)),
})

prop(
  'no token is made, whatever is taken, given back, late, lost or overtaken on the way: and all are answered',
  [
    fc.array(step, { maxLength: 60, size: 'max' }),
    fc.record({ tokens: fc.integer({ min: 1, max: 12 }), ttlMs: fc.constantFrom(40, 400, 5_000) }),
  ],
  async (steps, lease) => {
    const clock = new ManualClock()
    const buckets = new MemoryTokenBucketStore({ clock })
    let wire = { wayThereMs: 0, wayBackMs: 0, isLost: false }
    const reach = async <T>(call: () => T): Promise<T> => {
      const { wayThereMs, wayBackMs, isLost } = wire
      if (wayThereMs > 0) await clock.sleep(wayThereMs)
      const answer = call()
      if (wayBackMs > 0) await clock.sleep(wayBackMs)
      if (isLost) throw new Error('lost')
      return answer
    }
    const shared: TokenBucketStore = {
      take: (...args) => reach(() => buckets.take(...args)),
      adjust: (...args) => reach(() => buckets.adjust(...args)),
      reset: (...args) => reach(() => buckets.reset(...args)),
    }
    const stores = Array.from({ length: 3 }, () => new LeasingStore(shared, lease, clock))
    let given = capacity
    let passed = 0
    const calls: Promise<unknown>[] = []
    const until = (call: Promise<unknown>): unknown =>
      calls.push(call.catch((error: Error) => expect(error.message).toMatch(/lost|not taken the leases back/)))
    const take = async (store: LeasingStore, cost: number, list: readonly Limit[]): Promise<void> => {
      const { allowed, buckets: told } = await store.take('a', cost, list)
      if (allowed) passed += cost
      else expect(Math.max(...told.map(({ retryAfterMs }) => retryAfterMs))).toBeGreaterThan(0)
      for (const [i, { remaining }] of told.entries()) expect(remaining).toBeLessThanOrEqual(list[i]!.capacity)
    }
    for (const { do: what, who, list: which, tokens, ...on } of steps) {
      wire = on
      const store = stores[who]!
      const list = lists[which]!
      if (what === 'take') until(take(store, tokens, list))
      else if (what === 'peek') until(take(store, 0, list))
      else if (what === 'wait') await clock.advance(tokens * 30)
      else if (what === 'close') until(store.close())
      else if (what === 'reset') {
        given += capacity
        until(store.reset('a', list))
      } else {
        if (what === 'refund') given += tokens
        until(store.adjust('a', what === 'refund' ? tokens : -tokens, list))
      }
    }
    wire = { wayThereMs: 0, wayBackMs: 0, isLost: false }
    await clock.advance(100_000)
    await Promise.all(calls)
    await Promise.all(stores.map((store) => store.close()))
    expect(passed + buckets.take('a', 0, [slow]).buckets[0]!.remaining).toBeLessThanOrEqual(given)
    expect(clock.pendingTimers).toBe(0)
  },
  { numRuns: 300 },
)
