import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openStorefront, type Client } from './storefront-client.js'

let shop: Client
const order = { items: [{ sku: 'helmet', quantity: 2 }], shipTo: 'Zermatt' }

beforeAll(async () => {
  shop = await openStorefront()
})
afterAll(() => shop.storefront.close())

test('who follows the Location of a new order reads it at once', async () => {
  const placed = await shop.send('POST', '/orders', order)
  expect(placed.status).toBe(202)
  expect(placed.body).toMatchObject({ status: 'placed', version: 1, position: expect.any(Number) })
  const read = await shop.get(placed.headers.get('location') ?? '')
  expect(read).toMatchObject({ status: 200, body: { id: placed.body.id, cents: 13_000, shipTo: 'Zermatt' } })
})

test('an order can be read as it was at any version', async () => {
  const id = await shop.place()
  await shop.ended(id)
  const { body: now } = await shop.get(`/orders/${id}/history`)
  expect(now.events.map(({ type }: { type: string }) => type)).toEqual([
    'OrderPlaced',
    'OrderAccepted',
    'StockReserved',
    'PaymentReceived',
    'OrderShipped',
  ])
  expect(now.state.status).toBe('shipped')
  const { body: then } = await shop.get(`/orders/${id}/history?version=3`)
  expect(then).toMatchObject({ version: 3, state: { status: 'placed', stock: 'reserved', payment: 'none' } })
  expect(then.events).toHaveLength(3)
})

test('an order comes with every state it was in, and the event that led to each', async () => {
  const id = await shop.place()
  await shop.ended(id)
  const { body } = await shop.get(`/orders/${id}/versions`)
  const states = body.versions.map(({ version, type, state: { status, stock, payment, cents } }: any) =>
    [version, type, status, stock, payment, cents].join(' '),
  )
  expect(states).toEqual([
    '1 OrderPlaced placed none none 18900',
    '2 OrderAccepted placed none none 18900',
    '3 StockReserved placed reserved none 18900',
    '4 PaymentReceived placed reserved received 18900',
    '5 OrderShipped shipped reserved received 18900',
  ])
  const { body: history } = await shop.get(`/orders/${id}/history?version=4`)
  expect(body.versions[3].state).toEqual(history.state)
})

test('the list has the newest first, by status and by user', async () => {
  const headers = { 'x-user-id': 'lister' }
  const ids: string[] = []
  for (const shipTo of ['Arco', 'Atlantis']) {
    // oxlint-disable-next-line no-await-in-loop -- one after the other: it is about their order
    const { body } = await shop.send('POST', '/orders', { ...order, shipTo }, headers)
    // oxlint-disable-next-line no-await-in-loop
    await shop.ended(body.id)
    ids.unshift(body.id)
  }
  const list = async (query: string): Promise<string[]> =>
    (await shop.get(`/orders?user=lister&${query}`)).body.orders.map(({ id }: { id: string }) => id)
  expect(await list('')).toEqual(ids)
  expect(await list('status=cancelled')).toEqual([ids[0]])
  expect(await list('limit=1')).toEqual([ids[0]])
})

describe('Idempotency-Key', () => {
  test('the same key is the same order', async () => {
    const headers = { 'x-user-id': 'ada', 'idempotency-key': 'k-1' }
    const answers = await Promise.all(Array.from({ length: 5 }, () => shop.send('POST', '/orders', order, headers)))
    expect(new Set(answers.map(({ status, body }) => `${status} ${body.id} ${body.position}`)).size).toBe(1)
    const { body } = await shop.get('/orders?user=ada')
    expect(body.orders).toHaveLength(1)
    const other = await shop.send('POST', '/orders', order, { ...headers, 'x-user-id': 'beth' })
    expect(other.body.id).not.toBe(answers[0]?.body.id)
  })

  test('the same key with another order is refused', async () => {
    const headers = { 'x-user-id': 'chris', 'idempotency-key': 'k-1' }
    await shop.send('POST', '/orders', order, headers)
    const again = await shop.send('POST', '/orders', { ...order, shipTo: 'Arco' }, headers)
    expect(again).toMatchObject({ status: 422, body: { code: 'IDEMPOTENCY_KEY_REUSED' } })
  })
})

test('a greedy user is told when to come back; others are not held up', async () => {
  const headers = { 'x-user-id': 'greedy' }
  const answers = await Promise.all(Array.from({ length: 40 }, () => shop.send('GET', '/orders', undefined, headers)))
  const refused = answers.filter(({ status }) => status === 429)
  expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(20)
  expect(refused.length).toBeGreaterThan(0)
  for (const { headers: h, body } of refused) {
    expect(h.get('retry-after')).toBe('1')
    expect(body).toMatchObject({ status: 429, code: 'RATE_LIMITED', title: 'Quota Exceeded' })
  }
  expect((await shop.get('/orders')).status).toBe(200)
})

