import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import express from 'express'
import fastify from 'fastify'
import { Hono } from 'hono'
import Koa from 'koa'
import { onTestFinished } from 'vitest'
import {
  expressErrorHandler,
  expressRateLimit,
  fastifyErrorHandler,
  fastifyRateLimit,
  fetchErrorHandler,
  fetchRateLimit,
  honoErrorHandler,
  honoRateLimit,
  koaErrorHandler,
  koaRateLimit,
  nodeErrorHandler,
  nodeRateLimit,
  type ErrorHandlerOptions,
  type RateLimitOptions,
} from 'holdfast/http'

/** What a server does, told to each framework in its own words. `R` is whatever it hands to its middleware. */
export interface App {
  /** Two limits stand one behind the other. */
  readonly limits?: readonly RateLimitOptions<any>[]
  readonly errors?: ErrorHandlerOptions<any>
  /** Called by each request that passes. What it throws is what the route throws, after it has set headers of a body it does not send. */
  readonly run?: () => unknown
}

/** One framework, with its adapter. */
export interface Framework {
  readonly name: string
  /** Bodies are sent when the handlers are through: their errors are the runtime's. */
  readonly sendsLater?: boolean
  /** A header as the framework's own users read it. */
  header(request: any, name: string): string | undefined
  /** `/` answers `ok` after `run`; `/late` sends the beginning of a body, then throws what `run` throws. */
  serve(app: App): Promise<Server>
}

const stale = { 'cache-control': 'public, max-age=60', etag: '"1"', 'x-own': 'yes' }

const nodeHeader = (request: { headers: Record<string, unknown> }, name: string) =>
  request.headers[name] as string | undefined

const node: Framework = {
  name: 'node:http',
  header: nodeHeader,
  async serve({ limits = [], errors, run = () => {} }) {
    const guards = limits.map((options) => nodeRateLimit(options))
    const onError = nodeErrorHandler(errors)
    return createServer((request, response) => {
      const handle = async (): Promise<void> => {
        for (const guard of guards) if (!(await guard(request, response))) return
        for (const [name, value] of Object.entries(stale)) response.setHeader(name, value)
        if (request.url === '/late') response.write('half')
        run()
        response.end('ok')
      }
      handle().catch((error: unknown) => onError(error, request, response))
    })
  },
}

const expressApp: Framework = {
  name: 'Express',
  header: nodeHeader,
  async serve({ limits = [], errors, run = () => {} }) {
    const app = express()
    for (const options of limits) app.use(expressRateLimit(options))
    app.use(express.json())
    app.use((request, response) => {
      response.set(stale)
      if (request.path === '/late') response.write('half')
      run()
      response.send('ok')
    })
    app.use(expressErrorHandler(errors))
    return createServer(app)
  },
}

const fastifyApp: Framework = {
  name: 'Fastify',
  header: ({ headers }, name) => headers[name],
  async serve({ limits = [], errors, run = () => {} }) {
    const app = fastify({ forceCloseConnections: true })
    app.setErrorHandler(fastifyErrorHandler(errors))
    for (const options of limits) app.addHook('onRequest', fastifyRateLimit(options))
    app.all('/', (_, reply) => {
      reply.headers(stale)
      run()
      return 'ok'
    })
    app.all('/late', (_, reply) => {
      reply.raw.write('half')
      run()
      return reply
    })
    await app.ready()
    return app.server
  },
}

const koaApp: Framework = {
  name: 'Koa',
  header: (context, name) => context.get(name) || undefined,
  async serve({ limits = [], errors, run = () => {} }) {
    const app = new Koa()
    app.silent = true
    app.use(koaErrorHandler(errors))
    for (const options of limits) app.use(koaRateLimit(options))
    app.use((context) => {
      context.set(stale)
      if (context.path === '/late') context.res.write('half')
      run()
      context.body = 'ok'
    })
    // oxlint-disable-next-line typescript/no-misused-promises -- Koa answers its own errors
    return createServer(app.callback())
  },
}

const honoApp: Framework = {
  name: 'Hono',
  sendsLater: true,
  header: (context, name) => context.req.header(name),
  async serve({ limits = [], errors, run = () => {} }) {
    const app = new Hono()
    app.onError(honoErrorHandler(errors))
    for (const options of limits) app.use(honoRateLimit(options))
    app.all('/', (c) => {
      for (const [name, value] of Object.entries(stale)) c.header(name, value)
      run()
      return c.text('ok')
    })
    app.all('/late', () => halfResponse(run))
    return createAdaptorServer({ fetch: app.fetch }) as Server
  },
}

const fetchApp: Framework = {
  name: 'Fetch',
  sendsLater: true,
  header: (request: Request, name) => request.headers.get(name) ?? undefined,
  async serve({ limits = [], errors, run = () => {} }) {
    type Env = { incoming: { socket: { remoteAddress?: string } } }
    // Around the route, so that its errors carry the fields of the limit; and around all, for what an option throws.
    let handler = fetchErrorHandler(async (request: Request, _env: Env) => {
      if (new URL(request.url).pathname === '/late') return halfResponse(run)
      run()
      return new Response('ok', { headers: stale })
    }, errors)
    const address = (_: Request, { incoming }: Env) => incoming.socket.remoteAddress
    for (const options of limits.toReversed()) handler = fetchRateLimit(handler, { address, ...options })
    const whole = fetchErrorHandler(handler, errors)
    return createAdaptorServer({ fetch: (request, env) => whole(request, env as Env) }) as Server
  },
}

function halfResponse(run: () => unknown): Response {
  const body = new ReadableStream({
    async pull(controller) {
      controller.enqueue(new TextEncoder().encode('half'))
      await new Promise((resolve) => setTimeout(resolve, 20)) // until it has gone out
      try {
        run()
        controller.close()
      } catch (error) {
        controller.error(error)
      }
    },
  })
  return new Response(body)
}

export const frameworks: readonly Framework[] = [node, expressApp, fastifyApp, koaApp, honoApp, fetchApp]

/** A server that listens on a free port of the loopback. */
export interface Running {
  readonly url: string
  readonly server: Server
  readonly close: () => Promise<void>
}

export async function listen(server: Server): Promise<Running> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, close }
}

/** A server of `framework` that ends with the test. */
export async function serve(framework: Framework, app: App): Promise<Running> {
  const running = await listen(await framework.serve({ errors: { report: () => {} }, ...app }))
  onTestFinished(() => running.close())
  return running
}

/** A route that throws. */
export const thrower = (error: unknown) => (): never => {
  throw error
}

/** The whole answer as it comes over the wire. */
export function rawly(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () =>
      socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    )
    socket.on('data', (chunk) => (text += chunk.toString('latin1')))
    socket.on('end', () => resolve(text)).on('error', reject)
  })
}
