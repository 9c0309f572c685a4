import { createServer } from 'node:http'
import { describe, expect, onTestFinished, test } from 'vitest'
import { nodeErrorHandler } from 'holdfast/http'
import { errorContract } from './contract-errors.js'
import { adapterContract } from './contract.js'
import { frameworks, listen } from './servers.js'

// The same laws for every framework, over real HTTP on the loopback.
describe.each(frameworks.map((framework) => [framework.name, framework] as const))('%s', (_, framework) => {
  adapterContract(framework)
  errorContract(framework)
})

test('node:http: an error of a route that has promised trailers is answered like any other', async () => {
  const onError = nodeErrorHandler({ report: () => {} })
  const server = createServer((request, response) => {
    response.setHeader('Trailer', 'Server-Timing')
    onError(new Error('boom'), request, response)
  })
  const { url, close } = await listen(server)
  onTestFinished(close)
  const response = await fetch(url)
  expect([response.status, response.headers.get('trailer')]).toEqual([500, null])
})
