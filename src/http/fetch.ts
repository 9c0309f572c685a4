import { checkFunction } from '../kernel/check.js'
import { answerWith, type Answer } from './answer.js'
import type { Origin } from './client-address.js'
import { gateOf, type RateLimitOptions, type Verdict } from './gate.js'
import type { Problem } from './problem.js'
import { answererOf, type ErrorHandlerOptions } from './problem-of.js'

/**
 * A function that answers Fetch requests, each with a `Response` of its own, to which headers are added. What a runtime hands it
 * besides (`env`, `server`, `info`) is passed on.
 */
export type FetchHandler<Rest extends unknown[] = []> = (
  request: Request,
  ...rest: Rest
) => Response | Promise<Response>

/** How Fetch requests are limited. Unlike a connection, a `Request` has no address: give `key`, `address` or both. */
export interface FetchRateLimitOptions<Rest extends unknown[] = []> extends RateLimitOptions<Request> {
  /**
   * The other end of the connection, which each runtime tells in its own way: `(request, server) =>
   * server.requestIP(request)?.address` (Bun), `(request, info) => info.remoteAddr.hostname` (Deno).
   * @defaultValue unknown: all requests without a `key` share one bucket
   */
  readonly address?: ((request: Request, ...rest: Rest) => string | undefined) | undefined
}

/**
 * `handler` behind a rate limit. A refused request is answered with a problem (429) and does not reach it.
 * @throws InvalidOptionError when an option is not what it should be, or neither `key` nor `address` is given.
 */
export function fetchRateLimit<Rest extends unknown[] = []>(
  handler: FetchHandler<Rest>,
  options: FetchRateLimitOptions<Rest>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  const { key, address } = options
  if (!key) checkFunction('address', address)
  const gate = gateOf(options)
  return async (request, ...rest) => {
    const from = address?.(request, ...rest) // now: a client that goes while its key is looked up takes the address along
    const verdict = await gate(
      request,
      originOf(request, () => from),
    )
    const { refusal } = verdict
    return withFields(refusal ? responseOf(refusal, request.method) : await handler(request, ...rest), verdict)
  }
}

/**
 * `handler` with errors as problems: what it throws becomes the `Response` that {@link problemOf} describes. An error of a body that
 * is already being sent is not seen here: the runtime cuts the connection.
 * @throws InvalidOptionError when an option is no function.
 */
export function fetchErrorHandler<Rest extends unknown[] = []>(
  handler: FetchHandler<Rest>,
  options?: ErrorHandlerOptions<Request>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  const answerer = answererOf(options)
  return async (request, ...rest) => {
    try {
      return await handler(request, ...rest)
    } catch (error) {
      return responseOf(answerer(error, request, originOf(request)), request.method)
    }
  }
}

/** The answer that says `problem`, where there is nothing to throw: `app.notFound(() => problemResponse(new ProblemError(404)))`. */
export const problemResponse = (problem: Problem): Response => responseOf(answerWith(problem), 'GET')

/** What is known of a `Request`. */
export const originOf = (request: Request, address: () => string | undefined = () => undefined): Origin => ({
  header: (name) => request.headers.get(name) ?? undefined,
  address,
})

function responseOf({ status, headers, body }: Answer, method: string): Response {
  const fields = Object.entries(headers).flatMap(([name, value]) =>
    (typeof value === 'string' ? [value] : value).map((one): [string, string] => [name, one]),
  )
  return new Response(method === 'HEAD' ? null : body, { status, headers: fields })
}

function withFields(response: Response, { fields }: Verdict): Response {
  if (fields.length === 0) return response
  try {
    for (const [name, value] of fields) response.headers.append(name, value)
    return response
  } catch {
    // Headers of a redirect, or of what `fetch` brought, can't be changed; an upgrade or an error can't be copied.
    if (response.status < 200) return response
    const copy = new Response(response.body, response)
    for (const [name, value] of fields) copy.headers.append(name, value)
    return copy
  }
}
