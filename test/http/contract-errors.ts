import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { CircuitBreaker, InvalidPayloadError } from 'holdfast'
import { problemOf, ProblemError, type ErrorHandlerOptions } from 'holdfast/http'
import { ManualClock } from 'holdfast/testing'
import { rawly, serve, thrower, type App, type Framework, type Running } from './servers.js'

/** What every adapter makes of an error of the route: a law per test. */
export function errorContract(framework: Framework): void {
  const open = (app: App): Promise<Running> => serve(framework, app)

  describe('an error of the route', () => {
    test.each([
      ['an open circuit', openCircuit, 503, 'CIRCUIT_OPEN'],
      [
        'a payload with issues',
        () => Promise.reject(new InvalidPayloadError('no', [{ message: 'm', path: ['a', 0] }])),
        422,
        'INVALID_PAYLOAD',
      ],
      [
        'a problem',
        () => Promise.reject(new ProblemError(418, { code: 'TEAPOT', title: 'I am a teapot' })),
        418,
        'TEAPOT',
      ],
    ])('%s is answered with what it means', async (_, make, status, code) => {
      const error = await make().catch((e: unknown) => e)
      const { url } = await open({ run: thrower(error) })
      const response = await fetch(url)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect([response.status, await response.json()]).toEqual([status, expect.objectContaining({ status, code })])
      expect(response.headers.get('retry-after')).toBe(code === 'CIRCUIT_OPEN' ? '10' : null)
    })

    test('that nobody knows is 500 and says nothing; it is reported as it is', async () => {
      const boom = new Error('password: hunter2')
      const reported: unknown[] = []
      const { url } = await open({ run: thrower(boom), errors: { report: ({ error }) => void reported.push(error) } })
      const response = await fetch(url)
      expect([response.status, await response.text()]).toEqual([
        500,
        '{"type":"about:blank","title":"Internal Server Error","status":500}',
      ])
      expect(reported).toEqual([boom])
    })

    test('is answered without the headers of the body that was not sent; no cache keeps it', async () => {
      const { url } = await open({ run: thrower(new Error('boom')) })
      const { headers } = await fetch(url)
      expect([headers.get('etag'), headers.get('cache-control')]).toEqual([null, 'no-store'])
    })

    test('is not believed in what its headers say of the body', async () => {
      const headers = { 'content-type': 'text/html', 'content-length': '3', 'transfer-encoding': 'chunked' }
      const { url } = await open({ run: thrower(new ProblemError(401, {}, { headers })) })
      const response = await fetch(url)
      expect(await response.json()).toEqual({ type: 'about:blank', title: 'Unauthorized', status: 401 })
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect(await rawly(url)).not.toMatch(/\r\n(Content-Length: 3|Transfer-Encoding: chunked)\r\n/i)
    })

    test('of the application’s own is what map makes of it, with the instance', async () => {
      const map = (error: unknown) =>
        error instanceof RangeError ? new ProblemError(402, { title: 'Pay' }) : undefined
      const { url } = await open({ run: thrower(new RangeError('x')), errors: { map, instance: () => '/i/1' } })
      expect(await (await fetch(url)).json()).toEqual({
        type: 'about:blank',
        title: 'Pay',
        status: 402,
        instance: '/i/1',
      })
    })

    test.each<[string, ErrorHandlerOptions<unknown>['map']]>([
      [
        'a header with a line of its own',
        () => new ProblemError(400, {}, { headers: { 'X-Why': 'a\r\nset-cookie: b=1' } }),
      ],
      ['a header beyond Latin-1', () => new ProblemError(400, {}, { headers: { 'X-Why': '…' } })],
      ['a header without a name', () => new ProblemError(400, {}, { headers: { '': 'x' } })],
      ['a status that is none', () => ({ ...problemOf(undefined), status: 7 })],
      ['a promise', (async () => new ProblemError(400)) as never],
    ])('that map answers with %s is 500: what can’t be sent breaks nothing', async (_, map) => {
      const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
      onTestFinished(() => warned.mockRestore())
      const { url } = await open({ run: thrower(new Error('boom')), errors: { map, report: () => {} } })
      const response = await fetch(url)
      expect([response.status, response.headers.get('content-type')]).toEqual([500, 'application/problem+json'])
      expect(response.headers.get('set-cookie')).toBeNull()
      expect(warned).toHaveBeenCalledTimes(1)
    })

    test('has each header once, however its name is written', async () => {
      const headers = { 'cache-control': 'max-age=60', 'retry-after': '9' }
      const { url } = await open({ run: thrower(new ProblemError(404, {}, { headers, retryAfterMs: 1_000 })) })
      const response = await fetch(url)
      expect([response.headers.get('cache-control'), response.headers.get('retry-after')]).toEqual(['max-age=60', '1'])
    })

    test('to HEAD has no body, and leaves the connection fit for the next request', async () => {
      const { url } = await open({ run: thrower(new Error('boom')) })
      for (const method of ['HEAD', 'HEAD', 'GET']) {
        const response = await fetch(url, { method })
        expect([response.status, (await response.text()) === '']).toEqual([500, method === 'HEAD'])
      }
    })

    test('after the answer has begun ends it: the client sees that it is not whole, and the server lives', async () => {
      vi.spyOn(console, 'error').mockImplementation(() => {}) // @hono/node-server prints it
      onTestFinished(() => void vi.restoreAllMocks())
      let fail = true
      const boom = new Error('boom')
      const reported: unknown[] = []
      const { url } = await open({
        run: () => {
          if (fail) throw boom
        },
        errors: { report: ({ error }) => void reported.push(error) },
      })
      await expect(fetch(`${url}/late`).then((response) => response.text())).rejects.toThrow()
      expect(reported).toEqual(framework.sendsLater ? [] : [boom])
      fail = false
      expect((await fetch(url)).status).toBe(200)
    })
  })
}

async function openCircuit(): Promise<never> {
  const breaker = new CircuitBreaker({ clock: new ManualClock(), openMs: 10_000 })
  for (let i = 0; i < 5; i++) await breaker.execute(() => Promise.reject(new Error('down'))).catch(() => {})
  return breaker.execute(() => Promise.reject(new Error('unreachable')))
}
