import { expect, test } from 'vitest'
import { RelayPublisher } from '../../src/messaging/postgres-relay-publisher.js'
import type { Item } from '../../src/messaging/postgres-relay-window.js'

const item = {
  commit: { owned: {} },
  stored: { id: 'a', type: 't', occurredAt: 0, text: '{"data":1,"headers":{}}' },
} as Item

test('a bus that never answers is called again, with more and more time up to 16 times the limit, and nothing is parked', async () => {
  const limits: unknown[] = []
  const taken: (readonly Item[])[] = []
  let calls = 0
  const publisher = new RelayPublisher(
    {
      publish: () => (++calls > 6 ? Promise.resolve() : new Promise(() => {})),
      park: () => Promise.reject(new Error('parked')),
      holds: () => true,
      published: (items) => taken.push(items),
      failed: (what, error) => limits.push([what, (error as { timeoutMs?: unknown }).timeoutMs]),
    },
    { publishTimeoutMs: 1, backoff: () => 0, parkOn: () => true },
  )
  await publisher.publish([item])
  expect(limits).toEqual([1, 2, 4, 8, 16, 16].map((ms) => ['publish', ms]))
  expect(taken).toEqual([[item]])
})
