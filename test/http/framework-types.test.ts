import { getConnInfo } from '@hono/node-server/conninfo'
import express, { type Request as ExpressRequest } from 'express'
import fastify, { type FastifyRequest } from 'fastify'
import { Hono, type Context } from 'hono'
import Koa, { type Context as KoaContext } from 'koa'
import { expect, test } from 'vitest'
import {
  expressErrorHandler,
  expressRateLimit,
  fastifyErrorHandler,
  fastifyRateLimit,
  fetchRateLimit,
  honoErrorHandler,
  honoRateLimit,
  koaErrorHandler,
  koaRateLimit,
  problemOf,
} from 'holdfast/http'
import { perSecond, RateLimiter } from 'holdfast/rate-limit'

// That this file compiles is the test: the adapters fit the types of the real frameworks, and options see their requests, without a cast.

test('every adapter fits its framework as it is', async () => {
  const limiter = new RateLimiter({ limits: perSecond(10) })

  const app = express()
  app.use(expressRateLimit({ limiter }))
  app.get('/:id', expressRateLimit<ExpressRequest>({ limiter, key: (request) => request.get('x-user') }))
  app.use(expressErrorHandler<ExpressRequest>({ instance: (request) => request.originalUrl }))

  const server = fastify()
  server.addHook('onRequest', fastifyRateLimit({ limiter }))
  server.addHook('preHandler', fastifyRateLimit<FastifyRequest>({ limiter, key: (request) => request.id }))
  server.setErrorHandler(fastifyErrorHandler<FastifyRequest>({ instance: (request) => request.url }))
  await server.ready()

  const koa = new Koa()
  koa.use(koaErrorHandler<KoaContext>({ instance: (context) => context.path }))
  koa.use(koaRateLimit({ limiter }))
  koa.use(koaRateLimit<KoaContext>({ limiter, key: (context) => context.get('x-user') }))

  type Env = { Variables: { user: string } }
  const hono = new Hono<Env>()
  hono.onError(honoErrorHandler<Context<Env>>({ map: (error) => problemOf(error) }))
  hono.use(honoRateLimit<Context>({ limiter, address: (context) => getConnInfo(context).remote.address }))
  hono.use('/orders/*', honoRateLimit<Context<Env>>({ limiter, key: (context) => context.get('user') }))

  interface Info {
    readonly remoteAddr: { readonly hostname: string }
  }
  const deno = fetchRateLimit((_: Request, info: Info) => new Response(info.remoteAddr.hostname), {
    limiter,
    address: (_, info) => info.remoteAddr.hostname,
  })
  const response = await deno(new Request('http://localhost/'), { remoteAddr: { hostname: '203.0.113.9' } })
  expect(await response.text()).toBe('203.0.113.9')
})
