import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { isHoldfastError, isRejectedError, type InvalidPayloadError, type TimeoutError } from 'holdfast'
import type { z } from 'zod'
import { OrderRefusal } from './order.js'
import { PaymentUnavailable } from './payment-client.js'

/** What goes wrong, in the words of RFC 9457: the body of every answer that is not a success. */
export interface ProblemBody {
  /** `about:blank`: the status says it all. */
  readonly type: 'about:blank'
  readonly title: string
  readonly status: number
  readonly detail: string
  /** For programs: one word that does not change. */
  readonly code: string
  /** What is wrong with the payload, and where. */
  readonly issues?: readonly { readonly message: string; readonly path: readonly (string | number)[] }[]
}

const titles = {
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  413: 'Content Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
} as const

type Status = keyof typeof titles & ContentfulStatusCode

/** Thrown by a route that knows which answer it wants. */
export class Problem extends Error {
  override readonly name = 'Problem'

  constructor(
    readonly status: Status,
    readonly code: string,
    detail: string,
    readonly more: {
      readonly retryAfterMs?: number | undefined
      readonly headers?: Record<string, string>
      readonly issues?: ProblemBody['issues']
    } = {},
  ) {
    super(detail)
  }
}

/** The one place where an error becomes an answer. The library's families say most of what there is to say. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error
  if (error instanceof OrderRefusal) return new Problem(409, error.code, error.message)
  if (error instanceof PaymentUnavailable) {
    return new Problem(503, 'PAYMENT_UNAVAILABLE', error.message, { retryAfterMs: 1_000 })
  }
  if (isHoldfastError(error, 'INVALID_PAYLOAD')) {
    return new Problem(422, error.code, error.message, { issues: (error as InvalidPayloadError).issues })
  }
  if (isHoldfastError(error, 'NOT_FOUND')) return new Problem(404, error.code, error.message)
  if (isHoldfastError(error, 'VERSION_CONFLICT')) return new Problem(409, error.code, error.message)
  if (isHoldfastError(error, 'RATE_LIMITED') && isRejectedError(error)) {
    return new Problem(429, error.code, error.message, { retryAfterMs: error.retryAfterMs })
  }
  // Refused before anything ran (an open circuit, a closing shop): the same request may do later.
  if (isRejectedError(error)) {
    return new Problem(503, error.code, error.message, { retryAfterMs: error.retryAfterMs ?? 1_000 })
  }
  if (isHoldfastError(error, 'TIMEOUT')) {
    return new Problem(504, error.code, error.message, { retryAfterMs: (error as TimeoutError).timeoutMs })
  }
  if (isHangUp(error)) return new Problem(400, 'BODY_INCOMPLETE', 'the connection was closed in the middle of the body')
  return new Problem(500, 'INTERNAL', 'something went wrong on our side')
}

/** What Node says when the client goes before its request has come to an end. */
const isHangUp = (error: unknown): boolean =>
  error instanceof Error && error.message === 'aborted' && (error as NodeJS.ErrnoException).code === 'ECONNRESET'

/** Sends a problem: its body, and `Retry-After` in whole seconds, never too early. */
export function sendProblem(c: Context, problem: Problem): Response {
  const { retryAfterMs, headers = {} } = problem.more
  if (retryAfterMs !== undefined && retryAfterMs < Infinity) {
    headers['Retry-After'] = String(Math.max(1, Math.ceil(retryAfterMs / 1_000)))
  }
  const body = JSON.stringify(bodyOf(problem))
  return c.body(body, problem.status, { ...headers, 'Content-Type': 'application/problem+json' })
}

/** What a problem says. */
export function bodyOf({ status, code, message, more: { issues } }: Problem): ProblemBody {
  return { type: 'about:blank', title: titles[status], status, detail: message, code, ...(issues && { issues }) }
}

/** `value` as `schema` gives it back. @throws Problem 422 with every issue and where it is. */
export function validated<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issues = result.error.issues.map(({ message, path }) => ({
    message,
    path: path.map((part) => (typeof part === 'number' ? part : String(part))),
  }))
  throw new Problem(422, 'INVALID_PAYLOAD', `${what} is not valid`, { issues })
}
