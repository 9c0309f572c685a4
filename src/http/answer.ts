import { checkInteger, invalid } from '../kernel/check.js'
import type { Problem } from './problem.js'

/** An answer as every framework can send it. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | readonly string[]>>
  /** `undefined`: there is none, as with 204. */
  readonly body: string | Uint8Array<ArrayBuffer> | undefined
}

/** What describes the body that is not sent after all, and would be wrong of the one that is. */
export const STALE_HEADERS = [
  'accept-ranges',
  'cache-control',
  'content-digest',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-location',
  'content-range',
  'etag',
  'expires',
  'last-modified',
  'repr-digest',
  'trailer', // with a length, Node would throw
  'transfer-encoding',
] as const

/** What the framework says of the body that it sends. Said twice, the two could differ, and the next answer be read amiss. */
const LENGTHS: readonly string[] = ['content-length', 'transfer-encoding']

const NAME = /^[\w!#$%&'*+.^`|~-]+$/
const VALUE = /^[\t -~\x80-\xff]*$/

/**
 * A problem as it is sent. Never stored by a cache, unless it says so itself: the next one to ask may be served.
 * @throws InvalidOptionError when its status is none of an error, or HTTP can't carry its headers. TypeError when it is no JSON.
 */
export function answerWith({ status, headers, details }: Problem): Answer {
  checkInteger('status', status, 400, 599)
  const sent = new Map<string, [string, string]>() // of names that differ only in their case, the last
  const all = { 'Cache-Control': 'no-store', ...headers, 'Content-Type': 'application/problem+json' }
  for (const [name, given] of Object.entries<unknown>(all)) {
    const value = String(given)
    if (!NAME.test(name) || !VALUE.test(value)) invalid('headers', 'what HTTP can carry', name)
    if (!LENGTHS.includes(name.toLowerCase())) sent.set(name.toLowerCase(), [name, value])
  }
  return { status, headers: Object.fromEntries(sent.values()), body: JSON.stringify(details) }
}

/** A `Response` as it is sent. @param otherwise headers for what it does not say itself */
export async function answerFrom(response: Response, otherwise: Readonly<Record<string, string>>): Promise<Answer> {
  const cookies = response.headers.getSetCookie()
  const missing = Object.entries(otherwise).filter(([name]) => !response.headers.has(name))
  const said = [...response.headers].filter(([name]) => !LENGTHS.includes(name))
  return {
    status: response.status,
    headers: {
      ...Object.fromEntries([...missing, ...said]),
      ...(cookies.length > 0 ? { 'set-cookie': cookies } : {}),
    },
    body: response.body ? new Uint8Array(await response.arrayBuffer()) : undefined,
  }
}