describe('every refusal is a problem as RFC 9457 has it', () => {
  const big = { ...order, shipTo: 'x'.repeat(20_000) }
  test.each([
    ['GET', '/nowhere', undefined, 404, 'NOT_FOUND'],
    ['GET', '/orders/none', undefined, 404, 'NOT_FOUND'],
    ['GET', '/orders/none/history', undefined, 404, 'NOT_FOUND'],
    ['GET', '/orders/none/versions', undefined, 404, 'NOT_FOUND'],
    ['GET', '/orders/none/receipt', undefined, 404, 'NOT_FOUND'],
    ['POST', '/orders/none/cancel', {}, 404, 'NOT_FOUND'],
    ['DELETE', '/orders', undefined, 405, 'METHOD_NOT_ALLOWED'],
    ['PUT', '/orders/x/cancel', {}, 405, 'METHOD_NOT_ALLOWED'],
    ['POST', '/orders', '{"items":', 400, 'INVALID_JSON'],
    ['POST', '/orders', '', 400, 'INVALID_JSON'],
    ['POST', '/orders', 'null', 422, 'INVALID_PAYLOAD'],
    ['POST', '/orders', [], 422, 'INVALID_PAYLOAD'],
    ['POST', '/orders', { items: [], shipTo: 'Arco' }, 422, 'INVALID_PAYLOAD'],
    ['POST', '/orders', { ...order, userId: 'someone-else' }, 422, 'INVALID_PAYLOAD'],
    ['POST', '/orders', { ...order, shipTo: '   ' }, 422, 'INVALID_PAYLOAD'],
    ['POST', '/orders', { items: [{ sku: '__proto__', quantity: 1 }], shipTo: 'Arco' }, 422, 'INVALID_PAYLOAD'],
    ['POST', '/orders', big, 413, 'BODY_TOO_LARGE'],
    ['PATCH', '/switches', { payment: 'explode' }, 422, 'INVALID_PAYLOAD'],
    ['PATCH', '/switches', { ordersPerSecond: 1e9 }, 422, 'INVALID_PAYLOAD'],
    ['GET', '/orders?limit=0', undefined, 422, 'INVALID_PAYLOAD'],
    ['GET', '/orders?limit=many', undefined, 422, 'INVALID_PAYLOAD'],
    ['GET', '/orders?colour=red', undefined, 422, 'INVALID_PAYLOAD'],
    ['GET', '/orders/none?atLeast=-1', undefined, 422, 'INVALID_PAYLOAD'],
    ['GET', '/orders/none/history?version=0', undefined, 422, 'INVALID_PAYLOAD'],
    ['GET', '/events/live?after=the-beginning', undefined, 422, 'INVALID_PAYLOAD'],
    ['GET', '/events/live?before=7', undefined, 422, 'INVALID_PAYLOAD'],
  ])('%s %s %j: %d %s', async (method, path, body, status, code) => {
    const answer = await shop.send(method, path, body)
    expect(answer.body).toMatchObject({
      type: 'about:blank',
      status,
      code,
      title: expect.any(String),
      detail: expect.any(String),
    })
    expect(answer.status).toBe(status)
    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    if (status === 405) expect(answer.headers.get('allow')).toMatch(/GET|POST/)
  })

  test('a payload that is not valid comes back with every issue and where it is', async () => {
    const { body } = await shop.send('POST', '/orders', { items: [{ sku: 'rope', quantity: 0 }], shipTo: 7 })
    expect(body.issues.map(({ path }: { path: unknown }) => path)).toEqual([['items', 0, 'quantity'], ['shipTo']])
  })

  test('a body of another kind is 415', async () => {
    const answer = await shop.send('POST', '/orders', 'items=1', {
      'content-type': 'application/x-www-form-urlencoded',
    })
    expect(answer).toMatchObject({ status: 415, body: { code: 'NOT_JSON' } })
  })

  test('a body that grows too large without saying so is 413', async () => {
    const chunk = new TextEncoder().encode('x'.repeat(4_000))
    let left = 10
    const body = new ReadableStream({ pull: (stream) => (left-- > 0 ? stream.enqueue(chunk) : stream.close()) })
    const init = { method: 'POST', body, duplex: 'half', headers: { 'content-type': 'application/json' } }
    expect((await fetch(new URL('/orders', shop.storefront.url), init as RequestInit)).status).toBe(413)
  })

  test('a user id that is none is refused, and so is a key without end', async () => {
    expect((await shop.send('GET', '/orders', undefined, { 'x-user-id': 'a b' })).status).toBe(422)
    expect((await shop.send('POST', '/orders', order, { 'idempotency-key': 'k'.repeat(300) })).status).toBe(422)
  })

  test('an order that has changed meanwhile is a conflict, and stays as it is', async () => {
    const id = await shop.place()
    await shop.ended(id)
    const answer = await shop.send('POST', `/orders/${id}/cancel`, { expectedVersion: 1 })
    expect(answer).toMatchObject({ status: 409, body: { code: 'VERSION_CONFLICT' } })
    expect((await shop.get(`/orders/${id}`)).body).toMatchObject({ status: 'shipped', version: 5 })
  })

  test('what has not come in time can be asked for again later', async () => {
    const id = await shop.place()
    const answer = await shop.get(`/orders/${id}?atLeast=1000000`)
    expect(answer).toMatchObject({ status: 504, body: { code: 'TIMEOUT' } })
    expect(answer.headers.get('retry-after')).toBe('1')
  })
})

test('the page comes with everything it needs and may load nothing from elsewhere', async () => {
  const page = await shop.get('/')
  expect(page.headers.get('content-security-policy')).toMatch("default-src 'self'")
  const parts = [...String(page.body).matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path ?? '')
  expect(parts.length).toBeGreaterThan(3)
  for (const answer of await Promise.all(parts.map(shop.get))) expect(answer.status).toBe(200)
})
