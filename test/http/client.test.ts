import { describe, expect, onTestFinished, test } from 'vitest'
import { nodeRateLimit, parseRateLimit, throwForStatus, type HttpStatusError } from 'holdfast/http'
import { perSecond, RateLimiter } from 'holdfast/rate-limit'
import { retry, retryHistory } from 'holdfast/resilience'
import { ManualClock } from 'holdfast/testing'
import { createServer } from 'node:http'
import { limitItem, policyItem, refusalOf } from '../../src/http/rate-limit-draft.js'
import { fc, prop } from '../support/prop.js'
import { listen } from './servers.js'

const clock = { epochMs: () => Date.UTC(2026, 10, 27, 12, 0, 0) }
const parse = (headers: Record<string, string>) => parseRateLimit(headers, { clock })

describe('the fields of a limit', () => {
  const count = fc.integer({ min: 0, max: 1e9 })
  prop(
    'are read as they were written, whatever the name, the numbers and the unit',
    [
      fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) }),
      fc.integer({ min: 1, max: 1e6 }),
      fc.double({ min: 0.001, max: 1e6, noNaN: true }),
      count,
      fc.option(fc.constant('content-bytes'), { nil: undefined }),
    ],
    (name, capacity, refillPerSecond, remaining, unit) => {
      const limit = { name, capacity, refillPerSecond }
      const decision = { allowed: true, remaining, retryAfterMs: 0, resetMs: 0, limit, storeFailed: false }
      const { policies, limits } = parse({
        'ratelimit-policy': policyItem(limit, name, unit),
        ratelimit: limitItem(decision, name, 'YQ==')!,
      })
      const windowMs = Math.max(1, Math.ceil(capacity / refillPerSecond)) * 1_000
      const partitionKey = undefined
      expect(policies).toEqual([{ name, quota: capacity, unit: unit ?? 'requests', windowMs, partitionKey }])
      expect(limits).toEqual([{ name, remaining, windowMs: expect.any(Number) as number, partitionKey: 'YQ==' }])
    },
  )

  prop(
    'never tell a client to wait longer than Retry-After does, nor it to come back earlier than the limit admits it',
    [fc.integer({ min: 1, max: 1e7 })],
    (retryAfterMs) => {
      const limit = { name: 'l', capacity: 5, refillPerSecond: 0.1 }
      const decision = { allowed: false, remaining: 0, retryAfterMs, resetMs: 50_000, limit, storeFailed: false }
      const said = Number(refusalOf(decision, 'l').headers['Retry-After'])
      const { limits } = parse({ ratelimit: limitItem(decision, 'l', undefined)! })
      expect(said * 1_000).toBeGreaterThanOrEqual(retryAfterMs)
      expect(limits[0]!.windowMs).toBeLessThanOrEqual(said * 1_000)
    },
  )

  prop(
    'can’t carry a header of their own into the answer, whatever a limit is called',
    [fc.string({ unit: 'binary' })],
    (name) => {
      const headers = new Headers({
        'ratelimit-policy': policyItem({ name, capacity: 1, refillPerSecond: 1 }, name, name),
      })
      expect([...headers.keys()]).toEqual(['ratelimit-policy'])
      expect(parseRateLimit(headers).policies).toHaveLength(1)
    },
  )
})

