import { checkNumber, checkObject, checkOneOf } from '../kernel/check.js'
import type { Backoff } from '../kernel/backoff.js'

export type { Backoff, BackoffContext } from '../kernel/backoff.js'

/** Any finite wait: a bound that keeps products of two of them finite too. */
const LONGEST = Number.MAX_SAFE_INTEGER

/** The same wait each time. @param ms ≥ 0 @throws InvalidOptionError when `ms` is out of its range. */
export function constant(ms: number): Backoff {
  checkNumber('ms', ms, 0, LONGEST)
  return () => ms
}

/** How {@link exponential} grows, and how chance spreads callers that failed together. */
export interface ExponentialOptions {
  /** The first wait, in milliseconds. ≥ 0. @defaultValue 100 */
  readonly initialMs?: number | undefined
  /** No wait is longer, in milliseconds. ≥ `initialMs`. @defaultValue 30_000, or `initialMs` if that is more */
  readonly maxMs?: number | undefined
  /** What each wait is multiplied by. ≥ 1. With `'decorrelated'` it bounds the growth at random. @defaultValue 2, or 3 with `'decorrelated'` */
  readonly factor?: number | undefined
  /**
   * `'none'`: exactly w = min(`maxMs`, `initialMs` × `factor`^(attempt − 1)). `'full'`: uniform in [0, w). `'equal'`: uniform in
   * [w/2, w). `'decorrelated'`: min(`maxMs`, uniform(`initialMs`, previous wait × `factor`)), never below `initialMs`.
   * Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. @defaultValue 'full'
   */
  readonly jitter?: 'none' | 'full' | 'equal' | 'decorrelated' | undefined
}

/** Waits that grow up to a limit, spread by chance. @throws InvalidOptionError when an option is out of its range. */
export function exponential(options: ExponentialOptions = {}): Backoff {
  const { initialMs = 100, maxMs, factor, jitter = 'full' } = checkObject('options', options)
  checkNumber('initialMs', initialMs, 0, LONGEST)
  checkOneOf('jitter', jitter, ['none', 'full', 'equal', 'decorrelated'])
  const most = checkNumber('maxMs', maxMs ?? Math.max(initialMs, 30_000), initialMs, LONGEST)
  const growth = checkNumber('factor', factor ?? (jitter === 'decorrelated' ? 3 : 2), 1, LONGEST)
  if (jitter === 'decorrelated')
    return (_attempt, _error, { previousMs = initialMs, random }) =>
      Math.min(most, initialMs + random() * Math.max(0, previousMs * growth - initialMs))
  const fixed = jitter === 'none' ? 1 : jitter === 'equal' ? 0.5 : 0
  return (attempt, _error, { random }) => {
    const wait = initialMs === 0 ? 0 : Math.min(most, initialMs * growth ** (attempt - 1)) // 0 × Infinity is NaN
    return fixed === 1 ? wait : wait * (fixed + (1 - fixed) * random())
  }
}
