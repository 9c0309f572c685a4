import { randomUUID } from 'node:crypto'
import { expect, inject, onTestFinished, test } from 'vitest'
import { listen } from '../../src/kernel/redis-subscriber.js'
import { Proxy } from '../support/proxy.js'
import { connect } from '../support/redis.js'

test('a channel is heard again after connections that end while it is subscribed to anew, and nothing is left unheard', async () => {
  const port = Number(new URL(inject('redisUrl')).port)
  const proxy = await Proxy.to(port)
  onTestFinished(() => proxy.close())
  const channel = randomUUID()
  const subscriber = connect(proxy.port, { maxRetriesPerRequest: 0 }) // what was under way fails with its connection
  const heard: string[] = []
  const listening = listen(subscriber, channel, (message) => heard.push(message))
  await listening.begun
  let cuts = 0
  const cut = (): void => {
    if (cuts++ === 3) return
    proxy.set('cut')
    proxy.set('open')
  }
  subscriber.on('ready', cut)
  cut()
  const publisher = connect(port)
  const tell = async (): Promise<boolean> => (await publisher.publish(channel, 'news'), heard.length > 0)
  await expect.poll(tell).toBe(true)
  expect(cuts).toBe(4)
  await listening.end()
  expect(await publisher.publish(channel, 'nobody')).toBe(0)
  expect(subscriber.listenerCount('message')).toBe(0)
})
