import type { Redis } from 'ioredis'
import { afterAll, expect, test } from 'vitest'
import { Servers } from '../../scripts/servers.mjs'
import type { Message } from '../../src/messaging/index.js'
import { until } from '../support/until.js'
import { numbers, open, work } from './redis-bench.js'

// A replica that takes over, or a Redis that comes back from its last dump, knows nothing of the last moments.

const servers = new Servers()
afterAll(() => servers.stop())

/** Notes all that is there. @returns what makes it so again, in one step */
async function snapshot(redis: Redis): Promise<() => Promise<void>> {
  const dumps = await Promise.all(
    (await redis.keys('*')).map(async (key) => [key, await redis.dumpBuffer(key)] as const),
  )
  return async () => {
    const steps = redis.multi().flushall()
    for (const [key, dump] of dumps) steps.restore(key, 0, dump)
    await steps.exec()
  }
}

test('what ended, and Redis has forgotten that it did, comes again: it holds up no key for ever', async () => {
  const { bus, redis } = await open(servers)
  const one = bus()
  const lost: unknown[] = []
  one.on('lost', (event) => lost.push(event))
  const seen: Message[] = []
  let end = (): void => {}
  const ended = new Promise<void>((resolve) => (end = resolve))
  await one.subscribe({
    group: 'g',
    types: '*',
    handle: async (message) => {
      seen.push(message)
      await ended
    },
  })
  await one.publish(work(0, 'k'))
  await until(() => seen.length === 1)
  const goBack = await snapshot(redis)
  end()
  await until(async () => (await one.stats())[0]?.running === 0)
  await goBack()
  await one.publish(work(1, 'k'))
  await until(() => numbers(seen).includes(1))
  expect(numbers(seen)).toEqual([0, 0, 1])
  expect(lost).toEqual([{ group: 'g', what: 'lease' }])
})

test('what it has handed out, and forgotten that it did, is no longer in this handler: two of one key never run at once', async () => {
  const { bus, redis } = await open(servers)
  const one = bus()
  const seen: Message[] = []
  let aborted = 0
  await one.subscribe({
    group: 'g',
    types: '*',
    handle: async (message, { signal }) => {
      if (seen.push(message) !== 2) return
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      aborted++
    },
  })
  await one.publish(work(0, 'k'))
  await until(async () => seen.length === 1 && (await one.stats())[0]?.running === 0)
  const goBack = await snapshot(redis)
  await one.publish(work(1, 'k'))
  await until(() => seen.length === 2)
  await goBack()
  await one.publish(work(2, 'k'))
  await until(() => seen.length === 3)
  expect(aborted).toBe(1)
})
