import { STALE_HEADERS, type Answer } from './answer.js'
import { gateOf, type RateLimitOptions } from './gate.js'
import { applyFields, cut, nodeOrigin, type NodeRequest, type NodeResponse } from './node.js'
import { answererOf, type ErrorHandlerOptions } from './problem-of.js'

/** The part of a Koa context that is used. */
export interface KoaContextLike {
  /** Node's request. */
  readonly req: NodeRequest
  /** Node's response. */
  readonly res: Pick<NodeResponse, 'getHeader' | 'setHeader' | 'writableEnded' | 'stream' | 'destroy'>
  /** As in Koa. */
  readonly headerSent: boolean
  /** As in Koa. */
  readonly writable: boolean
  /** As in Koa. */
  status: number
  /** As in Koa. */
  body: unknown
  /** As in Koa. */
  set(name: string, value: string | string[]): void
  /** As in Koa. */
  remove(name: string): void
}

/** Koa's middleware. */
export type KoaMiddleware<C> = (context: C, next: () => Promise<unknown>) => Promise<void>

/**
 * A rate limit as Koa middleware: `app.use(koaRateLimit({ limiter }))`. The connection's address counts, and `trustProxy` of these
 * options, not `app.proxy`.
 * @throws InvalidOptionError when an option is not what it should be. What an option throws comes out of the middleware.
 */
export function koaRateLimit<C extends KoaContextLike = KoaContextLike>(
  options: RateLimitOptions<C>,
): KoaMiddleware<C> {
  const gate = gateOf(options)
  return async (context, next) => {
    const verdict = await gate(context, nodeOrigin(context.req))
    if (!context.headerSent) applyFields(context.res, verdict)
    if (!verdict.refusal) await next()
    else if (!context.headerSent && context.writable) send(context, verdict.refusal)
  }
}

/**
 * Errors as problems, as Koa's first middleware: `app.use(koaErrorHandler())`. Once the headers have been sent, the connection is
 * cut, and the error goes on to Koa's `error` event.
 * @throws InvalidOptionError when an option is no function.
 */
export function koaErrorHandler<C extends KoaContextLike = KoaContextLike>(
  options?: ErrorHandlerOptions<C>,
): KoaMiddleware<C> {
  const answerer = answererOf(options)
  return async (context, next) => {
    try {
      await next()
    } catch (error) {
      const answer = answerer(error, context, nodeOrigin(context.req))
      if (context.headerSent) {
        cut(context.res) // Koa would leave it open, and the client waiting
        throw error
      }
      send(context, answer)
    }
  }
}

function send(context: KoaContextLike, { status, headers, body }: Answer): void {
  for (const name of STALE_HEADERS) context.remove(name)
  context.body = typeof body === 'object' ? Buffer.from(body) : (body ?? null)
  context.status = status // after the body, of which Koa makes a status of its own
  for (const [name, value] of Object.entries(headers)) context.set(name, typeof value === 'string' ? value : [...value])
}
