import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { listen } from '../../src/kernel/redis-subscriber.js'

/** As ioredis 5 between the connection and the answer to its INFO: a SUBSCRIBE that it sends now makes that fail. */
class Connecting extends EventEmitter {
  readonly call = (): void => {}
  status = 'connect'
  readonly sent: string[] = []

  async subscribe(channel: string): Promise<void> {
    this.sent.push(`subscribe ${channel} when ${this.status}`)
  }

  async unsubscribe(channel: string): Promise<void> {
    this.sent.push(`unsubscribe ${channel} when ${this.status}`)
  }

  become(status: string): void {
    this.status = status
    this.emit(status)
  }
}

test.each(['ready', 'close'])(
  'who is about to be ready is told then, or when its connection ends: %s',
  async (next) => {
    const subscriber = new Connecting()
    const { begun } = listen(subscriber, 'c', () => {})
    await Promise.resolve()
    expect(subscriber.sent).toEqual([])
    subscriber.become(next)
    await begun
    expect(new Set(subscriber.sent)).toEqual(new Set([`subscribe c when ${next}`]))
    expect(subscriber.listenerCount('close')).toBe(0)
    expect(subscriber.listenerCount('ready')).toBe(1)
  },
)

test('what has ended before its client is ready is not begun then', async () => {
  const subscriber = new Connecting()
  const { begun, end } = listen(subscriber, 'c', () => {})
  await end()
  subscriber.become('ready')
  await begun
  expect(subscriber.sent.filter((what) => what.startsWith('subscribe'))).toEqual([])
})
