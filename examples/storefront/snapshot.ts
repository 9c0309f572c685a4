import type { CacheManager } from 'holdfast/cache'
import type { RateLimiter } from 'holdfast/rate-limit'
import type { CircuitState } from 'holdfast/resilience'
import type { About } from './backends.js'
import { catalogue } from './catalogue.js'
import type { Checkout, CheckoutKind, CheckoutsView } from './checkout.js'
import type { OrchestratedCheckout } from './checkout-saga.js'
import type { Metrics } from './metrics.js'
import type { PaymentClient } from './payment-client.js'
import type { Switches } from './payloads.js'
import type { OrderCache } from './queries.js'
import type { OrderCounts, OrdersView, OrderView } from './read-model.js'

const SHOWN_ORDERS = 12
const SHOWN_CHECKOUTS = 11
const SHOWN_PARKED = 8
const SECONDS = 60

interface Watched {
  readonly view: OrdersView
  readonly cache: CacheManager<OrderCache>
  readonly limiter: RateLimiter
  readonly payments: PaymentClient
  readonly checkouts: Readonly<Record<CheckoutKind, Checkout>> & { readonly orchestrated: OrchestratedCheckout }
  readonly metrics: Metrics
  readonly switches: { read(): Switches }
  readonly about: About
}

/** What the page draws. Most of it is asked for; what passes by unasked (refusals, turns of the breaker) is listened to. */
export class Snapshots {
  readonly #breaker: { readonly state: CircuitState; readonly at: number }[] = [{ state: 'closed', at: Date.now() }]
  readonly #refused = new Map<string, number>()
  #storeFailedAt = -Infinity
  #waiting: readonly string[] = []
  #read: { readonly counts: OrderCounts; readonly orders: readonly OrderView[] } = {
    counts: { placed: 0, shipped: 0, cancelled: 0 },
    orders: [],
  }

  constructor(private readonly watched: Watched) {
    const { limiter, payments } = watched
    payments.breaker.on('stateChange', ({ to }) => {
      this.#breaker.push({ state: to, at: Date.now() })
      if (this.#breaker.length > 200) this.#breaker.shift()
    })
    limiter.on('refused', ({ key }) => {
      this.#refused.set(key, (this.#refused.get(key) ?? 0) + 1)
      if (this.#refused.size > 1_000) this.#refused.delete(this.#refused.keys().next().value as string)
    })
    limiter.on('storeFailed', () => (this.#storeFailedAt = Date.now()))
  }

  async make() {
    const { cache, payments, metrics, switches, about } = this.watched
    const { l1Hits, l2Hits, loads } = cache.stats()
    const { completed, cancelled, refused } = metrics.total
    const [readModelFailed, provider, parked] = await Promise.all([
      this.#readModelFails(),
      payments.ledger(),
      this.#parked(),
    ])
    return {
      now: Date.now(),
      about,
      switches: switches.read(),
      totals: { completed, cancelled, open: this.#read.counts.placed },
      series: metrics.last(SECONDS),
      orders: this.#read.orders.map(orderLine),
      readModelFailed,
      checkouts: this.#checkouts(),
      parked,
      breaker: { ...this.#breakerNow(), timeline: this.#breaker.filter((_, i) => this.#isRecent(i)) },
      cache: { l1: l1Hits, l2: l2Hits, loads },
      limiter: { refused, ...this.#limiter() },
      provider,
    }
  }

  /** Asks the read model. While it does not answer, the page shows what it said last. */
  async #readModelFails(): Promise<boolean> {
    const { view } = this.watched
    try {
      const [counts, orders] = await Promise.all([view.counts(), view.list({ limit: SHOWN_ORDERS })])
      this.#read = { counts, orders }
      return false
    } catch {
      return true
    }
  }

  /** Ids of sagas that wait for an operator. */
  async #parked(): Promise<readonly string[]> {
    try {
      this.#waiting = (await this.watched.checkouts.orchestrated.parked(SHOWN_PARKED)).map(({ id }) => id)
    } catch {
      // what was known last
    }
    return this.#waiting
  }

  #checkouts(): CheckoutsView {
    const { orchestrated, choreographed } = this.watched.checkouts
    const [a, b] = [orchestrated.view(SHOWN_CHECKOUTS), choreographed.view(SHOWN_CHECKOUTS)]
    const counts = { ...a.counts }
    for (const status of Object.keys(counts) as (keyof typeof counts)[]) counts[status] += b.counts[status]
    return { counts, recent: [...a.recent, ...b.recent].toSorted((x, y) => y.at - x.at).slice(0, SHOWN_CHECKOUTS) }
  }

  #breakerNow(): { readonly state: CircuitState; readonly retryAfterMs: number } {
    const { state, openUntil = 0 } = this.watched.payments.breaker.snapshot()
    return { state, retryAfterMs: Math.max(0, openUntil - Date.now()) }
  }

  /** Whether state `i` reaches into the last minute: it lasts until the next one begins. */
  #isRecent(i: number): boolean {
    return (this.#breaker[i + 1]?.at ?? Infinity) > Date.now() - SECONDS * 1_000
  }

  #limiter() {
    const [limit] = this.watched.limiter.limits
    const [userId, refused] = [...this.#refused].reduce((a, b) => (b[1] > a[1] ? b : a), ['', 0])
    return {
      capacity: limit?.capacity,
      refillPerSecond: limit?.refillPerSecond,
      most: refused > 0 ? { userId, refused } : undefined,
      storeFailed: Date.now() - this.#storeFailedAt < 2_000,
    }
  }
}

function orderLine({ id, userId, items, cents, stock, payment, status, reason }: OrderView) {
  const what = items.map(({ sku, quantity }) => `${quantity} × ${catalogue[sku].name}`).join(', ')
  return { id, userId, what, cents, stock, payment, status, reason }
}
