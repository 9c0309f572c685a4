import { STALE_HEADERS, type Answer } from './answer.js'
import { gateOf, type RateLimitOptions } from './gate.js'
import { applyFields, nodeOrigin, type NodeRequest } from './node.js'
import { answererOf, type ErrorHandlerOptions } from './problem-of.js'

/** The part of a Fastify request that is read. */
export interface FastifyRequestLike {
  /** Node's request. */
  readonly raw: NodeRequest
}

/** The part of a Fastify reply that is used. */
export interface FastifyReplyLike {
  /** As in Fastify. */
  readonly sent: boolean
  /** As in Fastify. */
  code(status: number): unknown
  /** As in Fastify. */
  getHeader(name: string): number | string | string[] | undefined
  /** As in Fastify. */
  header(name: string, value: string | readonly string[]): unknown
  /** As in Fastify. */
  removeHeader(name: string): unknown
  /** As in Fastify. */
  send(body?: unknown): unknown
}

/**
 * A rate limit as a Fastify hook: `app.addHook('onRequest', fastifyRateLimit({ limiter }))` for all routes, or `{ onRequest: … }` of
 * one. With a `key` that needs the body or a user found by an earlier hook, take `preHandler`. What an option throws goes to
 * the error handler. The connection's address counts, and `trustProxy` of these options, not Fastify's own.
 * @throws InvalidOptionError when an option is not what it should be.
 */
export function fastifyRateLimit<R extends FastifyRequestLike = FastifyRequestLike>(
  options: RateLimitOptions<R>,
): (request: R, reply: FastifyReplyLike) => Promise<unknown> {
  const gate = gateOf(options)
  return async (request, reply) => {
    const verdict = await gate(request, nodeOrigin(request.raw))
    if (reply.sent) return reply
    const setHeader = (name: string, value: string | readonly string[]): unknown => reply.header(name, value)
    applyFields({ getHeader: (name) => reply.getHeader(name), setHeader }, verdict)
    if (!verdict.refusal) return undefined
    send(reply, verdict.refusal)
    return reply
  }
}

/**
 * Errors as problems: `app.setErrorHandler(fastifyErrorHandler())`. Fastify's own refusals (a body that is no JSON, or that a schema
 * refuses) keep their status.
 * @throws InvalidOptionError when an option is no function.
 */
export function fastifyErrorHandler<R extends FastifyRequestLike = FastifyRequestLike>(
  options?: ErrorHandlerOptions<R>,
): (error: unknown, request: R, reply: FastifyReplyLike) => void {
  const answerer = answererOf(options)
  return (error, request, reply) => {
    const answer = answerer(error, request, nodeOrigin(request.raw))
    if (!reply.sent) send(reply, answer)
  }
}

function send(reply: FastifyReplyLike, { status, headers, body }: Answer): void {
  for (const name of STALE_HEADERS) reply.removeHeader(name)
  reply.code(status)
  for (const [name, value] of Object.entries(headers)) reply.header(name, value)
  reply.send(body === undefined ? body : Buffer.from(body)) // to a string Fastify would add a charset, which JSON has not
}
