import { createHash, randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { Hono, type Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { secureHeaders } from 'hono/secure-headers'
import { RateLimitedError } from 'holdfast/rate-limit'
import {
  cancelBody,
  orderBody,
  orderQuery,
  historyQuery,
  listQuery,
  switchesBody,
  userIdHeader,
  idempotencyKeyHeader,
} from './payloads.js'
import { Problem, problemOf, sendProblem, validated } from './problems.js'
import type { Shop } from './shop.js'

const contentSecurityPolicy = { defaultSrc: ["'self'"], imgSrc: ["'self'", 'data:'] }
const MAX_BODY_BYTES = 16 * 1024

const pageFolder = new URL('page/', import.meta.url)
const mediaTypes: Readonly<Record<string, string>> = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
}

interface Env {
  Variables: { userId: string }
}

/** The shop's outside: every route, what it takes and what it answers. Whatever goes wrong ends in `problems.ts`. */
export function createApp(shop: Shop): Hono<Env> {
  const app = new Hono<Env>()
  const { queries, limiter, metrics, live } = shop

  app.onError((error, c) => {
    const problem = problemOf(error)
    if (problem.status === 500) console.error(error)
    return sendProblem(c, problem)
  })
  app.notFound((c) => sendProblem(c, new Problem(404, 'NOT_FOUND', `there is nothing at ${c.req.path}`)))

  app.use(secureHeaders({ contentSecurityPolicy, strictTransportSecurity: false }))
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, allowed) => {
        const headers = { Allow: allowed.join(', ') }
        return sendProblem(
          c,
          new Problem(405, 'METHOD_NOT_ALLOWED', `${c.req.method} is not one of ${headers.Allow}`, { headers }),
        )
      },
    }),
  )
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: (c) => sendProblem(c, new Problem(413, 'BODY_TOO_LARGE', `a body has ${MAX_BODY_BYTES} bytes at most`)),
    }),
  )

  // Who is it, and may they? One bucket per user; the answer to one who may not costs next to nothing.
  app.use('/orders/*', async (c, next) => {
    const began = performance.now()
    const userId = validated(userIdHeader, c.req.header('x-user-id') ?? 'anonymous', 'X-User-Id')
    const decision = await limiter.consume(userId)
    if (decision.allowed) {
      c.set('userId', userId)
      await next()
    } else {
      c.res = sendProblem(c, problemOf(new RateLimitedError(decision)))
    }
    metrics.request(performance.now() - began, c.res.status)
  })

  app.post('/orders', async (c) => {
    const { items, shipTo } = validated(orderBody, await readJson(c), 'the order')
    const userId = c.get('userId')
    const key = validated(idempotencyKeyHeader, c.req.header('idempotency-key') ?? randomUUID(), 'Idempotency-Key')
    const orderId = idFor(userId, key)
    const { version, position } = await shop.place({ orderId, userId, items, shipTo })
    // Who follows the Location reads what they wrote: the read model answers when it has come that far.
    c.header('Location', `/orders/${orderId}?atLeast=${position}`)
    return c.json({ id: orderId, status: 'placed', version, position }, 202)
  })

  app.get('/orders', async (c) => {
    const { limit, status, user } = validated(listQuery, c.req.query(), 'the query')
    return c.json({ orders: await queries.send('ListOrders', { limit, status, userId: user }) })
  })

  app.get('/orders/:id', async (c) => {
    const { atLeast } = validated(orderQuery, c.req.query(), 'the query')
    const order = await queries.send('GetOrder', { orderId: c.req.param('id') }, { atLeast, timeoutMs: 1_000 })
    return c.json(order)
  })

  app.get('/orders/:id/history', async (c) => {
    const { version } = validated(historyQuery, c.req.query(), 'the query')
    return c.json(await queries.send('GetHistory', { orderId: c.req.param('id'), version }))
  })

  app.get('/orders/:id/receipt', async (c) => {
    return c.json(await queries.send('GetReceipt', { orderId: c.req.param('id') }))
  })

  app.post('/orders/:id/cancel', async (c) => {
    const orderId = c.req.param('id')
    const { detail, expectedVersion } = validated(cancelBody, await readJson(c), 'the cancellation')
    const { version, position } = await shop.cancel({ orderId, detail, expectedVersion })
    c.header('Location', `/orders/${orderId}?atLeast=${position}`)
    return c.json({ id: orderId, status: 'cancelling', version, position }, 202)
  })

  app.get('/health', (c) => c.json({ status: 'ok', ...shop.about(), breaker: shop.payments.breaker.state }))
  app.get('/switches', (c) => c.json(shop.switches.read()))
  app.patch('/switches', async (c) => {
    return c.json(await shop.switches.change(validated(switchesBody, await readJson(c), 'the switches')))
  })

  // Who asks for the headers only would be a page that watches for ever.
  app.get('/live', (c) => (c.req.method === 'HEAD' ? c.body(null, 200, live.headers) : live.open()))
  for (const file of readdirSync(pageFolder)) {
    const content = readFileSync(new URL(file, pageFolder))
    const headers = { 'Content-Type': `${mediaTypes[extname(file)]}; charset=utf-8`, 'Cache-Control': 'no-cache' }
    app.get(file === 'index.html' ? '/' : `/${file}`, (c) => c.body(content, 200, headers))
  }
  return app
}

/** The same user's same key is the same order, whichever process is asked. */
const idFor = (userId: string, key: string): string =>
  createHash('sha256')
    .update(JSON.stringify([userId, key]))
    .digest('hex')
    .slice(0, 32)

async function readJson(c: Context): Promise<unknown> {
  if (!/^application\/json\s*(;|$)/i.test(c.req.header('content-type') ?? '')) {
    throw new Problem(415, 'NOT_JSON', 'Content-Type: application/json is the only kind of body taken')
  }
  const text = await c.req.text()
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Problem(400, 'INVALID_JSON', `the body is no JSON: ${(error as Error).message}`)
  }
}
