// A shop's checkout by choreography: services know messages, not each other.
import { MemoryEventBus, causedBy } from 'holdfast/messaging'

interface Shop {
  OrderPlaced: { sku: string; cents: number }
  OrderPaid: { cents: number }
}

const bus = new MemoryEventBus<Shop>()
bus.on('failed', ({ group, id, attempt, retryInMs }) =>
  console.log(
    `${group}: ${id}, attempt ${attempt} failed, ${retryInMs === undefined ? 'no more' : `again in ${retryInMs} ms`}`,
  ),
)

await bus.subscribe({
  group: 'payment',
  types: ['OrderPlaced'],
  retry: { attempts: 3, backoff: (attempt) => 20 * attempt, retryOn: (error) => !(error instanceof RangeError) },
  handle: async (message, { attempt }) => {
    if (message.data.cents < 0) throw new RangeError('a price below nothing')
    if (message.key === 'order-1' && attempt === 1) throw new Error('provider is down')
    console.log(`payment: ${message.key} paid at attempt ${attempt}`)
    await bus.publish({ type: 'OrderPaid', key: message.key, data: message.data, headers: causedBy(message) })
  },
})
const shipping = await bus.subscribe({
  group: 'shipping',
  types: ['OrderPaid'],
  handle: ({ key, headers }) =>
    console.log(`shipping: ${key} is on its way (conversation ${headers['correlationId']})`),
})

await bus.publish({ id: 'm1', type: 'OrderPlaced', key: 'order-1', data: { sku: 'book', cents: 1_500 } })
await bus.publish({ id: 'm2', type: 'OrderPlaced', key: 'order-2', data: { sku: 'pen', cents: -1 } })
await new Promise((resolve) => setTimeout(resolve, 200))
for (const letter of await bus.deadLetters('payment').list())
  console.log(`dead letter: ${letter.message.key}, after ${letter.attempts} attempts: ${letter.firstError.message}`)

await shipping.close()
await bus.publish({ id: 'm3', type: 'OrderPlaced', key: 'order-3', data: { sku: 'cup', cents: 900 } })
await new Promise((resolve) => setTimeout(resolve, 20))
console.log('shipping is away; waiting for it:', bus.stats().find(({ group }) => group === 'shipping')?.waiting)
await bus.close()
