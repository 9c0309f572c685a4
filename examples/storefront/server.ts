import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { ProblemError, type Problem } from 'holdfast/http'

const PORTS_TRIED = 20
const GRACE_MS = 1_000

/** A server that listens. */
export interface Listening {
  readonly url: string
  readonly port: number
  /** Takes no new request, answers those under way for a second, then cuts what is left. */
  close(): Promise<void>
}

/**
 * Serves `fetch` on `port`, or on the next one that is free. 0: any free port.
 * @param onTaken told when the port that was wanted is taken
 * @throws what the system says: no such address, no right to use the port
 */
export async function listen(
  fetch: (request: Request) => Response | Promise<Response>,
  { host, port }: { readonly host: string; readonly port: number },
  onTaken: (wanted: number, got: number) => void,
): Promise<Listening> {
  const server = serverFor(fetch)
  const last = port === 0 ? 0 : Math.min(port + PORTS_TRIED, 65_535)
  for (let candidate = port; ; candidate++) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- one port after the other
      await listenOn(server, host, candidate)
      break
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || candidate >= last) throw error
    }
  }
  const got = (server.address() as AddressInfo).port
  if (port !== 0 && got !== port) onTaken(port, got)
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${got}`, port: got, close: () => close(server) }
}

/** What never becomes a request, because it can't be read, is answered as clearly as the rest. */
function serverFor(fetch: (request: Request) => Response | Promise<Response>): Server {
  const answer = getRequestListener(fetch, {
    errorHandler: () => new Response(JSON.stringify(noUrl.details), badRequest),
  })
  const listener: RequestListener = (request, response) => void answer(request, response)
  const server = createServer({ requireHostHeader: false }, listener)
  server.on('checkExpectation', listener) // nobody need expect anything: the request is answered as it is
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (socket.writable) socket.end(textOf(unreadable[error.code ?? ''] ?? noHttp))
    else socket.destroy()
  })
  return server
}

const type = 'application/problem+json'
const badRequest = { status: 400, headers: { 'Content-Type': type } }
const noUrl = new ProblemError(400, { code: 'BAD_REQUEST', detail: 'there is no host of that name, or no such path' })
const noHttp = new ProblemError(400, { code: 'BAD_REQUEST', detail: 'this is no HTTP request' })
const unreadable: Readonly<Record<string, Problem>> = {
  HPE_HEADER_OVERFLOW: new ProblemError(431, { code: 'HEADERS_TOO_LARGE', detail: 'the headers are too large' }),
  ERR_HTTP_REQUEST_TIMEOUT: new ProblemError(408, {
    code: 'REQUEST_TIMEOUT',
    detail: 'the request did not come to its end in time',
  }),
}

/** A problem as it goes over the wire: there is no response object for what was no request. */
function textOf({ status, details }: Problem): string {
  const text = JSON.stringify(details)
  const head = [`HTTP/1.1 ${status} ${details.title}`, `Content-Type: ${type}`, `Content-Length: ${text.length}`]
  return [...head, 'Connection: close', '', text].join('\r\n')
}

const listenOn = (server: Server, host: string, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })

const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), GRACE_MS)
    server.close(() => {
      clearTimeout(cut)
      resolve()
    })
    server.closeIdleConnections()
  })
