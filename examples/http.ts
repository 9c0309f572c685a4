// A service that lets each user ask three times at once and twice a second, and a client that waits as it is told.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { nodeErrorHandler, nodeRateLimit, parseRateLimit, ProblemError, throwForStatus } from 'holdfast/http'
import { perSecond, RateLimiter } from 'holdfast/rate-limit'
import { retry } from 'holdfast/resilience'

const limiter = new RateLimiter({ limits: perSecond(2, { burst: 3, name: 'per-user' }) })
const limit = nodeRateLimit({ limiter, key: ({ headers }) => headers['x-user-id'] as string | undefined })
const onError = nodeErrorHandler()

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!(await limit(request, response))) return
  if (request.url !== '/orders') throw new ProblemError(404, { detail: `there is nothing at ${request.url}` })
  response.setHeader('Content-Type', 'application/json').end('["rope","helmet"]')
}
const server = createServer((request, response) => {
  handle(request, response).catch((error) => onError(error, request, response))
})
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
const ask = (path: string, user: string): Promise<Response> =>
  fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, { headers: { 'x-user-id': user } })

console.log('--- ann asks five times')
for (let i = 1; i <= 5; i++) {
  const response = await ask('/orders', 'ann')
  const { limits, retryAfterMs } = parseRateLimit(response.headers)
  const left = `${limits[0]?.remaining} left${retryAfterMs ? `, come back in ${retryAfterMs} ms` : ''}`
  console.log(`${response.status} ${(await response.text()).slice(0, 20)}: ${left}`)
}

console.log('--- a problem says what is wrong')
console.log(await (await ask('/nothing', 'bob')).json())

console.log('--- a client that waits as it is told gets all it wants')
const began = performance.now()
const patient = retry({ attempts: 5 })
for (let i = 1; i <= 3; i++) await patient.execute(async () => throwForStatus(await ask('/orders', 'ann')))
console.log(`three more for ann, after ${Math.round((performance.now() - began) / 1_000)} s`)
server.close()
