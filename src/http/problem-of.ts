import { checkFunction } from '../kernel/check.js'
import { familyOf, type HoldfastError } from '../kernel/errors.js'
import { notify } from '../kernel/emitter.js'
import { reportError } from '../kernel/report.js'
import type { Decision } from '../rate-limit/index.js'
import { answerWith, type Answer } from './answer.js'
import type { Origin } from './client-address.js'
import { problem, type Problem } from './problem.js'
import { refusalOf } from './rate-limit-draft.js'

/** How errors become answers. `R` is what the framework hands to its handlers: a request or a context. */
export interface ErrorHandlerOptions<R> {
  /**
   * The problem of an error of the application's own; it is asked first. `undefined`: as without it. When it throws, or
   * gives what can't be sent, the answer is 500. @defaultValue none
   */
  readonly map?: ((error: unknown, request: R) => Problem | undefined) | undefined
  /** Told of every error and the problem that was made of it. @defaultValue errors behind a 500 become warnings of the process */
  readonly report?: ((event: ReportedProblem<R>) => unknown) | undefined
  /** A URI of this very occurrence, for the `instance` of the problem. @defaultValue none */
  readonly instance?: ((request: R) => string | undefined) | undefined
}

/** An error, and what was made of it. */
export interface ReportedProblem<R> {
  /** What was thrown. */
  readonly error: unknown
  /** What the client is told. */
  readonly problem: Problem
  /** The request or context of the framework. */
  readonly request: R
}

/**
 * What a client may be told of `error`. Errors of this library say it by their family and code; `ProblemError` is sent as it
 * is; errors that frameworks make of a client's mistake keep their status from 400 to 499. Everything else is 500, and
 * says nothing. Never throws.
 * @param hasIfMatch whether the request has an `If-Match`: a version conflict is then 412, not 409 @defaultValue false
 */
export function problemOf(error: unknown, hasIfMatch: boolean = false): Problem {
  try {
    return (familyOf(error) ? ours(error as HoldfastError, hasIfMatch) : clientMistake(error)) ?? problem(500)
  } catch {
    return problem(500) // a getter of the error threw
  }
}

/** A {@link HoldfastError} of any copy of the package, with what its subclasses have. */
interface Known extends HoldfastError {
  readonly retryAfterMs?: number
  readonly issues?: readonly unknown[]
  readonly decision?: Decision
}

function ours(error: Known, hasIfMatch: boolean): Problem | undefined {
  const { code, message: detail, family, decision } = error
  switch (code) {
    case 'PROBLEM':
      return error as unknown as Problem
    case 'RATE_LIMITED':
      return decision && refusalOf(decision, decision.limit.name)
    case 'INVALID_PAYLOAD':
      return problem(422, { detail, code, issues: error.issues })
    case 'NOT_FOUND':
      return problem(404, { detail, code })
    case 'VERSION_CONFLICT':
      return problem(hasIfMatch ? 412 : 409, { detail, code })
    case 'TIMEOUT':
      return problem(504, { code })
  }
  if (family === 'conflict') return problem(409, { detail, code })
  // Whatever the server's own troubles are, their words may name its parts: the code is enough.
  if (family === 'rejected') return problem(503, { code }, { retryAfterMs: error.retryAfterMs })
  return family === 'uncertain' ? problem(503, { code }) : undefined
}

/**
 * Errors of other libraries that mean a mistake of the client: those of `http-errors` (Express, Koa and what comes with them)
 * have `expose`, which says whether their words are meant for it; those of Fastify are known by their code, those of Hono can
 * make an answer, and co-body has what is no JSON as `body`. A mere `status` proves nothing: an error of an HTTP client has
 * the status of somebody else's answer.
 */
function clientMistake(error: unknown): Problem | undefined {
  if (typeof error !== 'object' || error === null) return undefined
  const { status, statusCode, expose, code, message, body, getResponse, headers, syscall } = error as Record<
    string,
    unknown
  >
  const answer = status ?? statusCode
  if (!(Number.isInteger(answer) && (answer as number) >= 400 && (answer as number) < 500)) return undefined
  const isTheirs =
    typeof expose === 'boolean' ||
    (typeof code === 'string' && code.startsWith('FST_')) ||
    typeof getResponse === 'function' ||
    error instanceof URIError || // the router of Express could not decode the path
    (error instanceof SyntaxError && typeof body === 'string' && status === 400) // co-body, below the parsers of Koa
  if (!isTheirs) return undefined
  // An error of the operating system names a file of the server's, whatever status it was given.
  const isForThem = expose !== false && syscall === undefined && typeof message === 'string' && message !== ''
  const detail = isForThem ? message : undefined
  return problem(answer as number, detail === undefined ? {} : { detail }, { headers: plain(headers) })
}

/** The headers of an error of `http-errors`, such as `Allow`. */
function plain(headers: unknown): Record<string, string> {
  if (typeof headers !== 'object' || headers === null) return {}
  return Object.fromEntries(
    Object.entries(headers).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  )
}

/** Makes the answer to a request that ended with an error. Never throws. */
export type Answerer<R> = (error: unknown, request: R, origin: Pick<Origin, 'header'>) => Answer

/** @throws InvalidOptionError when an option is no function. */
export function answererOf<R>({ map, report, instance }: ErrorHandlerOptions<R> = {}): Answerer<R> {
  for (const [name, fn] of Object.entries({ map, report, instance })) if (fn !== undefined) checkFunction(name, fn)

  const chosen = (error: unknown, request: R, origin: Pick<Origin, 'header'>): Problem => {
    const found = map?.(error, request) ?? problemOf(error, origin.header('if-match') !== undefined)
    const uri = instance?.(request)
    if (uri === undefined) return found
    return { status: found.status, headers: found.headers, details: { instance: uri, ...found.details } }
  }
  return (error, request, origin) => {
    let told = problem(500)
    let answer = answerWith(told)
    try {
      const found = chosen(error, request, origin)
      answer = answerWith(found)
      told = found
    } catch (mistake) {
      reportError(mistake) // of `map`, or of a problem that can't be sent
    }
    if (report) notify(report, { error, problem: told, request })
    else if (told.status === 500) reportError(error)
    return answer
  }
}
