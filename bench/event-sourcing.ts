import { InMemoryEventStorageAdapter } from '@castore/event-storage-adapter-in-memory'
import { getInMemoryEventStore } from '@event-driven-io/emmett'
import { catalogued, MemoryEventStore } from 'holdfast/event-sourcing'
import { sequential, type Candidate, type Comparison } from './harness.js'

const event = {
  type: 'OrderPlaced',
  data: { orderId: 'order-1', userId: 'user-1', cents: 1_999, items: [{ sku: 'tea', quantity: 2 }] },
}
const FLOOR = 'a Map and an array (floor)'
const OURS = 'holdfast'
const EMMETT = 'emmett 0.42'

type Append = (stream: string, version: number) => Promise<unknown>

/** Stores made anew for each round: one that grew from round to round would be all we measure. */
const stores: Record<string, () => Append> = {
  [FLOOR]: () => {
    const streams = new Map<string, unknown[]>()
    const all: unknown[] = []
    return async (streamId, version) => {
      const recorded = { ...event, streamId, version, position: all.length + 1 }
      const events = streams.get(streamId)
      if (events) events.push(recorded)
      else streams.set(streamId, [recorded])
      all.push(recorded)
    }
  },
  [OURS]: () => {
    const store = new MemoryEventStore()
    return (stream) => store.append(stream, [event])
  },
  [EMMETT]: () => {
    const store = getInMemoryEventStore()
    return (stream) => store.appendToStream(stream, [event])
  },
  'castore 2.4': () => {
    const store = new InMemoryEventStorageAdapter()
    return (aggregateId, version) =>
      store.pushEvent({ aggregateId, version, type: event.type, payload: event.data }, { eventStoreId: 'orders' })
  },
}

const appending = (streamOf: (i: number) => string): Candidate[] =>
  Object.entries(stores).map(([name, open]) => ({
    name,
    batch: async (n) => {
      const append = open()
      for (let i = 0; i < n; i++) await append(streamOf(i), streamOf(i) === 'order' ? i + 1 : 1)
    },
  }))

/** A validator by hand, and behind a catalog. */
function validated(): Candidate[] {
  const isPlaced = (data: unknown): boolean => {
    const { orderId, cents } = data as Partial<typeof event.data>
    return typeof orderId === 'string' && Number.isInteger(cents)
  }
  const schema = {
    '~standard': {
      version: 1 as const,
      vendor: 'bench',
      validate: (value: unknown) => (isPlaced(value) ? { value } : { issues: [{ message: 'no' }] }),
    },
  }
  const byHand = new MemoryEventStore()
  const behind = catalogued(new MemoryEventStore(), { OrderPlaced: { schema } as never })
  let streams = 0
  return [
    {
      name: 'holdfast, validated by hand',
      batch: sequential(() => {
        if (!isPlaced(event.data)) throw new Error('no')
        return byHand.append(`order-${streams++}`, [event])
      }),
    },
    { name: 'holdfast behind a catalog', batch: sequential(() => behind.append(`order-${streams++}`, [event])) },
  ]
}

/** Appends in memory: to a thousand new streams, and a thousand to one stream. */
export function eventSourcing(): readonly Comparison[] {
  return [
    {
      title: 'Event store in memory, append to a new stream',
      candidates: appending((i) => `order-${i}`),
      targets: [
        { candidate: OURS, ns: 2_000 },
        { candidate: OURS, than: EMMETT, times: 0.1 },
      ],
    },
    {
      title: 'Event store in memory, append to one stream',
      candidates: appending(() => 'order'),
      targets: [
        { candidate: OURS, ns: 1_000 },
        { candidate: OURS, than: EMMETT, times: 0.1 },
      ],
    },
    {
      title: 'Event store in memory, append of a validated event',
      candidates: validated(),
      targets: [{ candidate: 'holdfast behind a catalog', than: 'holdfast, validated by hand', times: 1.15 }],
    },
  ]
}
