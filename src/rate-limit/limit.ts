import { checkInteger, checkNumber, checkObject, checkString, invalid } from '../kernel/check.js'
import { meterOf } from './gcra.js'

/** A token bucket's shape: over any span of w seconds it admits at most `capacity + refillPerSecond × w` tokens. */
export interface Limit {
  /** Names the limit in decisions and in stores. Not empty; limits of one limiter have different names. */
  readonly name: string
  /** Tokens in a full bucket: the most that passes at once. Integer ≥ 1. */
  readonly capacity: number
  /** Tokens that come back per second. More than 0, at most 1_000_000, and a bucket fills in 70 years or less. */
  readonly refillPerSecond: number
}

/** How a limit differs from its plain form. */
export interface LimitOptions {
  /** Tokens in a full bucket: how many may come at once. Integer ≥ 1. @defaultValue the count of the limit */
  readonly burst?: number | undefined
  /** @defaultValue the rate in words: `'100-per-minute'` */
  readonly name?: string | undefined
}

/**
 * `count` tokens per second on average. `perSecond(10)` lets 10 pass at once and then one each 100 ms.
 * @param count in (0, 1_000_000]; an integer unless `burst` is given
 * @throws InvalidOptionError when a number is out of its range.
 */
export const perSecond = (count: number, options?: LimitOptions): Limit => limitOf(count, 1, 'second', options)

/** `count` tokens per minute on average. @throws InvalidOptionError as {@link perSecond}. */
export const perMinute = (count: number, options?: LimitOptions): Limit => limitOf(count, 60, 'minute', options)

/** `count` tokens per hour on average. @throws InvalidOptionError as {@link perSecond}. */
export const perHour = (count: number, options?: LimitOptions): Limit => limitOf(count, 3_600, 'hour', options)

/** `count` tokens per 24 hours on average. @throws InvalidOptionError as {@link perSecond}. */
export const perDay = (count: number, options?: LimitOptions): Limit => limitOf(count, 86_400, 'day', options)

function limitOf(count: number, seconds: number, unit: string, { burst = count, name }: LimitOptions = {}): Limit {
  checkNumber('count', count, Number.MIN_VALUE, 1e6 * seconds)
  return checkLimit({ name: name ?? `${count}-per-${unit}`, capacity: burst, refillPerSecond: count / seconds })
}

/** A copy of `limit` that nobody can change. @throws InvalidOptionError when a part is out of its range. */
export function checkLimit(limit: Limit): Limit {
  const { name, capacity, refillPerSecond } = checkObject('limit', limit)
  checkString('limit.name', name)
  checkInteger('limit.capacity', capacity, 1)
  meterOf({ capacity, refillPerSecond })
  return Object.freeze({ name, capacity, refillPerSecond })
}

/** Copies of `limits`, of which there is at least one, with different names. @throws InvalidOptionError otherwise. */
export function checkLimits(limits: Limit | readonly Limit[]): readonly Limit[] {
  const all = (Array.isArray(limits) ? (limits as readonly Limit[]) : [limits as Limit]).map(checkLimit)
  if (all.length === 0) return invalid('limits', 'at least one limit', [])
  const names = new Set<string>()
  for (const { name } of all) {
    if (names.has(name)) return invalid('limits', 'limits with different names', name)
    names.add(name)
  }
  return Object.freeze(all)
}
