import { expect, test } from 'vitest'
import { DueQueue, type Dated } from '../../src/saga/due-queue.js'
import { fc, prop } from '../support/prop.js'

const when = fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 0, max: 1_000 }) }, fc.constant(Infinity))
// most are changes and few are due, so that the queue grows deep
const commands = fc.oneof(
  { weight: 12, arbitrary: fc.record({ item: fc.nat(30), to: when }) },
  { weight: 1, arbitrary: fc.record({ now: fc.integer({ min: 0, max: 300 }) }) },
)

prop('gives exactly the items whose time has come', [fc.array(commands, { minLength: 40, maxLength: 200 })], (list) => {
  const items = Array.from({ length: 31 }, (): Dated => ({ wakeAt: Infinity, queuedAt: Infinity, slot: -1 }))
  const queue = new DueQueue<Dated>()
  for (const command of list) {
    if ('item' in command) {
      const item = items[command.item]!
      item.wakeAt = command.to
      queue.update(item)
    } else {
      const taken = new Set<Dated>()
      for (let item; (item = queue.take(command.now));) taken.add(item)
      expect(taken).toEqual(new Set(items.filter((i) => i.wakeAt <= command.now)))
      for (const item of taken) item.wakeAt = Infinity
    }
    expect(queue.nextAt).toBeLessThanOrEqual(Math.min(...items.map((i) => i.wakeAt)))
  }
})

test('an item that takes the place of one removed elsewhere still comes in its turn', () => {
  const queue = new DueQueue<Dated>()
  const items = [1, 10, 2, 11, 12, 3, 4, 13, 14, 15, 16, 5].map((wakeAt) => ({ wakeAt, queuedAt: Infinity, slot: -1 }))
  for (const item of items) queue.update(item)
  const removed = items[3]!
  removed.wakeAt = Infinity
  queue.update(removed) // the last one, 5, moves under 10
  const taken: number[] = []
  for (let item; (item = queue.take(6));) taken.push(item.wakeAt)
  expect(taken).toEqual([1, 2, 3, 4, 5])
})
