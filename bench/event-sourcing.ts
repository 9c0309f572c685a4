import { getInMemoryEventStore } from '@event-driven-io/emmett'
import { MemoryEventStore } from 'holdfast/event-sourcing'
import { sequential, type Candidate, type Comparison } from './harness.js'

const event = {
  type: 'OrderPlaced',
  data: { orderId: 'order-1', userId: 'user-1', cents: 1_999, items: [{ sku: 'tea', quantity: 2 }] },
}
let fresh = 0

function appends(): Candidate[] {
  const streams = new Map<string, unknown[]>()
  const all: unknown[] = []
  const floor = async (stream: string): Promise<void> => {
    const recorded = { ...event, streamId: stream, version: 1, position: all.length + 1 }
    streams.set(stream, [recorded])
    all.push(recorded)
  }
  const ours = new MemoryEventStore()
  const peer = getInMemoryEventStore()
  return [
    { name: 'a Map and an array (floor)', batch: sequential(() => floor(`order-${fresh++}`)) },
    { name: 'holdfast', batch: sequential(() => ours.append(`order-${fresh++}`, [event])) },
    { name: 'emmett 0.42', batch: sequential(() => peer.appendToStream(`order-${fresh++}`, [event])) },
  ]
}

/** Appends of one event to a new stream, in memory. */
export function eventSourcing(): readonly Comparison[] {
  return [{ title: 'Event store in memory, append to a new stream', candidates: appends() }]
}
