import { expect, test } from 'vitest'
import { MemoryCheckpoints, MemoryEventStore, subscribe } from '../../src/event-sourcing/index.js'

test('a subscription that is to begin beyond the end of the log fails, and leaves no checkpoint', async () => {
  const store = new MemoryEventStore()
  const append = async () => (await store.append('s', [{ type: 'e', data: 1 }])).position
  await append()
  const checkpoints = new MemoryCheckpoints()
  const ahead = subscribe(store, checkpoints, 's', () => {}, { from: 5 })
  const failed = new Promise<unknown>((resolve) => ahead.on('failed', ({ error }) => resolve(error)))
  expect(await failed).toMatchObject({ code: 'CORRUPT_DATA' })
  expect(await checkpoints.position('s')).toBeUndefined()
  const seen: number[] = []
  await using right = subscribe(store, checkpoints, 's', (event) => void seen.push(event.position), { from: 1 })
  await right.reached(await append(), 1_000)
  expect(seen).toEqual([2])
})
