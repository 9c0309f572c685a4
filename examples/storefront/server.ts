import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'

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
  const server = createAdaptorServer({ fetch }) as Server
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
