import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listen } from '../../src/kernel/redis-subscriber.js'
import { defineScript, sendRedis } from '../../src/kernel/redis.js'
import { ownRedis } from '../support/redis.js'

const redisUrl = await ownRedis()

const key = `${randomUUID()}:count`
let redis: Redis
beforeAll(() => {
  redis = new Redis(redisUrl)
})
afterAll(async () => {
  await redis.del(key)
  await redis.quit()
})

test('sendRedis reads back the bytes it wrote', async () => {
  expect(await sendRedis(redis, 'set', [key, new Uint8Array([0x30, 0x31]), 'px', 60_000])).toBe('OK')
  expect(await sendRedis(redis, 'get', [key])).toBe('01')
  await sendRedis(redis, 'del', [key])
})

test('a script that the server has lost runs once, and calls at the same time each once', async () => {
  // A text of its own, so that flushing the server's scripts in between is all that it takes to lose it.
  const script = defineScript(`-- ${randomUUID()}\nreturn {redis.call('INCRBY', KEYS[1], ARGV[1]), ARGV[2], {1, 'x'}}`)
  expect(await script.run(redis, [key], [5, 'a'])).toEqual([5, 'a', [1, 'x']])
  await redis.script('FLUSH')
  expect(await Promise.all([1, 2, 3].map(() => script.run(redis, [key], [1, 'b'])))).toEqual([
    [6, 'b', [1, 'x']],
    [7, 'b', [1, 'x']],
    [8, 'b', [1, 'x']],
  ])
})

test('an error that the server answers with is a StoreError with its words', async () => {
  await redis.set(key, 'text')
  await expect(sendRedis(redis, 'incr', [key])).rejects.toMatchObject({
    code: 'STORE_FAILED',
    message: /not an integer/,
  })
  const script = defineScript(`return redis.call('INCR', KEYS[1])`)
  await expect(script.run(redis, [key], [])).rejects.toMatchObject({ code: 'STORE_FAILED', message: /not an integer/ })
})

test('a client that was closed gives a StoreError', async () => {
  const closed = new Redis(redisUrl)
  await closed.quit()
  await expect(sendRedis(closed, 'get', [key])).rejects.toMatchObject({ code: 'STORE_FAILED' })
})

test('many listen through one client under one listener, and who leaves cuts off no other', async () => {
  const subscriber = redis.duplicate()
  const heard: string[] = []
  const prefix = randomUUID()
  const channels = ['a', 'a', ...Array.from({ length: 20 }, (_, i) => `c${i}`)]
  const all = channels.map((channel, i) => listen(subscriber, prefix + channel, (m) => heard.push(`${i} ${m}`)))
  await Promise.all(all.map(({ begun }) => begun))
  expect(subscriber.listenerCount('message')).toBe(1)
  await all[0]!.end()
  await redis.publish(`${prefix}a`, 'x')
  await redis.publish(`${prefix}c19`, 'y')
  await expect.poll(() => heard).toEqual(['1 x', '21 y'])
  await Promise.all(all.slice(1).map(({ end }) => end()))
  expect(subscriber.listenerCount('message')).toBe(0)
  expect(await redis.publish(`${prefix}a`, 'z')).toBe(0)
  await subscriber.quit()
})
