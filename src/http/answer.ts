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
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-length',
  'content-location',
  'content-range',
  'etag',
  'expires',
  'last-modified',
  'transfer-encoding',
] as const

/** A problem as it is sent. Never stored by a cache: the next one to ask may be served. */
export function answerWith({ status, headers, details }: Problem): Answer {
  return {
    status,
    headers: { 'Cache-Control': 'no-store', 'Content-Type': 'application/problem+json', ...headers },
    body: JSON.stringify(details),
  }
}

/** A `Response` as it is sent. @param otherwise headers for what it does not say itself */
export async function answerFrom(response: Response, otherwise: Readonly<Record<string, string>>): Promise<Answer> {
  const cookies = response.headers.getSetCookie()
  const missing = Object.entries(otherwise).filter(([name]) => !response.headers.has(name))
  return {
    status: response.status,
    headers: {
      ...Object.fromEntries([...missing, ...response.headers]),
      ...(cookies.length > 0 ? { 'set-cookie': cookies } : {}),
    },
    body: response.body ? new Uint8Array(await response.arrayBuffer()) : undefined,
  }
}
