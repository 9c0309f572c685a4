import { expect, test } from 'vitest'
import { Gate } from '../../src/resilience/gate.js'
import { Line, type Waiting } from '../../src/resilience/line.js'
import { ManualClock, settle } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'

const step = fc.oneof({ weight: 6, arbitrary: fc.constant('add' as const) }, fc.constant('shift' as const), {
  weight: 2,
  arbitrary: fc.nat(9),
})

prop(
  'a line is what an array is, wherever one leaves it',
  [fc.array(step, { minLength: 20, maxLength: 40 })],
  (steps) => {
    const line = new Line()
    const textbook: Waiting[] = []
    for (const kind of steps) {
      if (kind === 'add') {
        const waiting: Waiting = { enter: () => {}, before: undefined, behind: undefined }
        line.add(waiting)
        textbook.push(waiting)
      } else if (kind === 'shift') expect(line.shift()).toBe(textbook.shift())
      else if (textbook.length > 0) line.remove(textbook.splice(kind % textbook.length, 1)[0]!)
      expect(line.length).toBe(textbook.length)
    }
    for (const waiting of textbook) expect(line.shift()).toBe(waiting)
    expect(line.shift()).toBeUndefined()
  },
)

test('a limit that grows lets in at once as many as there are places', async () => {
  const gate = new Gate(1, { maxQueued: 9, queueTimeoutMs: Infinity, clock: new ManualClock() })
  for (let i = 0; i < 5; i++) void gate.execute(() => new Promise(() => {}))
  await settle()
  expect([gate.running, gate.queued]).toEqual([1, 4])
  gate.limit = 4
  expect([gate.running, gate.queued]).toEqual([4, 1])
})
