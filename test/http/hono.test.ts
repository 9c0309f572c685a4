import { Hono } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { expect, test } from 'vitest'
import { honoErrorHandler, honoRateLimit } from 'holdfast/http'
import { perMinute, RateLimiter } from 'holdfast/rate-limit'

test('an HTTPException with a response of its own is answered as Hono does it: its status, and the headers set before', async () => {
  const answerOf = async (app: Hono) => {
    app.use(async (context, next) => {
      context.header('set-cookie', 'a=1', { append: true })
      await next()
    })
    app.get('/', () => {
      const res = new Response('who are you?', { headers: { 'www-authenticate': 'Bearer' } })
      throw new HTTPException(401, { res })
    })
    const response = await app.request('/')
    return [response.status, Object.fromEntries(response.headers), await response.text()]
  }
  const ours = await answerOf(new Hono().onError(honoErrorHandler()))
  expect(ours).toEqual(await answerOf(new Hono()))
  expect(ours).toEqual([
    401,
    expect.objectContaining({ 'set-cookie': 'a=1', 'www-authenticate': 'Bearer' }),
    'who are you?',
  ])
})

test('an answer that can’t be copied, such as an upgrade, passes as it is', async () => {
  const limiter = new RateLimiter({ limits: perMinute(100) })
  const app = new Hono().use(honoRateLimit({ limiter, key: () => 'all' }))
  const upgrade = Response.error() // Node makes no Response with the status 101
  app.get('/', () => upgrade)
  expect(await app.request('/')).toBe(upgrade)
})

test('an error that has somebody else’s response is 500, and says nothing of it', async () => {
  const reported: unknown[] = []
  const app = new Hono().onError(honoErrorHandler({ report: ({ error }) => void reported.push(error) }))
  const boom = Object.assign(new Error('bad gateway'), { res: new Response('secret', { status: 200 }) })
  app.get('/', () => {
    throw boom
  })
  const response = await app.request('/')
  expect([response.status, await response.json()]).toEqual([500, expect.objectContaining({ status: 500 })])
  expect(reported).toEqual([boom])
})
