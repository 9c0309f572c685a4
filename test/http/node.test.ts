import { createServer, type Server } from 'node:http'
import {
  connect,
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2'
import type { AddressInfo } from 'node:net'
import express, { type NextFunction, type Request, type Response } from 'express'
import fastify from 'fastify'
import Koa from 'koa'
import { describe, expect, onTestFinished, test } from 'vitest'
import {
  expressErrorHandler,
  fastifyRateLimit,
  koaErrorHandler,
  koaRateLimit,
  nodeErrorHandler,
  nodeRateLimit,
} from 'holdfast/http'
import { perMinute, RateLimiter } from 'holdfast/rate-limit'
import { listen } from './servers.js'

const report = (): void => {}

test('an error of a route that has promised trailers is answered without them', async () => {
  const onError = nodeErrorHandler({ report })
  const server = createServer((request, response) => {
    response.setHeader('Trailer', 'X-Checksum')
    onError(new Error('boom'), request, response)
  })
  const { url, close } = await listen(server)
  onTestFinished(close)
  const { status, headers } = await fetch(url)
  expect([status, headers.has('trailer')]).toEqual([500, false])
})

test('an answer that is whole arrives, although what came after it threw', async () => {
  const app = new Koa()
  app.silent = true
  app.use(koaErrorHandler({ report }))
  app.use((context) => {
    context.respond = false
    context.res.end('x'.repeat(5_000_000))
    throw new Error('boom')
  })
  // oxlint-disable-next-line typescript/no-misused-promises -- Koa answers its own errors
  const { url, close } = await listen(createServer(app.callback()))
  onTestFinished(close)
  expect(await (await fetch(url)).text()).toHaveLength(5_000_000)
})

test('an error after the answer has begun goes on to the handlers of Express behind it', async () => {
  const boom = new Error('boom')
  const seen: unknown[] = []
  const app = express()
  app.use((_, response) => {
    response.write('half')
    throw boom
  })
  app.use(expressErrorHandler({ report }))
  app.use((error: unknown, _: Request, response: Response, _next: NextFunction) => {
    seen.push(error)
    response.destroy()
  })
  const { url, close } = await listen(createServer(app))
  onTestFinished(close)
  await expect(fetch(url).then((response) => response.text())).rejects.toThrow()
  expect(seen).toEqual([boom])
})

describe('a request that somebody answers while its key is looked up', () => {
  const limiter = new RateLimiter({ limits: perMinute(9) })
  /** A key that takes a while, in which `answer` is called. */
  const during = (answer: () => unknown) => async (): Promise<string> => {
    answer()
    await new Promise((resolve) => setImmediate(resolve))
    return 'all'
  }
  const answerOf = async (server: Server): Promise<string> => {
    const { url, close } = await listen(server)
    onTestFinished(close)
    const text = await (await fetch(url)).text()
    await new Promise((resolve) => setTimeout(resolve, 20)) // what comes after it
    return text
  }

  test('keeps that answer in node:http', async () => {
    const outcomes: unknown[] = []
    const server = createServer((request, response) => {
      const limit = nodeRateLimit({ limiter, key: during(() => response.end('too late')) })
      limit(request, response).then(
        (passes) => outcomes.push(passes),
        (error) => outcomes.push(error),
      )
    })
    expect([await answerOf(server), outcomes]).toEqual(['too late', [true]])
  })

  test('keeps that answer in Koa', async () => {
    const errors: unknown[] = []
    const app = new Koa()
    app.on('error', (error) => errors.push(error))
    app.use((context, next) => {
      context.respond = false
      return koaRateLimit({ limiter, key: during(() => context.res.end('too late')) })(context, next)
    })
    // oxlint-disable-next-line typescript/no-misused-promises -- Koa answers its own errors
    expect([await answerOf(createServer(app.callback())), errors]).toEqual(['too late', []])
  })

  test('keeps that answer in Fastify, and its route does not run', async () => {
    let ran = 0
    const app = fastify({ forceCloseConnections: true })
    app.addHook('onRequest', (request, reply) =>
      fastifyRateLimit({ limiter, key: during(() => reply.raw.end('too late')) })(request, reply),
    )
    app.get('/', () => ran++)
    await app.ready()
    expect([await answerOf(app.server), ran]).toEqual(['too late', 0])
  })
})

describe('over HTTP/2', () => {
  type Handler = (request: Http2ServerRequest, response: Http2ServerResponse) => void

  /** What a client gets: the status, the body, and the code that the stream ends with, 0 for none. */
  async function ask(handler: Handler): Promise<[status: number, body: string, code: number]> {
    const server = createHttp2Server(handler)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const client = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    onTestFinished(() => {
      client.destroy()
      server.close()
    })
    return new Promise((resolve) => {
      let [status, body] = [0, '']
      const stream = client.request({ ':path': '/' })
      stream.on('response', (headers) => (status = headers[':status']!))
      stream.on('data', (chunk: Buffer) => (body += chunk.toString()))
      stream.on('error', () => {}).on('close', () => resolve([status, body, stream.rstCode]))
    })
  }

  test('an answer that broke off is not taken for whole', async () => {
    const onError = nodeErrorHandler<Http2ServerRequest>({ report })
    const broken = ask((request, response) => {
      response.write('half')
      setImmediate(() => onError(new Error('boom'), request, response))
    })
    expect(await broken).toEqual([200, 'half', 2])
  })

  test('nor is that of a Koa app', async () => {
    const app = new Koa()
    app.silent = true
    app.use(koaErrorHandler({ report }))
    app.use(async (context) => {
      context.res.write('half')
      await new Promise((resolve) => setImmediate(resolve))
      throw new Error('boom')
    })
    const handle = app.callback() as (request: unknown, response: unknown) => Promise<void>
    expect(await ask((request, response) => void handle(request, response))).toEqual([404, 'half', 2])
  })

  test('a request is limited as over HTTP/1.1', async () => {
    const limiter = new RateLimiter({ limits: perMinute(1) })
    await limiter.consume('ip:127.0.0.1')
    const limit = nodeRateLimit<Http2ServerRequest>({ limiter })
    const [status, body] = await ask((request, response) => void limit(request, response))
    expect([status, (JSON.parse(body) as { code: string }).code]).toEqual([429, 'RATE_LIMITED'])
  })
})
