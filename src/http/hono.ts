import { invalid } from '../kernel/check.js'
import { STALE_HEADERS, type Answer } from './answer.js'
import { originOf } from './fetch.js'
import { gateOf, type RateLimitOptions } from './gate.js'
import { answererOf, type ErrorHandlerOptions } from './problem-of.js'

/** The part of a Hono context that is used. */
export interface HonoContextLike {
  /** What the runtime hands over; that of `@hono/node-server` has Node's request. */
  readonly env: unknown
  /** As in Hono. */
  readonly req: {
    /** The Fetch request. */
    readonly raw: Request
  }
  /** As in Hono. */
  readonly res: Response
  /** As in Hono. */
  header(name: string, value?: string, options?: { append?: boolean }): void
  /** As in Hono. */
  newResponse(
    body: string | Uint8Array<ArrayBuffer> | ReadableStream | null,
    init?: { readonly status?: number },
  ): Response
}

/** How requests to Hono are limited. */
export interface HonoRateLimitOptions<C> extends RateLimitOptions<C> {
  /**
   * The other end of the connection, on runtimes other than Node: `(c) => getConnInfo(c).remote.address` of the runtime's
   * adapter. @defaultValue that of `@hono/node-server`
   */
  readonly address?: ((context: C) => string | undefined) | undefined
}

/**
 * A rate limit as Hono middleware: `app.use(honoRateLimit({ limiter }))`.
 * @throws InvalidOptionError when an option is not what it should be. What an option throws goes to `app.onError`.
 */
export function honoRateLimit<C extends HonoContextLike = HonoContextLike>(
  options: HonoRateLimitOptions<C>,
): (context: C, next: () => Promise<void>) => Promise<Response | undefined> {
  const { address } = options
  const gate = gateOf(options)
  return async (context, next) => {
    const given = address?.(context) // now: a client that goes while its key is looked up takes the address along
    const from = address ? (): string | undefined => given : nodeAddress(context)
    const { fields, refusal } = await gate(context, originOf(context.req.raw, from))
    if (refusal) {
      const response = responseOf(context, refusal)
      for (const [name, value] of fields) response.headers.append(name, value)
      return response
    }
    await next()
    // Only now: a route may answer with a `Response` of its own, which knows nothing of headers set before. An upgrade has a
    // status below 200: to set a header Hono would copy it, and no copy of it is one.
    if (context.res.status >= 200) for (const [name, value] of fields) context.header(name, value, { append: true })
    return undefined
  }
}

function nodeAddress({ env }: HonoContextLike): () => string | undefined {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: string } } }
  const from = incoming?.socket?.remoteAddress
  return () => (incoming ? from : invalid('address', 'a function, on a runtime that is not Node', undefined))
}

/**
 * Errors as problems: `app.onError(honoErrorHandler())`. An `HTTPException` that brings its own response is answered with
 * that, as Hono does it.
 * @throws InvalidOptionError when an option is no function.
 */
export function honoErrorHandler<C extends HonoContextLike = HonoContextLike>(
  options?: ErrorHandlerOptions<C>,
): (error: unknown, context: C) => Response {
  const answerer = answererOf(options)
  return (error, context) => {
    const { res, getResponse } = error as { res?: unknown; getResponse?: unknown }
    // Both: an error of an HTTP client may have somebody else's response.
    if (res instanceof Response && typeof getResponse === 'function') {
      // The status is that of the exception: the response may not have been told it, and says 200.
      const own = (error as { getResponse(): Response }).getResponse()
      return context.newResponse(own.body, own)
    }
    return responseOf(context, answerer(error, context, originOf(context.req.raw)))
  }
}

/** Through the context, so that headers set by others (CORS, cookies) stay. */
function responseOf(context: HonoContextLike, { status, headers, body }: Answer): Response {
  for (const name of STALE_HEADERS) context.header(name)
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value === 'string') context.header(name, value)
    else for (const one of value) context.header(name, one, { append: true })
  }
  return context.newResponse(context.req.raw.method === 'HEAD' ? null : (body ?? null), { status })
}