describe('a client', () => {
  test('waits as Retry-After says, else until the last limit with nothing left has some', () => {
    const limits = '"a";r=0;t=5, "b";r=0;t=9, "c";r=3;t=60'
    expect(parse({ ratelimit: limits }).retryAfterMs).toBe(9_000)
    expect(parse({ ratelimit: limits, 'retry-after': '2' }).retryAfterMs).toBe(2_000)
    expect(parse({ ratelimit: '"a";r=1;t=5' }).retryAfterMs).toBeUndefined()
    expect(parse({}).retryAfterMs).toBeUndefined()
  })

  test.each([
    ['Fri, 27 Nov 2026 12:00:30 GMT', 30_000],
    ['Friday, 27-Nov-26 12:00:30 GMT', 30_000],
    ['Fri Nov 27 12:00:30 2026', 30_000],
    ['Fri Nov  6 12:00:30 2026', 0],
    ['Fri, 27 Nov 2026 11:00:00 GMT', 0],
    ['0', 0],
    ['-5', undefined],
    ['1.5', 1_500],
    ['soon', undefined],
    ['5, 10', undefined],
  ])('reads Retry-After: %s', (field, ms) => {
    const before = process.env['TZ']
    onTestFinished(() => {
      if (before === undefined) delete process.env['TZ']
      else process.env['TZ'] = before
    })
    process.env['TZ'] = 'Pacific/Auckland' // the form without a zone means GMT, wherever this runs
    expect(parse({ 'retry-after': field }).retryAfterMs).toBe(ms)
  })

  test('counts a date from the server’s own clock where it tells that', () => {
    const said = { 'retry-after': 'Fri, 27 Nov 2026 12:00:30 GMT', date: 'Fri, 27 Nov 2026 12:00:20 GMT' }
    expect(parse(said).retryAfterMs).toBe(10_000)
  })

  test('reads the older fields, in seconds from now or as an instant', () => {
    const windowOf = (headers: Record<string, string>) => parse(headers).limits[0]
    expect(windowOf({ 'ratelimit-remaining': '0', 'ratelimit-reset': '7' })).toMatchObject({ windowMs: 7_000 })
    const instant = String(clock.epochMs() / 1_000 + 9)
    expect(windowOf({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': instant })).toMatchObject({ windowMs: 9_000 })
    expect(parse({ 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '3' }).retryAfterMs).toBe(3_000)
    expect(windowOf({ 'x-ratelimit-remaining': 'many' })).toBeUndefined()
  })

  test('believes nothing that a cache has kept, and no field that is malformed in any part', () => {
    expect(parse({ ratelimit: '"a";r=0;t=5', age: '3' })).toEqual({ policies: [], limits: [], retryAfterMs: undefined })
    for (const bad of [
      '"a";r=0;t=5, "b"',
      '"a";r=-1',
      '"a";r=1.5',
      'a;r="1"',
      '1;r=1',
      '"a";r=1;pk="x"',
      '"a";r=1;t=x',
    ])
      expect(parse({ ratelimit: bad }).limits, bad).toEqual([])
    for (const bad of ['"a"', '"a";q=1;w=0', '"a";q=1;qu=1', '"a";q=?1']) {
      expect(parse({ 'ratelimit-policy': bad }).policies, bad).toEqual([])
    }
  })

  prop('reads whatever comes without throwing', [fc.string(), fc.string(), fc.string()], (limit, policy, after) => {
    const read = parse({ ratelimit: limit, 'ratelimit-policy': policy, 'retry-after': after })
    expect(read.retryAfterMs ?? 0).toBeGreaterThanOrEqual(0)
  })
})

describe('throwForStatus', () => {
  const problemOf = async (body: string | ReadableStream | null, type?: string): Promise<HttpStatusError> => {
    const headers = type === undefined ? {} : { 'content-type': type }
    const response = new Response(body, { status: 503, headers })
    return throwForStatus(response).then(
      () => Promise.reject(new Error('it passed')),
      (error: HttpStatusError) => error,
    )
  }

  test('lets what is no error pass, its body untouched', async () => {
    const response = new Response('ok', { status: 201 })
    expect(await throwForStatus(response)).toBe(response)
    expect(await response.text()).toBe('ok')
  })

  test('has the problem that the server tells, and none where it tells something else', async () => {
    const error = await problemOf('{"title":"Busy","code":"X"}', 'application/problem+json; charset=utf-8')
    expect(error).toMatchObject({ status: 503, problem: { title: 'Busy', code: 'X' }, code: 'HTTP_STATUS' })
    expect(error.message).toBe('the server answered 503 Busy')
    expect((await problemOf('<h1>busy</h1>', 'text/html')).problem).toBeUndefined()
    expect((await problemOf('{"title', 'application/problem+json')).problem).toBeUndefined()
    expect((await problemOf('[1]', 'application/problem+json')).problem).toBeUndefined()
    expect((await problemOf(null, 'application/problem+json')).problem).toBeUndefined()
  })

  test('reads no more of a body than a problem can be long', async () => {
    let pulled = 0
    let cancelled = false
    const endless = new ReadableStream({
      pull(controller) {
        pulled++
        controller.enqueue(new Uint8Array(16_384))
      },
      cancel() {
        cancelled = true
      },
    })
    expect((await problemOf(endless, 'application/problem+json')).problem).toBeUndefined()
    expect([cancelled, pulled < 10]).toEqual([true, true])
  })
})

test('a client with retry gets all it asks for from a server that limits it, waiting as it is told', async () => {
  const time = new ManualClock()
  const limiter = new RateLimiter({ limits: perSecond(1, { burst: 2 }), clock: time })
  const limit = nodeRateLimit({ limiter })
  let refused = 0
  const server = createServer((request, response) => {
    void limit(request, response).then((passes) => (passes ? response.end('ok') : refused++))
  })
  const running = await listen(server)
  onTestFinished(() => running.close())

  const waits: number[] = []
  const patient = retry({ attempts: 10, clock: { ...timeOf(time), setTimer: pass } })
  function pass(fn: () => void, ms: number): () => void {
    waits.push(ms)
    void time.advance(ms).then(fn)
    return () => {}
  }
  for (let i = 0; i < 5; i++) {
    const response = await patient.execute(async () => throwForStatus(await fetch(running.url)))
    expect(await response.text()).toBe('ok')
  }
  expect(refused).toBe(3)
  expect(waits.every((ms) => ms >= 1_000)).toBe(true)

  const hasty = retry({ attempts: 10, maxRetryAfterMs: 500, clock: time })
  const error: unknown = await hasty
    .execute(async () => throwForStatus(await fetch(running.url)))
    .catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ status: 429, retryAfterMs: 1_000 })
  expect(retryHistory(error)).toMatchObject({ stoppedBy: 'retry-after', attempts: 1 })
})

const timeOf = (time: ManualClock) => ({
  now: () => time.now(),
  epochMs: () => time.epochMs(),
  sleep: (ms: number) => time.sleep(ms),
})
