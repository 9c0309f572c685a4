import { checkInteger } from '../kernel/check.js'
import { HoldfastError } from '../kernel/errors.js'
import { retryAfterField } from './retry-after.js'

/** What a problem says. Source: RFC 9457, 3. */
export interface ProblemDetails {
  /** A URI that names the kind of problem; `'about:blank'`: the status says it all. */
  readonly type: string
  /** The kind of problem for people, the same each time. */
  readonly title: string
  /** The status of the answer. */
  readonly status: number
  /** What is wrong this time, for people. */
  readonly detail?: string | undefined
  /** A URI of this very occurrence. */
  readonly instance?: string | undefined
  /** Whatever else the kind of problem has to say. Here: `code`, `issues`, `violated-policies`. */
  readonly [member: string]: unknown
}

/** An answer that says what went wrong: `application/problem+json`. */
export interface Problem {
  /** 400 to 599. */
  readonly status: number
  /** `Retry-After` and the like; neither the media type nor the length of the body. */
  readonly headers: Readonly<Record<string, string>>
  /** The body. */
  readonly details: ProblemDetails
}

/** What may be said of a problem. Members with other names are sent as they are. */
export interface ProblemMembers {
  /** @defaultValue `'about:blank'` */
  readonly type?: string | undefined
  /** @defaultValue the words of the status */
  readonly title?: string | undefined
  /** Goes to the client: no secrets. */
  readonly detail?: string | undefined
  /** A URI of this very occurrence. */
  readonly instance?: string | undefined
  /** One word for programs, which does not change. */
  readonly code?: string | undefined
  /** Whatever JSON can say. */
  readonly [member: string]: unknown
}

/** What stands beside the body of a problem. */
export interface ProblemOptions extends ErrorOptions {
  /** Sent as `Retry-After` in whole seconds, rounded up; `undefined` and `Infinity` are not sent. */
  readonly retryAfterMs?: number | undefined
  /** Further headers. @defaultValue none */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/**
 * Thrown by code that knows which answer it wants: the error handlers of this module send it as it is.
 * `throw new ProblemError(409, { code: 'ORDER_SHIPPED', detail: 'order 7 is on its way' })`
 */
export class ProblemError extends HoldfastError implements Problem {
  readonly code = 'PROBLEM'
  readonly headers: Readonly<Record<string, string>>
  readonly details: ProblemDetails

  /**
   * @param status of the answer: integer in [400, 599]
   * @throws InvalidOptionError when it is out of its range.
   */
  constructor(
    readonly status: number,
    members: ProblemMembers = {},
    options: ProblemOptions = {},
  ) {
    const { headers, details } = problem(checkInteger('status', status, 400, 599), members, options)
    super(details.detail ?? details.title, options)
    this.headers = headers
    this.details = details
  }

  override get name(): string {
    return 'ProblemError'
  }
}

/** A problem, as {@link ProblemError} has it, and no error. */
export function problem(
  status: number,
  { type = 'about:blank', title = titles[status] ?? 'Error', ...members }: ProblemMembers = {},
  { retryAfterMs, headers }: ProblemOptions = {},
): Problem {
  const retryAfter = retryAfterField(retryAfterMs)
  return {
    status,
    headers: { ...headers, ...(retryAfter === undefined ? {} : { 'Retry-After': retryAfter }) },
    details: { type, title, status, ...members },
  }
}

/** RFC 9110, 15, RFC 6585 and RFC 7725. */
const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  406: 'Not Acceptable',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  409: 'Conflict',
  410: 'Gone',
  411: 'Length Required',
  412: 'Precondition Failed',
  413: 'Content Too Large',
  414: 'URI Too Long',
  415: 'Unsupported Media Type',
  416: 'Range Not Satisfiable',
  417: 'Expectation Failed',
  421: 'Misdirected Request',
  422: 'Unprocessable Content',
  426: 'Upgrade Required',
  428: 'Precondition Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  451: 'Unavailable For Legal Reasons',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
  511: 'Network Authentication Required',
}
