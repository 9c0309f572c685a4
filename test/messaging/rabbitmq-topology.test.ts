import { expect, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'
import type { Lines } from '../../src/messaging/rabbitmq-link.js'
import { restoreGroup, type GroupRecord } from '../../src/messaging/rabbitmq-topology.js'
import { groupNames } from '../../src/messaging/rabbitmq-wire.js'

const record: GroupRecord = {
  group: 'g',
  order: 'none',
  types: ['A'],
  partitions: 1,
  maxBacklog: 10,
  deliveryLimit: 10,
  prefetch: 10,
}

test.each([
  [Infinity, 0],
  [1, 1],
  [0, 1],
])('a group whose record is gone after %s looks at it is restored under its lock, %i times', async (looks, times) => {
  const names = groupNames('p.', 'g')
  let looked = 0
  let locked = 0
  const channel = {
    checkQueue: async (queue: string) => {
      if (queue === names.record && looked++ >= looks) throw Object.assign(new Error('NOT_FOUND'), { code: 404 })
      return { messageCount: 1, consumerCount: 0 }
    },
    assertQueue: async () => {},
    bindQueue: async () => {},
  }
  const link = {
    options: { clock: systemClock, timeoutMs: 1_000 },
    use: (work: (on: typeof channel) => Promise<unknown>) => work(channel),
    exclusively: async () => void locked++,
  }
  await restoreGroup({ link, sender: link } as unknown as Lines, 'p.', record)
  expect(locked).toBe(times)
})
