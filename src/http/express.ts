import type { RateLimitOptions } from './gate.js'
import { nodeOrigin, nodeRateLimit, send, type NodeRequest, type NodeResponse } from './node.js'
import { answererOf, type ErrorHandlerOptions } from './problem-of.js'

/** Express's and Connect's `next`. */
export type Next = (error?: unknown) => unknown

/**
 * A rate limit as Express middleware: `app.use(expressRateLimit({ limiter }))`, or before one route. What an option throws
 * goes to `next`. The connection's address counts, and `trustProxy` of these options, not Express's own setting.
 * @throws InvalidOptionError when an option is not what it should be.
 */
export function expressRateLimit<R extends NodeRequest = NodeRequest>(
  options: RateLimitOptions<R>,
): (request: R, response: NodeResponse, next: Next) => Promise<void> {
  const limit = nodeRateLimit(options)
  return async (request, response, next) => void (await limit(request, response, next))
}

/**
 * Errors as problems, as Express's last middleware: `app.use(expressErrorHandler())`. Once the headers have been sent, the error goes
 * on to Express, which cuts the connection.
 * @throws InvalidOptionError when an option is no function.
 */
export function expressErrorHandler<R extends NodeRequest = NodeRequest>(
  options?: ErrorHandlerOptions<R>,
): (error: unknown, request: R, response: NodeResponse, next: Next) => void {
  const answerer = answererOf(options)
  return (error, request, response, next) => {
    const answer = answerer(error, request, nodeOrigin(request))
    if (response.headersSent) next(error)
    else send(response, request.method, answer)
  }
}
