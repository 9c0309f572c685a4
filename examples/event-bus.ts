// A shop's checkout by choreography: services know messages, not each other. In memory, or over the broker that is named:
// npx tsx examples/event-bus.ts redis://localhost:6379
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { MemoryEventBus, causedBy, type EventBus } from 'holdfast/messaging'
import { RedisEventBus } from 'holdfast/messaging/redis'

interface Shop {
  OrderPlaced: { sku: string; cents: number }
  OrderPaid: { cents: number }
}
const [url = 'memory:', own] = [process.argv[2], `example-${process.pid}.`]
const redis = url.startsWith('redis:') ? new Redis(url) : undefined
const bus: EventBus<Shop> = redis ? new RedisEventBus(redis, { namespace: own }) : new MemoryEventBus()

const payment = await bus.subscribe({
  group: 'payment',
  types: ['OrderPlaced'],
  retry: { attempts: 3, backoff: (attempt) => 20 * attempt, retryOn: (error) => !(error instanceof RangeError) },
  handle: async (message, { attempt }) => {
    console.log(`payment: ${message.key}, attempt ${attempt}`)
    if (message.data.cents < 0) throw new RangeError('a price below nothing')
    if (message.key === 'order-1' && attempt === 1) throw new Error('provider is down')
    await bus.publish({ type: 'OrderPaid', key: message.key, data: message.data, headers: causedBy(message) })
  },
})
const shipped = new Map<string | undefined, string | undefined>()
const openShipping = () =>
  bus.subscribe({
    group: 'shipping',
    types: ['OrderPaid'],
    handle: ({ key, headers }) => shipped.set(key, headers['correlationId']),
  })
await (await openShipping()).close() // from now on messages wait for this group, though nobody is there

await bus.publish({ id: 'm1', type: 'OrderPlaced', key: 'order-1', data: { sku: 'book', cents: 1_500 } })
await bus.publish({ id: 'm2', type: 'OrderPlaced', key: 'order-2', data: { sku: 'pen', cents: -1 } })
while ((await bus.deadLetters('payment').list()).length === 0) await sleep(10)
for (const letter of await bus.deadLetters('payment').list())
  console.log(`dead letter: ${letter.message.key}, after ${letter.attempts} attempt: ${letter.firstError.message}`)
const shipping = await openShipping()
while (shipped.size === 0) await sleep(10)
for (const [key, conversation] of shipped) console.log(`${key} is on its way (conversation ${conversation})`)
for (const it of [payment, shipping]) await it.close().then(() => bus.deleteGroup(it.group)) // a broker would keep them
await bus.close()
redis?.disconnect()
