import type { Decision, Limit } from '../rate-limit/index.js'
import { problem, type Problem } from './problem.js'
import { integerItem, parseItems, stringItem, type BareItem, type Item } from './structured-field.js'

// All that follows from draft-ietf-httpapi-ratelimit-headers-11 (23 May 2026) stands here: the draft moves.

const TYPES = 'https://iana.org/assignments/http-problem-types#'

/** A policy of the other side, as `RateLimit-Policy` tells it. */
export interface RateLimitPolicy {
  /** What the policy is called. */
  readonly name: string
  /** What a client may use per window, in {@link unit}s. Integer ≥ 0. */
  readonly quota: number
  /** `'requests'`, `'content-bytes'`, `'concurrent-requests'`, or whatever came. */
  readonly unit: string
  /** The window in milliseconds, if it has one. */
  readonly windowMs: number | undefined
  /** Whose share it is, in base64: to be compared, not read. */
  readonly partitionKey: string | undefined
}

/** What is left under a policy, as `RateLimit` tells it. */
export interface ServiceLimit {
  /** The policy it is about. */
  readonly name: string
  /** What may still be used. Integer ≥ 0. No promise: the other side may refuse all the same. */
  readonly remaining: number
  /** In how many milliseconds no more than {@link remaining} should be used. */
  readonly windowMs: number | undefined
  /** Whose share it is, in base64: to be compared, not read. */
  readonly partitionKey: string | undefined
}

/**
 * The value of `RateLimit-Policy` for one limit: a full bucket, and the time in which it fills. Whoever uses so much in so much
 * time stays within the limit. Windows are whole seconds, so one that is shorter is told as 1.
 */
export function policyItem({ capacity, refillPerSecond }: Limit, name: string, unit: string | undefined): string {
  const qu = unit === undefined ? '' : `;qu=${stringItem(unit)}`
  const window = Math.max(1, Math.ceil(capacity / refillPerSecond))
  return `${stringItem(name)};q=${integerItem(capacity)}${qu};w=${integerItem(window)}`
}

/**
 * The value of `RateLimit` after a decision. `undefined` when the store failed: nobody knows then.
 * @param partitionKey base64
 */
export function limitItem(decision: Decision, name: string, partitionKey: string | undefined): string | undefined {
  if (decision.storeFailed) return undefined
  const seconds = effectiveSeconds(decision)
  const t = seconds === Infinity ? '' : `;t=${integerItem(seconds)}`
  const pk = partitionKey === undefined ? '' : `;pk=:${partitionKey}:`
  return `${stringItem(name)};r=${integerItem(decision.remaining)}${t}${pk}`
}

/**
 * Seconds in which no more than `remaining` should be used: when the next token is there if none is left, else as long as so
 * many tokens take to come back (whoever takes `remaining` in that time, again and again, is not refused). After a refusal,
 * when the same request would pass: not later than `Retry-After` says, as section 6 asks.
 */
function effectiveSeconds({ allowed, remaining, retryAfterMs, resetMs, limit }: Decision): number {
  if (!allowed) return Math.max(1, Math.ceil(retryAfterMs / 1_000))
  if (remaining > 0) return Math.ceil(remaining / limit.refillPerSecond)
  const untilOne = resetMs / 1_000 - (limit.capacity - 1) / limit.refillPerSecond
  return Math.max(1, Math.ceil(untilOne))
}

/**
 * The problem of a refused request: it has used its share (section 5.1), or the limiter's store has failed, so that the server
 * can't give it its share just now (section 5.2).
 * @param name of the policy that refuses
 */
export function refusalOf({ retryAfterMs, storeFailed }: Decision, name: string, instance?: string): Problem {
  const more = { code: 'RATE_LIMITED', 'violated-policies': [name], ...(instance === undefined ? {} : { instance }) }
  if (storeFailed) {
    const said = { title: 'Temporary Reduced Capacity', detail: 'the server admits less than usual just now' }
    return problem(503, { type: `${TYPES}temporary-reduced-capacity`, ...said, ...more }, { retryAfterMs })
  }
  const detail =
    retryAfterMs === Infinity
      ? 'this request costs more than the policy ever admits'
      : `the policy admits this request in ${Math.max(1, Math.ceil(retryAfterMs / 1_000))} s`
  return problem(429, { type: `${TYPES}quota-exceeded`, title: 'Quota Exceeded', detail, ...more }, { retryAfterMs })
}

/** The policies in a `RateLimit-Policy` field; none when there is anything wrong with it: section 7. */
export const parsePolicies = (field: string): readonly RateLimitPolicy[] =>
  readItems(field, (name, params, partitionKey) => {
    const quota = countOf(params.get('q'))
    const unit = params.get('qu') ?? { kind: 'string', value: 'requests' }
    const window = params.get('w')
    const seconds = countOf(window)
    if (quota === undefined || unit.kind !== 'string' || (window && !seconds)) return undefined
    return { name, quota, unit: unit.value, windowMs: msOf(seconds), partitionKey }
  })

/** What is left, from a `RateLimit` field; nothing when there is anything wrong with it: section 7. */
export const parseLimits = (field: string): readonly ServiceLimit[] =>
  readItems(field, (name, params, partitionKey) => {
    const remaining = countOf(params.get('r'))
    const window = params.get('t')
    const seconds = countOf(window)
    if (remaining === undefined || (window && seconds === undefined)) return undefined
    return { name, remaining, windowMs: msOf(seconds), partitionKey }
  })

/** What `read` makes of each item; nothing at all when it refuses one. */
function readItems<T>(
  field: string,
  read: (name: string, params: Item['params'], partitionKey: string | undefined) => T | undefined,
): readonly T[] {
  const all: T[] = []
  for (const { bare, params } of parseItems(field) ?? []) {
    const key = params.get('pk')
    if (bare.kind !== 'string' && bare.kind !== 'token') return [] // names were Tokens too up to draft 10
    if (key && key.kind !== 'bytes') return []
    const one = read(bare.value, params, key?.value)
    if (one === undefined) return []
    all.push(one)
  }
  return all
}

const countOf = (item: BareItem | undefined): number | undefined =>
  item?.kind === 'integer' && item.value >= 0 ? item.value : undefined

const msOf = (seconds: number | undefined): number | undefined => (seconds === undefined ? undefined : seconds * 1_000)
