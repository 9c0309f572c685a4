import { STALE_HEADERS, type Answer } from './answer.js'
import type { Origin } from './client-address.js'
import { gateOf, type RateLimitOptions, type Verdict } from './gate.js'
import { answererOf, type ErrorHandlerOptions } from './problem-of.js'

/** The part of a `node:http` request that is read; Express's and Connect's are such too. */
export interface NodeRequest {
  /** As in Node. */
  readonly method?: string | undefined
  /** As in Node. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** The connection. */
  readonly socket: {
    /** As in Node. */
    readonly remoteAddress?: string | undefined
  }
}

/** The part of a `node:http` response that is used. */
export interface NodeResponse {
  /** As in Node. */
  statusCode: number
  /** As in Node. */
  readonly headersSent: boolean
  /** As in Node. */
  readonly writableEnded: boolean
  /** As in Node, of HTTP/2 only. */
  readonly stream?:
    | {
        /** As in Node. */
        close(code: number): unknown
      }
    | undefined
  /** As in Node. */
  getHeader(name: string): number | string | string[] | undefined
  /** As in Node. */
  setHeader(name: string, value: string | readonly string[]): unknown
  /** As in Node. */
  removeHeader(name: string): unknown
  /** As in Node. */
  end(body?: string | Uint8Array): unknown
  /** As in Node. */
  destroy(): unknown
}

/**
 * A rate limit for `node:http` and whatever takes `(req, res, next)`. Resolves with whether the request may pass; if not, it has
 * been answered. `if (!(await limit(req, res))) return`
 *
 * With `next`, that is called instead, and with an error when one of the options throws; without it, the promise rejects.
 * @throws InvalidOptionError when an option is not what it should be.
 */
export function nodeRateLimit<R extends NodeRequest = NodeRequest>(
  options: RateLimitOptions<R>,
): (request: R, response: NodeResponse, next?: (error?: unknown) => unknown) => Promise<boolean> {
  const gate = gateOf(options)
  return async (request, response, next) => {
    let verdict: Verdict
    try {
      verdict = await gate(request, nodeOrigin(request))
    } catch (error) {
      if (!next) throw error
      next(error)
      return false
    }
    if (!response.headersSent) applyFields(response, verdict)
    if (verdict.refusal) send(response, request.method, verdict.refusal)
    else next?.()
    return !verdict.refusal
  }
}

/**
 * Answers a request of `node:http` that ended with an error: `handle(req, res).catch((error) => onError(error, req, res))`. Once
 * the headers have been sent, nothing can be said any more: the connection is cut, so that nobody takes the answer for whole.
 * @throws InvalidOptionError when an option is no function.
 */
export function nodeErrorHandler<R extends NodeRequest = NodeRequest>(
  options?: ErrorHandlerOptions<R>,
): (error: unknown, request: R, response: NodeResponse) => void {
  const answerer = answererOf(options)
  return (error, request, response) => send(response, request.method, answerer(error, request, nodeOrigin(request)))
}

/** What is known of a request of `node:http`. */
export function nodeOrigin({ headers, socket }: NodeRequest): Origin {
  const { remoteAddress } = socket // now: a client that goes while its key is looked up takes the address along
  return {
    header: (name) => {
      const value = headers[name]
      return typeof value === 'string' ? value : value?.join(', ')
    },
    address: () => remoteAddress,
  }
}

/** Fields are lists: what another limit has said stays. */
export function applyFields(response: Pick<NodeResponse, 'getHeader' | 'setHeader'>, { fields }: Verdict): void {
  for (const [name, value] of fields) {
    const before = response.getHeader(name)
    response.setHeader(name, before === undefined ? value : `${String(before)}, ${value}`)
  }
}

/** Answers a request of `method`, or breaks off the answer that has begun. */
export function send(response: NodeResponse, method: string | undefined, { status, headers, body }: Answer): void {
  if (response.headersSent) return cut(response)
  for (const name of STALE_HEADERS) response.removeHeader(name)
  response.statusCode = status
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
  if (body !== undefined) response.setHeader('Content-Length', String(Buffer.byteLength(body)))
  response.end(method === 'HEAD' ? undefined : body)
}

/** HTTP/2 would end a response that is destroyed as if it were whole. Source: RFC 9113, 7. */
const INTERNAL_ERROR = 2

/** Breaks off an answer that has begun, so that nobody takes it for whole. One that has been ended is left to arrive. */
export function cut(response: Pick<NodeResponse, 'writableEnded' | 'stream' | 'destroy'>): void {
  if (response.writableEnded) return
  if (response.stream) response.stream.close(INTERNAL_ERROR)
  else response.destroy()
}
