import type { Random } from '../kernel/random.js'

/** One round of calls: about as many as may run at once. */
export interface Round {
  /** Mean milliseconds of the calls that succeeded; `undefined` when none did. */
  readonly rttMs: number | undefined
  /** Most calls that ran at once. */
  readonly busiest: number
  /** Whether any was dropped. */
  readonly dropped: boolean
}

/** How a limit on concurrency follows what is seen. Pure arithmetic: not rounded, not bounded, without time of its own. */
export interface LimitAlgorithm {
  /** @param limit the limit of the round. @returns the next */
  next(limit: number, round: Round): number
}

/**
 * Additive increase, multiplicative decrease: one more for each round that is full and loses nothing, a tenth less when calls
 * were dropped. Sees drops only, not delay. Source: Chiu & Jain, 1989; RFC 5681.
 */
export const aimd = (): LimitAlgorithm => ({
  next: (limit, { busiest, dropped }) => (dropped ? limit * 0.9 : isFull(busiest, limit) ? limit + 1 : limit),
})

/**
 * Shrinks the limit by the share that calls take longer than without a queue, half as long again being well, and leaves room for a
 * queue of √limit; a tenth less when calls were dropped. Source: the gradient algorithm of Netflix's concurrency-limits.
 */
export const gradient = (random: Random): LimitAlgorithm => {
  const noLoad = new NoLoadTime(random)
  return noLoad.around((limit, { busiest, dropped }, ratio) => {
    if (dropped) return limit * 0.9 // without room for a queue: √limit would let a limit below 4 grow
    const next = limit * Math.min(1, Math.max(0.5, 1.5 * ratio)) + Math.sqrt(limit)
    const grows = next > limit
    return grows && !isFull(busiest, limit) ? limit : limit + (next - limit) * 0.2
  })
}

/**
 * Keeps a queue of a few calls at the other side, whose length it reckons from the delay: grows below 3 × log₁₀ limit, shrinks
 * above 6 ×. Source: Brakmo & Peterson, "TCP Vegas", 1995; constants as in Netflix's concurrency-limits.
 */
export const vegas = (random: Random): LimitAlgorithm => {
  const noLoad = new NoLoadTime(random)
  return noLoad.around((limit, { busiest, dropped }, ratio) => {
    const step = Math.max(1, Math.log10(limit))
    if (dropped) return limit - step
    const queued = limit * (1 - ratio)
    if (queued > 6 * step) return limit - step
    if (!isFull(busiest, limit) || queued >= 3 * step) return limit
    return queued <= step ? limit + 6 * step : limit + step
  })
}

const isFull = (busiest: number, limit: number): boolean => busiest * 2 >= limit

const ROUNDS_BETWEEN_PROBES = 40

/** The limit is divided by it for a probe: so many rounds of the small size, all that ran before have ended. */
const PROBE_SHARE = 3

/**
 * How long a call takes when nothing waits. What a full server shows has its queue in it, and what was measured once may not be
 * true any more: so now and then the limit is a third, until the queue is gone, and for one round to measure.
 */
class NoLoadTime {
  readonly #random: Random
  #ms: number | undefined
  #rounds = 0
  #nextProbe: number
  #before = 0

  constructor(random: Random) {
    this.#random = random
    this.#nextProbe = this.#gap()
  }

  /** @param follow the algorithm; its `ratio` is the time without load by the time now, in (0, 1] */
  around(follow: (limit: number, round: Round, ratio: number) => number): LimitAlgorithm {
    return {
      next: (limit, round) => {
        const { rttMs, dropped } = round
        if (rttMs === undefined) return dropped ? follow(limit, round, 1) : limit
        const since = this.#rounds++ - this.#nextProbe
        if (since === 0) {
          this.#before = limit
          return limit / PROBE_SHARE
        }
        if (since > 0 && since <= PROBE_SHARE) return limit // the calls of before are still on their way
        if (since > 0) {
          this.#ms = rttMs
          this.#rounds = 0
          this.#nextProbe = this.#gap()
          return this.#before
        }
        this.#ms = Math.min(this.#ms ?? rttMs, rttMs)
        return follow(limit, round, rttMs === 0 ? 1 : this.#ms / rttMs)
      },
    }
  }

  /** Not the same for all, so that a fleet does not probe in step. */
  #gap(): number {
    return Math.round(ROUNDS_BETWEEN_PROBES * (0.75 + 0.5 * this.#random()))
  }
}
