import { expect, onTestFinished, test } from 'vitest'
import type { Recorded } from 'holdfast/event-sourcing'
import { EventFeed, type FeedEvent } from '../../examples/storefront/event-feed.js'
import type { OrderEvent } from '../../examples/storefront/order.js'
import { until } from '../support/until.js'
import { openStorefront } from './storefront-client.js'

const event = (position: number, detail = ''): Recorded<OrderEvent> => ({
  id: `e-${position}`,
  streamId: 'order-1',
  version: position,
  position,
  recordedAt: new Date(0),
  metadata: {},
  tags: [],
  type: 'CancelRequested',
  data: { detail },
})

/** Reads a stream of events, message by message. */
function reader(response: Response) {
  const source = response.body?.getReader()
  const decoder = new TextDecoder()
  let text = ''
  return {
    /** The next message with events; `undefined` at the end. */
    async next(): Promise<{ id: number; events: FeedEvent[] } | undefined> {
      for (;;) {
        const message = /^id: (\d+)\ndata: (.*)\n\n/m.exec(text)
        if (message) {
          text = text.slice(message.index + message[0].length)
          return { id: Number(message[1]), events: JSON.parse(message[2] ?? '') }
        }
        // oxlint-disable-next-line no-await-in-loop -- piece by piece
        const part = await source?.read()
        if (!part || part.done) return undefined
        text += decoder.decode(part.value)
      }
    },
    leave: () => source?.cancel(),
  }
}

const positions = (message: { events: FeedEvent[] } | undefined) => message?.events.map(({ position }) => position)

test('who follows gets the events that are kept, then those that happen, many at once as one message', async () => {
  const feed = new EventFeed()
  onTestFinished(() => feed.close())
  feed.add(event(1))
  feed.add(event(2))
  const follower = reader(feed.open())
  expect(positions(await follower.next())).toEqual([1, 2])
  for (const position of [4, 5, 9]) feed.add(event(position))
  expect(await follower.next()).toMatchObject({ id: 9, events: [{ position: 4 }, { position: 5 }, { position: 9 }] })
  feed.close()
  expect(await follower.next()).toBeUndefined()
})

test('who comes back goes on where they were, unless that was another log', async () => {
  const feed = new EventFeed()
  onTestFinished(() => feed.close())
  for (const position of [1, 2, 3]) feed.add(event(position))
  expect(positions(await reader(feed.open(2)).next())).toEqual([3])
  expect(positions(await reader(feed.open(700)).next())).toEqual([1, 2, 3])
})

test('an event that is brought again is told once', async () => {
  const feed = new EventFeed()
  onTestFinished(() => feed.close())
  for (const position of [1, 2, 2, 1, 3]) feed.add(event(position))
  expect(positions(await reader(feed.open()).next())).toEqual([1, 2, 3])
})

test('who does not read costs nothing, and misses all but the newest; long data is cut', async () => {
  const feed = new EventFeed()
  onTestFinished(() => feed.close())
  const follower = reader(feed.open())
  for (let position = 1; position <= 1_000; position++) {
    feed.add(event(position, 'x'.repeat(10_000)))
    // oxlint-disable-next-line no-await-in-loop -- so that it is told in several messages, if at all
    if (position % 250 === 0) await new Promise((resolve) => setTimeout(resolve, 120))
  }
  const seen = []
  while (seen.at(-1) !== 1_000) {
    // oxlint-disable-next-line no-await-in-loop -- message by message
    const message = await follower.next()
    expect(JSON.stringify(message).length).toBeLessThan(30_000)
    seen.push(...(positions(message) ?? []))
  }
  expect(seen.length).toBeLessThanOrEqual(2 * feed.kept)
  expect(seen.slice(-feed.kept)).toEqual(Array.from({ length: feed.kept }, (_, i) => 1_001 - feed.kept + i))
  await follower.leave()
})

test('the shop tells what happens to an order, in the order of the log', async () => {
  const shop = await openStorefront()
  onTestFinished(() => shop.storefront.close())
  const follower = reader(await fetch(new URL('/events/live', shop.storefront.url)))
  const id = await shop.place()
  const seen: FeedEvent[] = []
  await until(async () => {
    seen.push(...((await follower.next())?.events ?? []))
    return seen.length === 5
  })
  expect(seen.map(({ type }) => type)).toEqual([
    'OrderPlaced',
    'OrderAccepted',
    'StockReserved',
    'PaymentReceived',
    'OrderShipped',
  ])
  expect(seen[0]).toMatchObject({ orderId: id, stream: `order-${id}`, version: 1, position: 1 })
  expect(JSON.parse(seen[0]?.data ?? '')).toMatchObject({ shipTo: 'Arco' })
  const again = reader(await fetch(new URL('/events/live', shop.storefront.url), { headers: { 'last-event-id': '3' } }))
  expect(positions(await again.next())).toEqual([4, 5])
})
