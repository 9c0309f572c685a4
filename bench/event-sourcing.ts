import { getInMemoryEventStore } from '@event-driven-io/emmett'
import { MemoryEventStore } from 'holdfast/event-sourcing'
import { type Candidate, type Comparison } from './harness.js'

const event = {
  type: 'OrderPlaced',
  data: { orderId: 'order-1', userId: 'user-1', cents: 1_999, items: [{ sku: 'tea', quantity: 2 }] },
}
/** Appends one event to each of `n` new streams, in a store made by `open`: a store that grew from round to round would be all we measure. */
const appending =
  (open: () => (stream: string) => Promise<unknown>): Candidate['batch'] =>
  async (n) => {
    const append = open()
    for (let i = 0; i < n; i++) await append(`order-${i}`)
  }

function appends(): Candidate[] {
  const floor = (): ((stream: string) => Promise<void>) => {
    const streams = new Map<string, unknown[]>()
    const all: unknown[] = []
    return async (stream) => {
      const recorded = { ...event, streamId: stream, version: 1, position: all.length + 1 }
      streams.set(stream, [recorded])
      all.push(recorded)
    }
  }
  const ours = (): ((stream: string) => Promise<unknown>) => {
    const store = new MemoryEventStore()
    return (stream) => store.append(stream, [event])
  }
  const peer = (): ((stream: string) => Promise<unknown>) => {
    const store = getInMemoryEventStore()
    return (stream) => store.appendToStream(stream, [event])
  }
  return [
    { name: 'a Map and an array (floor)', batch: appending(floor) },
    { name: 'holdfast', batch: appending(ours) },
    { name: 'emmett 0.42', batch: appending(peer) },
  ]
}

/** Appends of one event to each of a thousand new streams, in memory. */
export function eventSourcing(): readonly Comparison[] {
  return [{ title: 'Event store in memory, append to a new stream', candidates: appends() }]
}
