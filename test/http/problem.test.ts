import { stat } from 'node:fs/promises'
import { createServer, STATUS_CODES } from 'node:http'
import express from 'express'
import { describe, expect, test, vi, onTestFinished } from 'vitest'
import {
  ClosedError,
  CorruptDataError,
  InvalidOptionError,
  InvalidPayloadError,
  NotFoundError,
  StoreError,
  TimeoutError,
} from 'holdfast'
import { VersionConflictError } from 'holdfast/event-sourcing'
import { expressErrorHandler, fetchErrorHandler, ProblemError, problemOf, problemResponse } from 'holdfast/http'
import { perSecond, RateLimiter, RateLimitedError } from 'holdfast/rate-limit'
import { BulkheadFullError, CircuitOpenError } from 'holdfast/resilience'
import { SagaConflictError } from 'holdfast/saga'
import { ManualClock } from 'holdfast/testing'
import { fc, prop } from '../support/prop.js'
import { listen } from './servers.js'

async function limited(cost: number): Promise<RateLimitedError> {
  const limiter = new RateLimiter({ limits: perSecond(1, { burst: 2, name: 'l' }), clock: new ManualClock() })
  await limiter.consume('a', 2)
  return new RateLimitedError(await limiter.consume('a', cost))
}
const conflict = new VersionConflictError('order-7', 3, 5, [])

describe('what a client is told of an error', () => {
  test.each([
    ['an open circuit', new CircuitOpenError('secret', 1_500), 503, { code: 'CIRCUIT_OPEN' }, '2'],
    ['an isolated circuit', new CircuitOpenError('secret'), 503, { code: 'CIRCUIT_OPEN' }, undefined],
    ['a full bulkhead', new BulkheadFullError('secret'), 503, { code: 'BULKHEAD_FULL' }, undefined],
    ['a service that closes', new ClosedError('secret'), 503, { code: 'CLOSED' }, undefined],
    ['a store that does not answer', new StoreError('secret'), 503, { code: 'STORE_FAILED' }, undefined],
    ['a timeout', new TimeoutError('secret', 100), 504, { code: 'TIMEOUT' }, undefined],
    ['a conflict of versions', conflict, 409, { code: 'VERSION_CONFLICT', detail: conflict.message }, undefined],
    ['a conflict', new SagaConflictError('taken', 's1'), 409, { code: 'SAGA_CONFLICT', detail: 'taken' }, undefined],
    ['what is not there', new NotFoundError('no order 7'), 404, { code: 'NOT_FOUND', detail: 'no order 7' }, undefined],
    [
      'a payload',
      new InvalidPayloadError('no', [{ message: 'too long', path: ['a', 0] }]),
      422,
      { code: 'INVALID_PAYLOAD', detail: 'no', issues: [{ message: 'too long', path: ['a', 0] }] },
      undefined,
    ],
    ['data that can’t be read', new CorruptDataError('secret'), 500, {}, undefined],
    ['a mistake of the server', new InvalidOptionError('secret'), 500, {}, undefined],
    ['an error that nobody knows', new Error('secret'), 500, {}, undefined],
    ['a status of somebody else’s answer', Object.assign(new Error('secret'), { status: 404 }), 500, {}, undefined],
    ['no error at all', undefined, 500, {}, undefined],
  ])('%s', (_, error, status, members, retryAfter) => {
    const { details, headers, ...rest } = problemOf(error)
    expect({ ...rest, members: details }).toEqual({
      status,
      members: { type: 'about:blank', title: expect.any(String), status, ...members },
    })
    expect(headers['Retry-After']).toBe(retryAfter)
    expect(JSON.stringify(details)).not.toContain('secret')
  })

  test('a version conflict of a request with If-Match is 412', () => {
    expect(problemOf(conflict, true)).toMatchObject({ status: 412, details: { code: 'VERSION_CONFLICT' } })
  })

  test('a request over its limit: when to come back, or that it never may', async () => {
    expect(problemOf(await limited(1))).toMatchObject({
      status: 429,
      headers: { 'Retry-After': '1' },
      details: { 'violated-policies': ['l'], detail: 'the policy admits this request in 1 s' },
    })
    const never = problemOf(await limited(3))
    expect(never).toMatchObject({ status: 429, details: { detail: expect.stringContaining('more than') as string } })
    expect(never.headers).toEqual({})
  })

  test('a mistake of the client that a framework has found keeps its status and words', () => {
    const theirs = Object.assign(new Error('no such file'), { status: 405, expose: true, headers: { Allow: 'GET' } })
    expect(problemOf(theirs)).toMatchObject({
      status: 405,
      headers: { Allow: 'GET' },
      details: { detail: 'no such file', title: 'Method Not Allowed' },
    })
  })

  test('a body that is no JSON, as co-body has found it, is the client’s mistake; what else is no JSON is not', () => {
    const theirs = Object.assign(new SyntaxError('Unexpected end of JSON input'), { status: 400, body: '{' })
    expect(problemOf(theirs)).toMatchObject({ status: 400, details: { detail: 'Unexpected end of JSON input' } })
    // As superagent tells of somebody else's answer.
    const upstream = Object.assign(new SyntaxError('secret'), { statusCode: 400, rawResponse: '{' })
    for (const error of [upstream, new SyntaxError('secret')]) expect(problemOf(error)).toEqual(problemOf(undefined))
  })

  test('a mistake of the client keeps its status, without words that are not meant for it', async () => {
    const hidden = Object.assign(new Error('secret'), { status: 404, expose: false })
    const ofTheSystem = await stat('/secret/file').catch((error: Error) => error)
    const exposed = Object.assign(ofTheSystem, { status: 404, expose: true })
    for (const error of [hidden, exposed]) {
      expect(problemOf(error)).toEqual({
        status: 404,
        headers: {},
        details: { type: 'about:blank', title: 'Not Found', status: 404 },
      })
    }
    expect(problemOf(Object.assign(new Error('secret'), { status: 503, expose: false })).status).toBe(500)
  })

  test('a file that Express can’t find is 404, and its path is not told', async () => {
    const app = express()
    app.use((_, response) => response.sendFile('/secret/file'))
    app.use(expressErrorHandler({ report: () => {} }))
    const { url, close } = await listen(createServer(app))
    onTestFinished(close)
    expect(await (await fetch(url)).json()).toEqual({ type: 'about:blank', title: 'Not Found', status: 404 })
  })

  test('an error that can’t even be looked at is 500', () => {
    const hostile = new Proxy(new Error('x'), {
      get() {
        throw new Error('trap')
      },
    })
    expect(problemOf(hostile).status).toBe(500)
  })

  prop('whatever was thrown: a problem with a status of an error, that JSON can say', [fc.anything()], (thrown) => {
    const { status, details } = problemOf(thrown)
    expect(status).toBe(500)
    expect(JSON.parse(JSON.stringify(details))).toMatchObject({ status, title: 'Internal Server Error' })
  })
})

