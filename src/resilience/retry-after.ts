import type { Clock } from '../kernel/clock.js'
import { parseRetryAfter } from '../kernel/retry-after.js'

/**
 * How long the other side asks to wait, in milliseconds ≥ 0; `undefined` when it does not say. Looked for in this order:
 * a number `retryAfterMs` (as `RejectedError` has), then a `Retry-After` header of `outcome` itself or of its `response`,
 * in seconds or as an HTTP date (RFC 9110, 10.2.3). Headers may be a `Headers` object or a plain one.
 */
export function retryAfterOf(outcome: unknown, clock: Pick<Clock, 'epochMs'>): number | undefined {
  try {
    return read(outcome, clock)
  } catch {
    return undefined // a getter of the user's error threw: that must not come out in place of the error
  }
}

function read(outcome: unknown, clock: Pick<Clock, 'epochMs'>): number | undefined {
  if (typeof outcome !== 'object' || outcome === null) return undefined
  const { retryAfterMs, headers, response } = outcome as Record<string, unknown>
  if (typeof retryAfterMs === 'number' && retryAfterMs >= 0) return retryAfterMs
  const text = headerOf(headers) ?? headerOf((response as { headers?: unknown } | null | undefined)?.headers)
  return text === undefined ? undefined : parseRetryAfter(text, clock.epochMs())
}

function headerOf(headers: unknown): string | undefined {
  if (typeof headers !== 'object' || headers === null) return undefined
  const { get } = headers as { get?: unknown }
  const value: unknown =
    typeof get === 'function'
      ? (headers as Headers).get('retry-after')
      : Object.entries(headers).find(([name]) => name.toLowerCase() === 'retry-after')?.[1]
  return typeof value === 'string' || typeof value === 'number' ? String(value).trim() : undefined
}
