import { HoldfastError } from '../kernel/errors.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { httpDate, parseRetryAfter } from '../kernel/retry-after.js'
import type { ProblemDetails } from './problem.js'
import { parseLimits, parsePolicies, type RateLimitPolicy, type ServiceLimit } from './rate-limit-draft.js'

/** Headers of a response: a `Headers` object, or a plain one as Node has it, with names in small letters. */
export type HeadersLike =
  | {
      /** The value of a header, several lines of it joined by commas. */
      get(name: string): string | null | undefined
    }
  | Readonly<Record<string, string | readonly string[] | undefined>>

/** What a server says of its limits. */
export interface RateLimitInfo {
  /** Its policies, from `RateLimit-Policy`; empty when it tells none. */
  readonly policies: readonly RateLimitPolicy[]
  /** What is left under them, from `RateLimit`; empty when it does not tell. */
  readonly limits: readonly ServiceLimit[]
  /**
   * Milliseconds ≥ 0 to wait before the next request: what `Retry-After` says, else until the last of the limits with nothing
   * left has some. `undefined`: nothing says to wait.
   */
  readonly retryAfterMs: number | undefined
}

/** How headers are read. */
export interface ParseOptions {
  /** For a `Retry-After` that is a date, in a response without `Date`. @defaultValue the process clock */
  readonly clock?: Pick<Clock, 'epochMs'> | undefined
}

/**
 * Reads what a server says of its limits: `RateLimit`, `RateLimit-Policy` and `Retry-After`, or else the older
 * `RateLimit-Limit`, `-Remaining` and `-Reset`, also with `X-` before them. Fields that are malformed count as absent, as do
 * those of a response from a cache (`Age` above 0). Never throws.
 */
export function parseRateLimit(headers: HeadersLike, { clock = systemClock }: ParseOptions = {}): RateLimitInfo {
  const read = (name: string): string | undefined => headerOf(headers, name)
  const now = httpDate(read('date')) ?? clock.epochMs() // the server's own clock, if it tells: ours may be wrong
  const isFresh = !(Number(read('age')) > 0)
  const told = isFresh ? parseLimits(read('ratelimit') ?? '') : []
  const limits = told.length > 0 || !isFresh ? told : olderLimits(read, now)
  const empty = limits.filter(({ remaining, windowMs }) => remaining === 0 && windowMs !== undefined)
  const wait = empty.length > 0 ? Math.max(...empty.map(({ windowMs }) => windowMs ?? 0)) : undefined
  return {
    policies: isFresh ? parsePolicies(read('ratelimit-policy') ?? '') : [],
    limits,
    retryAfterMs: parseRetryAfter(read('retry-after') ?? '', now) ?? wait,
  }
}

function headerOf(headers: HeadersLike, name: string): string | undefined {
  try {
    const value = typeof headers.get === 'function' ? headers.get(name) : (headers as Record<string, unknown>)[name]
    if (Array.isArray(value)) return value.join(', ')
    return typeof value === 'string' ? value : undefined
  } catch {
    return undefined
  }
}

/** The three fields of the draft up to its version 6, and what was usual before it. */
function olderLimits(read: (name: string) => string | undefined, now: number): readonly ServiceLimit[] {
  for (const prefix of ['ratelimit', 'x-ratelimit']) {
    const remaining = numberOf(read(`${prefix}-remaining`))
    if (remaining === undefined) continue
    const reset = numberOf(read(`${prefix}-reset`))
    return [{ name: 'default', remaining, windowMs: reset && resetMs(reset, now), partitionKey: undefined }]
  }
  return []
}

/** Seconds from now, or (where that would be 30 years and more) an instant in epoch seconds. */
const resetMs = (reset: number, now: number): number => (reset < 1e9 ? reset * 1_000 : Math.max(0, reset * 1_000 - now))

const numberOf = (text: string | undefined): number | undefined =>
  text !== undefined && /^\d{1,15}$/.test(text.trim()) ? Number(text) : undefined

/** A server answered with a status of 400 or above. `retry` waits as long as `retryAfterMs` says. */
export class HttpStatusError extends HoldfastError {
  readonly code = 'HTTP_STATUS'

  constructor(
    /** The status of the response. */
    readonly status: number,
    /** How long the server asks to wait, in milliseconds. */
    readonly retryAfterMs: number | undefined,
    /** What it says went wrong, if it says so as RFC 9457 has it. Comes from outside: nothing of it is checked. */
    readonly problem: Partial<ProblemDetails> | undefined,
  ) {
    super(`the server answered ${status}${typeof problem?.title === 'string' ? ` ${problem.title}` : ''}`)
  }

  override get name(): string {
    return 'HttpStatusError'
  }
}

/** A problem that is longer is not read. */
const MAX_PROBLEM_BYTES = 65_536

/**
 * Lets a response with a status below 400 pass, and throws for any other. Its body is then read if it is a problem, else dropped, so
 * that the connection is free again.
 * @returns `response`, its body untouched
 * @throws HttpStatusError with the status, `retryAfterMs` and the problem. What reading the body throws is not told.
 */
export async function throwForStatus(response: Response, options?: ParseOptions): Promise<Response> {
  if (response.status < 400) return response
  const { retryAfterMs } = parseRateLimit(response.headers, options)
  throw new HttpStatusError(response.status, retryAfterMs, await problemIn(response))
}

async function problemIn(response: Response): Promise<Partial<ProblemDetails> | undefined> {
  try {
    const isProblem = /^application\/problem\+json\s*(;|$)/i.test(response.headers.get('content-type') ?? '')
    if (!isProblem) {
      await response.body?.cancel()
      return undefined
    }
    const said: unknown = JSON.parse(await textOf(response))
    return typeof said === 'object' && said !== null && !Array.isArray(said) ? said : undefined
  } catch {
    return undefined
  }
}

/** @throws when it is too long */
async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.byteLength
    if (length > MAX_PROBLEM_BYTES) throw new RangeError('too long') // leaving the loop cancels the body
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
