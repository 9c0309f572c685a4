import { expect } from 'vitest'
import { DueQueue, type Dated } from '../../src/saga/due-queue.js'
import { fc, prop } from '../support/prop.js'

const when = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(Infinity))
const commands = fc.oneof(
  fc.record({ item: fc.nat(30), to: when }),
  fc.record({ now: fc.integer({ min: 0, max: 20 }) }),
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
