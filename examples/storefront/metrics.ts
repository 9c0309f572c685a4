/** One second of the shop's life. */
export interface Second {
  /** Epoch seconds. */
  readonly at: number
  readonly requests: number
  readonly refused: number
  readonly completed: number
  readonly cancelled: number
  /** Milliseconds; 0 when there was no request. */
  readonly p50: number
  readonly p95: number
}

const KEPT = 90

interface Tally {
  requests: number
  refused: number
  completed: number
  cancelled: number
  latencies: number[]
}

/** What the sparklines of the page show: counts and latencies of the last minute and a half, second by second. */
export class Metrics {
  readonly #seconds = new Map<number, Tally>()
  #series: readonly Second[] = [] // made once a second, however many look
  /** Since the start. */
  readonly total = { requests: 0, refused: 0, completed: 0, cancelled: 0 }

  /** Notes an answered request. */
  request(latencyMs: number, status: number): void {
    const now = this.#now()
    now.latencies.push(latencyMs)
    now.requests++
    this.total.requests++
    if (status !== 429) return
    now.refused++
    this.total.refused++
  }

  /** Notes that an order has come to its end. */
  ended(how: 'completed' | 'cancelled'): void {
    this.#now()[how]++
    this.total[how]++
  }

  /** The last `count` whole seconds, oldest first, without gaps. */
  last(count: number): readonly Second[] {
    const end = Math.floor(Date.now() / 1_000)
    if (this.#series.at(-1)?.at !== end - 1 || this.#series.length !== count) {
      this.#series = Array.from({ length: count }, (_, i) => this.#second(end - count + i))
    }
    return this.#series
  }

  #now(): Tally {
    const at = Math.floor(Date.now() / 1_000)
    let tally = this.#seconds.get(at)
    if (!tally) {
      tally = { requests: 0, refused: 0, completed: 0, cancelled: 0, latencies: [] }
      this.#seconds.set(at, tally)
      for (const old of this.#seconds.keys()) {
        if (old >= at - KEPT) break
        this.#seconds.delete(old)
      }
    }
    return tally
  }

  #second(at: number): Second {
    const { latencies = [], requests = 0, refused = 0, completed = 0, cancelled = 0 } = this.#seconds.get(at) ?? {}
    const sorted = latencies.toSorted((a, b) => a - b)
    const quantile = (q: number): number => Math.round((sorted[Math.floor(sorted.length * q)] ?? 0) * 10) / 10
    return { at, requests, refused, completed, cancelled, p50: quantile(0.5), p95: quantile(0.95) }
  }
}