describe('a problem of the application’s own', () => {
  test('says what it is given, with the words of its status where it is given none', () => {
    const error = new ProblemError(409, { code: 'SHIPPED', detail: 'order 7 is on its way', order: 7 })
    expect(problemOf(error)).toBe(error)
    expect(error).toMatchObject({ message: 'order 7 is on its way', name: 'ProblemError' })
    expect(error.details).toEqual({
      type: 'about:blank',
      title: 'Conflict',
      status: 409,
      code: 'SHIPPED',
      detail: 'order 7 is on its way',
      order: 7,
    })
    expect(new ProblemError(499).details).toMatchObject({ title: 'Error' })
  })

  test.each([402, 407, 416, 417, 421, 426, 451, 505, 511])('has a title of its own with the status %d', (status) => {
    expect(new ProblemError(status).details.title).toBe(STATUS_CODES[status])
  })

  test('tells when to come back in whole seconds, never too early, and not where nobody knows', () => {
    const told = (retryAfterMs: number | undefined) => new ProblemError(503, {}, { retryAfterMs }).headers
    expect(told(1)).toEqual({ 'Retry-After': '1' })
    expect(told(1_001)).toEqual({ 'Retry-After': '2' })
    expect(told(0)).toEqual({ 'Retry-After': '1' })
    expect([told(Infinity), told(undefined), told(NaN)]).toEqual([{}, {}, {}])
  })

  test.each([200, 399, 600, 404.5, NaN, '404'])('is none with the status %s', (status) => {
    expect(() => new ProblemError(status as number)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  })

  test('is a Response for what answers and does not throw', async () => {
    const response = problemResponse(new ProblemError(404, { detail: 'nothing here' }, { headers: { Allow: 'GET' } }))
    expect([response.status, response.headers.get('content-type'), response.headers.get('allow')]).toEqual([
      404,
      'application/problem+json',
      'GET',
    ])
    expect(await response.json()).toMatchObject({ title: 'Not Found', detail: 'nothing here' })
  })
})

describe('an error handler', () => {
  const warnings = (): unknown[] => {
    const seen: unknown[] = []
    const spy = vi.spyOn(process, 'emitWarning').mockImplementation((warning) => void seen.push(warning))
    onTestFinished(() => spy.mockRestore())
    return seen
  }
  const thrower = (error: unknown) => (): never => {
    throw error
  }

  test('answers 500 when map throws, and when a problem is no JSON; both are reported', async () => {
    const seen = warnings()
    const mistake = new Error('in map')
    const first = fetchErrorHandler(thrower(new Error('boom')), { map: thrower(mistake), report: () => {} })
    expect((await first(new Request('http://x/'))).status).toBe(500)
    const circular: Record<string, unknown> = {}
    circular['self'] = circular
    const second = fetchErrorHandler(thrower(new ProblemError(400, circular)), { report: () => {} })
    expect((await second(new Request('http://x/'))).status).toBe(500)
    expect(seen).toEqual([mistake, expect.any(TypeError)])
  })

  test('warns of what is behind a 500, unless report takes it; a report that throws changes nothing', async () => {
    const seen = warnings()
    const boom = new Error('boom')
    expect((await fetchErrorHandler(thrower(boom))(new Request('http://x/'))).status).toBe(500)
    expect((await fetchErrorHandler(thrower(new NotFoundError('x')))(new Request('http://x/'))).status).toBe(404)
    expect(seen).toEqual([boom])
    const bad = fetchErrorHandler(thrower(boom), { report: thrower(new Error('report')) })
    expect((await bad(new Request('http://x/'))).status).toBe(500)
    expect(seen).toHaveLength(2)
  })

  test('takes functions only', () => {
    expect(() => fetchErrorHandler(thrower(0), { map: 'no' as never })).toThrow('map: expected a function')
  })
})
