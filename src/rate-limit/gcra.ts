import { invalid } from '../kernel/check.js'
import type { BucketState } from './store.js'

/*
 * The token bucket as GCRA (ITU-T I.371): the whole state of a bucket is one integer, the time at which it is full again.
 * Time is counted in ticks. A token is a whole number of ticks, so tokens are added and taken without rounding, at any
 * rate and for ever; only the clock is rounded, to one tick, and that error does not add up. Where a token takes a whole
 * number of µs (10, 25, 1000 a second, 100 a minute) a tick is exactly 1 µs; elsewhere it is the part of a token nearest to
 * that, between 0.67 and 1.5 µs. The same steps stand in Lua in redis.lua.ts.
 */

/** A limit in ticks. */
export interface Meter {
  /** Ticks in which one token comes back. Integer ≥ 1. */
  readonly ticksPerToken: number
  /** How fast ticks go: 1 where a token takes a whole number of µs. */
  readonly ticksPerMicro: number
  /** Ticks from empty to full. Integer ≤ 2^51. */
  readonly size: number
}

/** The furthest a bucket can be from full, in ticks: some 70 years. Up to the year 2100, now plus this is a safe integer. */
const FURTHEST = 2 ** 51

/** Above this rate a tick is finer than 1 µs, and a double can't hold the time since 1970 in ticks. */
const FASTEST_SHARED = 1e6

/** @throws InvalidOptionError when the rate is not in (0, fastest], or the bucket takes more than some 70 years to fill. */
export function meterOf(
  { capacity, refillPerSecond }: { readonly capacity: number; readonly refillPerSecond: number },
  fastest: number = FASTEST_SHARED,
): Meter {
  if (!(typeof refillPerSecond === 'number' && refillPerSecond > 0 && refillPerSecond <= fastest))
    return invalid('refillPerSecond', `a number in (0, ${fastest}]`, refillPerSecond)
  const ticksPerToken = Math.max(1, Math.round(1e6 / refillPerSecond))
  const ticksPerMicro = (ticksPerToken * refillPerSecond) / 1e6
  const size = capacity * ticksPerToken
  if (size > FURTHEST)
    return invalid('refillPerSecond', `more than ${capacity / 2.25e9} for a capacity of ${capacity}`, refillPerSecond)
  // 100 per minute is not a round number of tokens per second: the last bits of a double would make its ticks uneven.
  return { ticksPerToken, ticksPerMicro: Math.abs(ticksPerMicro - 1) < 1e-12 ? 1 : ticksPerMicro, size }
}

/** `micros` on the limit's scale. Later never comes out as earlier. */
export const ticksAt = (micros: number, { ticksPerMicro }: Meter): number =>
  ticksPerMicro === 1 ? micros : Math.floor(micros * ticksPerMicro)

/** Whether `cost` tokens are there when the bucket is `backlog` ticks from full; for a cost of 0, whether 1 is. */
export const admits = (backlog: number, cost: number, { ticksPerToken, size }: Meter): boolean =>
  backlog + (cost || 1) * ticksPerToken <= size

/** The backlog after `tokens` are given back or, if negative, taken without asking: never above full. */
export const adjusted = (backlog: number, tokens: number, { ticksPerToken }: Meter): number =>
  Math.min(Math.max(backlog - tokens * ticksPerToken, 0), FURTHEST)

/** What a bucket `backlog` ticks from full tells somebody who was admitted, or refused `cost` tokens. */
export function stateOf(backlog: number, cost: number, meter: Meter): BucketState {
  const { ticksPerToken, size } = meter
  const needed = backlog + (cost || 1) * ticksPerToken - size
  return {
    remaining: Math.max(0, Math.floor((size - backlog) / ticksPerToken)),
    retryAfterMs: needed <= 0 ? 0 : cost * ticksPerToken > size ? Infinity : ticksToMs(needed, meter),
    resetMs: ticksToMs(backlog, meter),
  }
}

/** Whole milliseconds in which at least `ticks` pass, wherever between two ticks one starts. */
const ticksToMs = (ticks: number, { ticksPerMicro }: Meter): number =>
  ticksPerMicro === 1 ? Math.ceil(ticks / 1e3) : ticks === 0 ? 0 : Math.ceil((ticks + 1) / ticksPerMicro / 1e3)
