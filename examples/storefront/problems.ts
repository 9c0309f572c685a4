import { InvalidPayloadError, isHoldfastError, type TimeoutError } from 'holdfast'
import { ProblemError, type Problem } from 'holdfast/http'
import type { z } from 'zod'
import { OrderRefusal } from './order.js'
import { PaymentUnavailable } from './payment-client.js'

/** What the shop's own errors are to a client. Those of holdfast need no word here: `holdfast/http` knows them. */
export function problemOfShop(error: unknown): Problem | undefined {
  if (error instanceof OrderRefusal) return new ProblemError(409, { code: error.code, detail: error.message })
  if (error instanceof PaymentUnavailable) {
    const members = { code: 'PAYMENT_UNAVAILABLE', detail: error.message }
    return new ProblemError(503, members, { retryAfterMs: 1_000 })
  }
  if (isHoldfastError(error, 'TIMEOUT')) {
    const { code, timeoutMs } = error as TimeoutError // of a query: it may be asked again
    return new ProblemError(504, { code, detail: error.message }, { retryAfterMs: timeoutMs })
  }
  if (isHangUp(error)) {
    const detail = 'the connection was closed in the middle of the body'
    return new ProblemError(400, { code: 'BODY_INCOMPLETE', detail })
  }
  return undefined
}

/** What Node says when the client goes before its request has come to an end. */
const isHangUp = (error: unknown): boolean =>
  error instanceof Error && error.message === 'aborted' && (error as NodeJS.ErrnoException).code === 'ECONNRESET'

/** `value` as `schema` gives it back. @throws InvalidPayloadError (422) with every issue and where it is. */
export function validated<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issues = result.error.issues.map(({ message, path }) => ({
    message,
    path: path.map((part) => (typeof part === 'number' ? part : String(part))),
  }))
  throw new InvalidPayloadError(`${what} is not valid`, issues)
}
