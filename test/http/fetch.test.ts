import { expect, test } from 'vitest'
import { fetchRateLimit } from '../../src/http/index.js'
import { RateLimiter, perMinute } from '../../src/rate-limit/index.js'

const limiter = new RateLimiter({ limits: perMinute(100) })
const limited = (answer: () => Response) => fetchRateLimit(answer, { limiter, key: () => 'all' })

test('an answer whose headers can’t be changed gets the fields on a copy', async () => {
  const response = await limited(() => Response.redirect('http://127.0.0.1/', 303))(new Request('http://127.0.0.1/'))
  expect([response.status, response.headers.get('location')]).toEqual([303, 'http://127.0.0.1/'])
  expect(response.headers.has('ratelimit')).toBe(true)
})

test('an answer that can’t be copied either passes as it is', async () => {
  const error = Response.error()
  expect(await limited(() => error)(new Request('http://127.0.0.1/'))).toBe(error)
})
