import { connect } from 'node:net'
import { parseList } from 'structured-headers'
import { describe, expect, test } from 'vitest'
import { ProblemError, type RateLimitOptions } from 'holdfast/http'
import { RateLimiter, type Decision, type TokenBucketStore } from 'holdfast/rate-limit'
import { ManualClock } from 'holdfast/testing'
import { until } from '../support/until.js'
import { rawly, serve, thrower, type App, type Framework, type Running } from './servers.js'

/** A limiter that refills nothing while a test runs. */
const limiterOf = (capacity: number, name = 'per-client'): RateLimiter =>
  new RateLimiter({ limits: { name, capacity, refillPerSecond: 0.5 }, clock: new ManualClock() })

/** What every adapter keeps: a law per test. */
export function adapterContract(framework: Framework): void {
  const open = (app: App): Promise<Running> => serve(framework, app)
  /** A server behind one limit. */
  const limited = (capacity: number, options: Partial<RateLimitOptions<any>> = {}, app: App = {}): Promise<Running> =>
    open({ limits: [{ limiter: limiterOf(capacity), ...options }], ...app })
  const header = (name: string) => (request: unknown) => framework.header(request, name)
  const statuses = async (url: string, requests: readonly RequestInit[]): Promise<number[]> => {
    const all: number[] = []
    for (const request of requests) all.push((await fetch(url, request)).status)
    return all
  }
  const from = (forwarded: string): RequestInit => ({ headers: { 'x-forwarded-for': forwarded } })

  describe('a request that is admitted', () => {
    test('is answered by the route, with the fields of the limit', async () => {
      const { url } = await limited(3)
      const response = await fetch(url)
      expect([response.status, await response.text(), response.headers.get('x-own')]).toEqual([200, 'ok', 'yes'])
      expect(response.headers.get('ratelimit-policy')).toBe('"per-client";q=3;w=6')
      expect(response.headers.get('ratelimit')).toBe('"per-client";r=2;t=4')
      expect(response.headers.get('retry-after')).toBeNull()
    })

    test('is told when the next one passes, if it was the last', async () => {
      const { url } = await limited(1)
      expect((await fetch(url)).headers.get('ratelimit')).toBe('"per-client";r=0;t=2')
    })

    test('is told of the limit under the name and in the unit that it has for clients', async () => {
      const { url } = await limited(1, { policyName: ({ name }) => `${name} "free"`, quotaUnit: 'content-bytes' })
      const { headers } = await fetch(url)
      expect(headers.get('ratelimit-policy')).toBe('"per-client \\"free\\"";q=1;qu="content-bytes";w=2')
      expect(headers.get('ratelimit')).toBe('"per-client \\"free\\"";r=0;t=2')
      expect(await (await fetch(url)).json()).toMatchObject({ 'violated-policies': ['per-client "free"'] })
    })

    test('by two limits in a row tells of both, in lists', async () => {
      const { url } = await open({ limits: [{ limiter: limiterOf(9, 'all') }, { limiter: limiterOf(3, 'orders') }] })
      const { headers } = await fetch(url)
      const items = (name: string): string[] => headers.get(name)!.split(', ').toSorted()
      expect(items('ratelimit')).toEqual(['"all";r=8;t=16', '"orders";r=2;t=4'])
      expect(items('ratelimit-policy')).toEqual(['"all";q=9;w=18', '"orders";q=3;w=6'])
    })

    test('still tells of the limit when its route throws', async () => {
      const { url } = await limited(3, {}, { run: thrower(new Error('boom')) })
      const { status, headers } = await fetch(url)
      expect([status, headers.get('ratelimit')]).toEqual([500, '"per-client";r=2;t=4'])
    })
  })

  describe('a request that is refused', () => {
    test('does not reach the route, and is a problem as RFC 9457 and the draft have it', async () => {
      let ran = 0
      const { url } = await limited(1, { instance: () => 'urn:request:7' }, { run: () => ran++ })
      await fetch(url)
      const response = await fetch(url)
      expect(ran).toBe(1)
      expect(response.status).toBe(429)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect(response.headers.get('cache-control')).toBe('no-store')
      expect(await response.json()).toEqual({
        type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
        title: 'Quota Exceeded',
        status: 429,
        detail: 'the policy admits this request in 2 s',
        instance: 'urn:request:7',
        code: 'RATE_LIMITED',
        'violated-policies': ['per-client'],
      })
    })

    test('is told to come back when it would pass, and not before its effective window ends', async () => {
      const { url } = await limited(1)
      await fetch(url)
      const { headers } = await fetch(url)
      const [[, parameters]] = parseList(headers.get('ratelimit')!) as [[string, Map<string, number>]]
      expect(Number(headers.get('retry-after'))).toBe(2)
      expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(parameters.get('t')!)
    })

    test('by HEAD has the same headers and no body', async () => {
      const { url } = await limited(1)
      await fetch(url)
      const response = await fetch(url, { method: 'HEAD' })
      expect([response.status, await response.text()]).toEqual([429, ''])
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      expect(response.headers.get('retry-after')).toBe('2')
      expect((await fetch(url)).status).toBe(429) // the connection is fit for the next one
    })

    test('with a body that nobody reads leaves the connection fit for the next request', async () => {
      const { url } = await limited(1)
      await fetch(url)
      const post = { method: 'POST', body: 'x'.repeat(100_000), headers: { 'content-type': 'text/plain' } }
      expect(await statuses(url, [post, post, {}])).toEqual([429, 429, 429])
    })

    test('that costs more than there will ever be is not told to come back', async () => {
      const { url } = await limited(2, { cost: 3 })
      const { status, headers } = await fetch(url)
      expect([status, headers.get('retry-after'), headers.get('ratelimit')]).toEqual([429, null, '"per-client";r=2'])
    })

    test('is answered as onRefused says, with the fields of the limit', async () => {
      const page = new Response('<h1>slowly</h1>', {
        status: 420,
        headers: [
          ['set-cookie', 'a=1'],
          ['set-cookie', 'b=2'],
          ['content-type', 'text/html'],
        ],
      })
      const { url } = await limited(1, { onRefused: () => page })
      await fetch(url)
      const response = await fetch(url)
      expect([response.status, await response.text()]).toEqual([420, '<h1>slowly</h1>'])
      expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2'])
      expect(response.headers.get('retry-after')).toBe('2')
      expect(response.headers.get('ratelimit')).toBe('"per-client";r=0;t=2')
    })

    test('is answered as onRefused says, also without a body, and with its word on when to come back', async () => {
      const { url } = await limited(1, {
        onRefused: () => new Response(null, { status: 403, headers: { 'Retry-After': '120' } }),
      })
      await fetch(url)
      const response = await fetch(url)
      expect([response.status, await response.text()]).toEqual([403, ''])
      expect(response.headers.get('retry-after')).toBe('120')
      expect((await fetch(url)).status).toBe(403)
    })

    test('is answered as onRefused says, with the length that its body has', async () => {
      const headers = { 'content-length': '500', 'transfer-encoding': 'chunked' }
      const { url } = await limited(1, { onRefused: () => new Response('slowly', { status: 429, headers }) })
      await fetch(url)
      expect(await rawly(url)).toMatch(/^HTTP\/1.1 429 [^]*\r\nContent-Length: 6\r\n[^]*\r\n\r\nslowly$/i)
      expect(await rawly(url)).not.toMatch(/\r\n(Content-Length: 500|Transfer-Encoding: )/i)
    })

    test('is an error of the application when onRefused throws', async () => {
      const { url } = await limited(1, {
        onRefused: () => {
          throw new ProblemError(403, { code: 'BANNED' })
        },
      })
      await fetch(url)
      const response = await fetch(url)
      expect([response.status, await response.json()]).toEqual([403, expect.objectContaining({ code: 'BANNED' })])
    })
  })

  describe('whose request it is', () => {
    test('is what key says: each has a bucket of their own', async () => {
      const { url } = await limited(1, { key: header('x-user') })
      const [ann, bob] = [{ headers: { 'x-user': 'ann' } }, { headers: { 'x-user': 'bob' } }]
      expect(await statuses(url, [ann, bob, ann, bob])).toEqual([200, 200, 429, 429])
    })

    test('is the connection’s address when key does not say; nobody takes it by choosing its name', async () => {
      const { url } = await limited(1, { key: async (request) => framework.header(request, 'x-user') })
      const impostor = { headers: { 'x-user': 'ip:127.0.0.1' } }
      expect(await statuses(url, [impostor, impostor, {}, {}])).toEqual([200, 429, 200, 429])
    })

    test('is the connection’s address also of a client that goes while its key is looked up', async () => {
      const real = limiterOf(1)
      const taken: string[] = []
      const consume = (bucket: string): Promise<Decision> => {
        taken.push(bucket)
        return real.consume(bucket)
      }
      let goOn: (() => void) | undefined
      const key = (): Promise<undefined> => new Promise((resolve) => (goOn = () => resolve(undefined)))
      const running = await open({ limits: [{ limiter: { limits: real.limits, consume }, key }] })
      const socket = connect(Number(new URL(running.url).port), '127.0.0.1')
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => goOn !== undefined)
      socket.destroy()
      await until(async () => (await connections(running)) === 0)
      goOn!()
      await until(() => taken.length > 0)
      expect(taken).toEqual(['ip:127.0.0.1'])
    })

    test('is not told by a header that no trusted proxy wrote', async () => {
      const { url } = await limited(1)
      const forged = { headers: { forwarded: 'for=198.51.100.3', 'x-real-ip': '198.51.100.4' } }
      expect(await statuses(url, [from('198.51.100.1'), from('198.51.100.2'), forged])).toEqual([200, 429, 429])
    })

    test('is what the trusted proxies say, whatever the client wrote before them', async () => {
      const { url } = await limited(1, { trustProxy: 1 })
      expect(await statuses(url, [from('203.0.113.1'), from('203.0.113.2')])).toEqual([200, 200])
      expect(await statuses(url, [from('6.6.6.6, 203.0.113.1'), from('"for=x, 203.0.113.2')])).toEqual([429, 429])
    })

    test('is what proxies of a listed network say', async () => {
      const { url } = await limited(1, { trustProxy: ['127.0.0.0/8', '10.0.0.0/8'] })
      const chains = ['203.0.113.1', '6.6.6.6, 203.0.113.1, 10.1.2.3', '6.6.6.6, 203.0.113.2, 10.1.2.3']
      expect(await statuses(url, chains.map(from))).toEqual([200, 429, 200])
    })

    test('is the same for all addresses of one IPv6 network', async () => {
      const { url } = await limited(1, { trustProxy: 1 })
      const chains = ['2001:db8::1', '2001:db8::2', '[2001:db8::ffff:1]:4711', '2001:db8:0:1::1']
      expect(await statuses(url, chains.map(from))).toEqual([200, 429, 429, 200])
    })

    test('does not stand in the answer: neither the key nor a hash that can be guessed', async () => {
      const { url } = await limited(1, { key: header('x-user'), partitionSecret: 'a secret of the service' })
      const ann = { headers: { 'x-user': 'ann@example.org' } }
      const answers = [await fetch(url, ann), await fetch(url, ann)]
      const said = await Promise.all(answers.map(async (a) => JSON.stringify([...a.headers]) + (await a.text())))
      expect(said.join()).not.toContain('ann')
      const keys = answers.map(({ headers }) => /pk=(:.*:)/.exec(headers.get('ratelimit')!)?.[1])
      expect(keys[0]).toMatch(/^:[\w+/]{16}:$/)
      expect(keys[1]).toBe(keys[0])
      const bob = await fetch(url, { headers: { 'x-user': 'bob@example.org' } })
      expect(bob.headers.get('ratelimit')).not.toContain(keys[0])
      const other = await limited(1, { key: header('x-user'), partitionSecret: 'a secret of another' })
      expect((await fetch(other.url, ann)).headers.get('ratelimit')).not.toContain(keys[0])
    })
  })

  describe('what it costs', () => {
    test('is what cost says of the request', async () => {
      const { url } = await limited(10, { cost: (request) => Number(framework.header(request, 'x-cost')) })
      const costing = (cost: number): RequestInit => ({ headers: { 'x-cost': String(cost) } })
      expect(await statuses(url, [costing(7), costing(4), costing(3)])).toEqual([200, 429, 200])
      // What is free passes also when nothing is left, and what has no sense is a mistake of the server.
      expect(await statuses(url, [costing(1), costing(0), costing(-5), costing(NaN)])).toEqual([429, 200, 500, 500])
      expect(await statuses(url, [costing(1)])).toEqual([429])
    })

    test('is nothing where skip says so, and no field is sent', async () => {
      const { url } = await limited(1, { skip: (request) => framework.header(request, 'x-user') === 'admin' })
      const admin = { headers: { 'x-user': 'admin' } }
      expect(await statuses(url, [admin, admin, {}, admin, {}])).toEqual([200, 200, 200, 200, 429])
      const { headers } = await fetch(url, admin)
      expect([headers.get('ratelimit'), headers.get('ratelimit-policy')]).toEqual([null, null])
    })

    test('is not nothing where skip answers later: a promise is no yes', async () => {
      const { url } = await limited(1, { skip: (async () => false) as never })
      expect(await statuses(url, [{}, {}])).toEqual([200, 429])
    })

    test('is never more than there is: 100 at once, and as many pass as the bucket holds', async () => {
      let ran = 0
      const { url } = await limited(30, { key: async () => 'all' }, { run: () => ran++ })
      const all = await Promise.all(Array.from({ length: 100 }, async () => (await fetch(url)).status))
      expect([ran, all.filter((s) => s === 200).length, all.filter((s) => s === 429).length]).toEqual([30, 30, 70])
    })
  })

  describe('when something fails', () => {
    test('a key function that throws refuses the request as an error, and takes nothing', async () => {
      let ran = 0
      const limiter = limiterOf(1)
      const key = () => {
        throw new Error('secret of the session store')
      }
      const { url } = await open({ limits: [{ limiter, key }], run: () => ran++ })
      const response = await fetch(url)
      expect([response.status, ran]).toEqual([500, 0])
      expect(await response.json()).toEqual({ type: 'about:blank', title: 'Internal Server Error', status: 500 })
      expect((await limiter.peek('ip:127.0.0.1')).remaining).toBe(1)
    })

    test('a store that is down lets requests pass by default, and nothing false is told', async () => {
      const { url } = await open({ limits: [{ limiter: new RateLimiter({ limits, store: broken }) }] })
      const { status, headers } = await fetch(url)
      expect([status, headers.get('ratelimit'), headers.get('ratelimit-policy')]).toEqual([200, null, '"l";q=5;w=5'])
    })

    test('a store that is down, with onStoreFailure deny, is no fault of the client: 503', async () => {
      const limiter = new RateLimiter({ limits, store: broken, onStoreFailure: 'deny' })
      const { url } = await open({ limits: [{ limiter }] })
      const response = await fetch(url)
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
      expect(await response.json()).toMatchObject({
        type: 'https://iana.org/assignments/http-problem-types#temporary-reduced-capacity',
        status: 503,
        'violated-policies': ['l'],
      })
    })

    test('a client that goes while the limit is looked up leaves nothing behind', async () => {
      let answer: ((decision: Decision) => void) | undefined
      const real = limiterOf(1)
      const consume = (): Promise<Decision> => new Promise((resolve) => (answer = resolve))
      const running = await open({ limits: [{ limiter: { limits: real.limits, consume } }] })
      const { port } = new URL(running.url)
      const socket = connect(Number(port), '127.0.0.1')
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n')
      await until(() => answer !== undefined)
      socket.destroy()
      await until(async () => (await connections(running)) === 0)
      answer?.(await real.consume('x', 2)) // refused: there is nobody to tell
      answer = undefined
      const next = fetch(running.url)
      await until(() => answer !== undefined)
      answer!(await real.consume('x', 1))
      expect((await next).status).toBe(200)
    })
  })
}

const limits = { name: 'l', capacity: 5, refillPerSecond: 1 }

const broken: TokenBucketStore = {
  take: () => Promise.reject(new Error('ECONNREFUSED')),
  adjust: () => Promise.reject(new Error('ECONNREFUSED')),
  reset: () => Promise.reject(new Error('ECONNREFUSED')),
}

const connections = ({ server }: Running): Promise<number> =>
  new Promise((resolve, reject) => server.getConnections((error, count) => (error ? reject(error) : resolve(count))))
