import type { Event, EventStore, Recorded } from '../../../src/event-sourcing/index.js'

/** `advance` lets `ms` pass on the store's clock: moves a fake one, or really waits. `close` closes the store too. */
export interface EventStoreHarness {
  readonly store: EventStore
  advance(ms: number): Promise<void>
  close(): Promise<void>
}

/** States one law of the contract. */
export type Law = (name: string, check: (h: EventStoreHarness) => Promise<void>) => void

export const e = (type: string, data: unknown = {}, more: Partial<Event> = {}): Event => ({ type, data, ...more })
export const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}
export const types = (events: readonly Recorded[]): string[] => events.map((event) => event.type)
export const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)
export const many = (n: number): Event[] => range(1, n).map((i) => e(`t${i}`))
