import { createHmac } from 'node:crypto'
import { checkFunction, checkInteger, checkMethods, invalid } from '../kernel/check.js'
import type { Decision, Limit, RateLimiter } from '../rate-limit/index.js'
import { answerFrom, answerWith, type Answer } from './answer.js'
import { clientKeyOf, ownKey, type ClientAddressOptions, type Origin } from './client-address.js'
import type { Problem } from './problem.js'
import { limitItem, policyItem, refusalOf } from './rate-limit-draft.js'

/** How requests are limited. `R` is what the framework hands to its middleware: a request or a context. */
export interface RateLimitOptions<R> extends ClientAddressOptions {
  /** One for all that share the policy, not one per user. */
  readonly limiter: Pick<RateLimiter, 'consume' | 'limits'>
  /**
   * Whose request it is: a user, a tenant, a token. `undefined`: nobody's, so it is counted by client address. What it throws
   * is an error of the request, which is not run.
   * @defaultValue by client address
   */
  readonly key?: ((request: R) => string | undefined | Promise<string | undefined>) | undefined
  /** Tokens that a request takes. Integer ≥ 0; a request of cost 0 takes none and always passes. @defaultValue 1 */
  readonly cost?: number | ((request: R) => number) | undefined
  /** Whether a request is not to be limited at all: no token, no fields. @defaultValue none is */
  readonly skip?: ((request: R) => boolean) | undefined
  /**
   * Answers a refused request in place of the problem of {@link Refusal}; the fields of the limit are added. `undefined`
   * answers as without it. What it throws goes to the error handler of the framework.
   */
  readonly onRefused?:
    | ((refusal: Refusal, request: R) => Response | undefined | Promise<Response | undefined>)
    | undefined
  /** What clients read as the name of a limit. @defaultValue its `name` */
  readonly policyName?: ((limit: Limit) => string) | undefined
  /** What a token stands for, if not a request: `'content-bytes'` or another unit, sent as `qu`. @defaultValue requests */
  readonly quotaUnit?: string | undefined
  /**
   * With it, `RateLimit` tells clients whose share it is: `pk`, 12 bytes of the HMAC-SHA-256 of the key under this secret. The
   * same in all processes, at least 16 characters. Without one there is no `pk`: a plain hash of a user id or an address is
   * guessed in no time.
   */
  readonly partitionSecret?: string | undefined
  /** A URI of this very occurrence, for the `instance` of the problem. @defaultValue none */
  readonly instance?: ((request: R) => string | undefined) | undefined
}

/** A request that is not let through. */
export interface Refusal {
  /** What the limiter said. */
  readonly decision: Decision
  /** The answer as it would be: 429, or 503 when it is the limiter's store that failed. */
  readonly problem: Problem
}

/** What is to be done with a request. */
export interface Verdict {
  /** Headers of the answer, whichever it is; those that are there already are continued. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** The answer, when the request is not to pass. */
  readonly refusal?: Answer | undefined
}

/** Says of each request whether it may pass. */
export type Gate<R> = (request: R, origin: Origin) => Promise<Verdict>

const SKIPPED: Verdict = { fields: [] }

/** @throws InvalidOptionError when an option is not what it should be. */
export function gateOf<R>(options: RateLimitOptions<R>): Gate<R> {
  const { limiter, key, cost = 1, skip, onRefused, policyName, quotaUnit, partitionSecret, instance } = options
  checkMethods('limiter', limiter, ['consume'])
  if (typeof cost !== 'function') checkInteger('cost', cost, 0)
  for (const [name, fn] of Object.entries({ key, skip, onRefused, policyName, instance })) {
    if (fn !== undefined) checkFunction(name, fn)
  }
  if (partitionSecret !== undefined && !(typeof partitionSecret === 'string' && partitionSecret.length >= 16))
    invalid('partitionSecret', 'at least 16 characters', typeof partitionSecret)
  const clientKey = clientKeyOf(options)
  const names = new Map(limiter.limits.map((limit) => [limit.name, policyName?.(limit) ?? limit.name]))
  const nameOf = ({ name }: Limit): string => names.get(name) ?? name
  const policies = limiter.limits.map((limit) => policyItem(limit, nameOf(limit), quotaUnit)).join(', ')

  return async (request, origin) => {
    if (skip?.(request) === true) return SKIPPED // a promise is not true: an async function must not let all pass
    const own = await key?.(request)
    const bucket = own === undefined ? clientKey(origin) : ownKey(own)
    const tokens = typeof cost === 'function' ? cost(request) : cost
    const decision = await limiter.consume(bucket, tokens)
    const name = nameOf(decision.limit)
    const fields: [string, string][] = [['RateLimit-Policy', policies]]
    const left = limitItem(decision, name, partitionSecret && partitionKeyOf(bucket, partitionSecret))
    if (left !== undefined) fields.push(['RateLimit', left])
    if (decision.allowed || tokens === 0) return { fields }

    const refused = refusalOf(decision, name, instance?.(request))
    const custom = await onRefused?.({ decision, problem: refused }, request)
    return { fields, refusal: custom ? await answerFrom(custom, refused.headers) : answerWith(refused) }
  }
}

const partitionKeyOf = (key: string, secret: string): string =>
  createHmac('sha256', secret).update(key).digest().subarray(0, 12).toString('base64')
