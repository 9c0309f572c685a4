import { checkNumber, checkObject, invalid } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import { decisionOf, type Decision } from './decision.js'
import { checkLimit, type Limit } from './limit.js'
import { MemoryTokenBucketStore } from './memory.js'
import type { BucketState, Taken } from './store.js'

/**
 * Who decides while the store fails: every call passes (`'allow'`), none does (`'deny'`), or this process counts alone, with
 * the n-th part of each limit (`{ share: n }`: as many as there are processes. ≥ 1; a bucket holds at least 1 token).
 */
export type StoreFailureRule = 'allow' | 'deny' | { readonly share: number }

/** What a refused caller is told when nobody knows how long the store will be away. */
const ASK_AGAIN_MS = 1_000

/** Decides in place of a store that has failed. */
export class StandIn {
  readonly #limits: readonly Limit[]
  readonly #always: boolean | undefined
  readonly #buckets: MemoryTokenBucketStore | undefined
  readonly #shares: readonly Limit[] = []

  constructor(rule: StoreFailureRule, limits: readonly Limit[], clock: Clock) {
    this.#limits = limits
    if (rule === 'allow' || rule === 'deny') this.#always = rule === 'allow'
    else if (typeof rule === 'string') invalid('onStoreFailure', "'allow', 'deny' or { share }", rule)
    else {
      const share = checkNumber('onStoreFailure.share', checkObject('onStoreFailure', rule).share, 1, 1e6)
      this.#buckets = new MemoryTokenBucketStore({ clock })
      this.#shares = limits.map(({ name, capacity, refillPerSecond }) =>
        checkLimit({
          name,
          capacity: Math.max(1, Math.floor(capacity / share)),
          refillPerSecond: refillPerSecond / share,
        }),
      )
    }
  }

  take(key: string, cost: number): Decision {
    const taken = this.#buckets?.take(key, cost, this.#shares)
    const known = this.#limits.map(({ capacity }, i): BucketState => {
      if (cost > capacity) return { remaining: 0, retryAfterMs: Infinity, resetMs: 0 }
      const bucket = taken?.buckets[i]
      if (!bucket) return { remaining: 0, retryAfterMs: this.#always ? 0 : ASK_AGAIN_MS, resetMs: 0 }
      // More than this process's part, but not more than the limit: it may pass when the store is back.
      return bucket.retryAfterMs === Infinity ? { ...bucket, retryAfterMs: ASK_AGAIN_MS } : bucket
    })
    const possible = this.#limits.every(({ capacity }) => cost <= capacity)
    const answer: Taken = { allowed: possible && (taken?.allowed ?? this.#always === true), buckets: known }
    return decisionOf(answer, this.#limits, true)
  }

  refund(key: string, cost: number): void {
    this.#buckets?.adjust(key, cost, this.#shares)
  }
}
