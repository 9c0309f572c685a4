import { createHash, randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { Hono, type Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { secureHeaders } from 'hono/secure-headers'
import { NotFoundError } from 'holdfast'
import type { SagaView } from 'holdfast/saga'
import { honoErrorHandler, honoRateLimit, ProblemError, problemResponse } from 'holdfast/http'
import {
  cancelBody,
  eventsQuery,
  operatorBody,
  orderBody,
  orderQuery,
  historyQuery,
  listQuery,
  switchesBody,
  userIdHeader,
  idempotencyKeyHeader,
} from './payloads.js'
import { problemOfShop, validated } from './problems.js'
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
  const { queries, limiter, metrics, live, feed } = shop

  app.onError(honoErrorHandler<Context<Env>>({ map: problemOfShop, report: logOurs }))
  app.notFound(({ req }) =>
    problemResponse(new ProblemError(404, { code: 'NOT_FOUND', detail: `there is nothing at ${req.path}` })),
  )

  app.use(secureHeaders({ contentSecurityPolicy, strictTransportSecurity: false }))
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: ({ req }, methods) => {
        const allowed = methods.join(', ')
        const members = { code: 'METHOD_NOT_ALLOWED', detail: `${req.method} is not one of ${allowed}` }
        return problemResponse(new ProblemError(405, members, { headers: { Allow: allowed } }))
      },
    }),
  )
  const tooLarge = { code: 'BODY_TOO_LARGE', detail: `a body has ${MAX_BODY_BYTES} bytes at most` }
  app.use(bodyLimit({ maxSize: MAX_BODY_BYTES, onError: () => problemResponse(new ProblemError(413, tooLarge)) }))

  // Who is it, and may they? One bucket per user; the answer to one who may not costs next to nothing.
  app.use('/orders/*', async (c, next) => {
    const began = performance.now()
    c.set('userId', validated(userIdHeader, c.req.header('x-user-id') ?? 'anonymous', 'X-User-Id'))
    await next()
    metrics.request(performance.now() - began, c.res.status)
  })
  app.use('/orders/*', honoRateLimit<Context<Env>>({ limiter, key: (c) => c.get('userId') }))

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

  app.get('/orders/:id/versions', async (c) => {
    return c.json(await queries.send('GetVersions', { orderId: c.req.param('id') }))
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

  // Sagas, for those who look after the shop: a parked one waits for them.
  const { orchestrated } = shop.checkouts
  app.get('/sagas/parked', async (c) => c.json({ sagas: await orchestrated.parked(100) }))
  app.get('/sagas/:id', async (c) => c.json(await sagaOf(c.req.param('id'))))
  app.post('/sagas/:id/orders', async (c) => {
    const id = c.req.param('id')
    const { verb, path = '', why } = validated(operatorBody, await readJson(c), 'the order')
    const who = validated(userIdHeader, c.req.header('x-user-id') ?? 'anonymous', 'X-User-Id')
    await orchestrated.operate(id, { verb, path, who, why })
    return c.json({ id, verb }, 202)
  })
  const sagaOf = async (id: string): Promise<SagaView> => {
    const saga = await orchestrated.saga(id)
    if (!saga) throw new NotFoundError(`there is no saga ${id}`)
    return saga
  }

  app.get('/health', async (c) =>
    c.json({ status: 'ok', ...(await shop.about()), breaker: shop.payments.breaker.state }),
  )
  app.get('/switches', (c) => c.json(shop.switches.read()))
  app.patch('/switches', async (c) => {
    return c.json(await shop.switches.change(validated(switchesBody, await readJson(c), 'the switches')))
  })

  // Who asks for the headers only would be a page that watches for ever.
  app.get('/live', (c) => (c.req.method === 'HEAD' ? c.body(null, 200, live.headers) : live.open()))
  app.get('/events/live', (c) => {
    // A browser that was cut off says by itself how far it had come.
    const after = c.req.header('last-event-id') ?? c.req.query('after')
    const from = validated(eventsQuery, { ...c.req.query(), after }, 'the query').after
    return c.req.method === 'HEAD' ? c.body(null, 200, feed.headers) : feed.open(from)
  })
  for (const file of readdirSync(pageFolder)) {
    const content = readFileSync(new URL(file, pageFolder))
    const headers = { 'Content-Type': `${mediaTypes[extname(file)]}; charset=utf-8`, 'Cache-Control': 'no-cache' }
    app.get(file === 'index.html' ? '/' : `/${file}`, (c) => c.body(content, 200, headers))
  }
  return app
}

/** What goes wrong on the shop's own side. */
function logOurs({ error, problem }: { error: unknown; problem: { status: number } }): void {
  if (problem.status === 500) console.error(error)
}

/** The same user's same key is the same order, whichever process is asked. */
const idFor = (userId: string, key: string): string =>
  createHash('sha256')
    .update(JSON.stringify([userId, key]))
    .digest('hex')
    .slice(0, 32)

async function readJson(c: Context): Promise<unknown> {
  if (!/^application\/json\s*(;|$)/i.test(c.req.header('content-type') ?? '')) {
    const detail = 'Content-Type: application/json is the only kind of body taken'
    throw new ProblemError(415, { code: 'NOT_JSON', detail })
  }
  const text = await c.req.text()
  try {
    return JSON.parse(text)
  } catch (error) {
    const detail = `the body is no JSON: ${(error as Error).message}`
    throw new ProblemError(400, { code: 'INVALID_JSON', detail })
  }
}
