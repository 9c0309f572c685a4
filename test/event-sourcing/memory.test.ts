import { expect, test } from 'vitest'
import { MemoryCheckpoints, MemoryEventStore } from '../../src/event-sourcing/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { compareWithModel, operations } from '../conformance/event-store-model.js'
import { eventStoreContract } from '../conformance/event-store.js'
import { prop } from '../support/prop.js'

eventStoreContract('memory', async () => {
  const clock = new ManualClock()
  const store = new MemoryEventStore({ clock })
  return { store, advance: (ms) => clock.advance(ms), close: () => store.close() }
})

test('recordedAt does not go back in a stream when the wall clock does', async () => {
  const clock = new ManualClock()
  const store = new MemoryEventStore({ clock })
  const [first] = (await store.append('s', [{ type: 'a', data: 1 }])).events
  clock.jumpEpoch(-60_000)
  const [second] = (await store.append('s', [{ type: 'b', data: 1 }])).events
  const [other] = (await store.append('t', [{ type: 'c', data: 1 }])).events
  expect(second?.recordedAt).toEqual(first?.recordedAt)
  expect(other?.recordedAt.getTime()).toBe(clock.epochMs())
})

test('a lease of a subscription ends at its very millisecond', async () => {
  const clock = new ManualClock()
  const checkpoints = new MemoryCheckpoints({ clock })
  await checkpoints.acquire('n', 'a', 100)
  await clock.advance(99)
  expect(await checkpoints.acquire('n', 'b', 100)).toBeUndefined()
  await clock.advance(1)
  expect(await checkpoints.acquire('n', 'b', 100)).toMatchObject({ epoch: 2 })
})

test('two stores share nothing', async () => {
  const [a, b] = [new MemoryEventStore(), new MemoryEventStore()]
  await a.append('s', [{ type: 'a', data: 1 }], { idempotencyKey: 'k' })
  expect(await b.info('s')).toBeUndefined()
  expect(await b.recall('k')).toBeUndefined()
  expect((await b.readPage()).head).toBe(0)
})

prop(
  'answers as one list of rows does, whatever is asked of it in whatever order',
  [operations],
  async (list) => {
    const clock = new ManualClock()
    await compareWithModel(new MemoryEventStore({ clock }), list, (ms) => clock.advance(ms))
  },
  { numRuns: 300 },
)
