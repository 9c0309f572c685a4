import { expect, test } from 'vitest'
import { ManualClock } from '../../src/testing/index.js'
import { MemoryInbox } from '../../src/messaging/index.js'
import { inboxContract } from '../conformance/inbox.js'

inboxContract(
  'MemoryInbox',
  async (options) => {
    const clock = new ManualClock()
    const effects: string[] = []
    return {
      inbox: new MemoryInbox({ clock, ...options }),
      write: async (_tx: undefined, effect: string) => void effects.push(effect),
      effects: async () => effects,
      advance: (ms) => clock.advance(ms),
      close: async () => {},
    }
  },
  { 'what was written before it threw does not count': 'memory has no transactions: its docstring says so' },
)

test('MemoryInbox: a message is remembered for `retainMs`, and not a millisecond longer', async () => {
  const clock = new ManualClock()
  const inbox = new MemoryInbox({ clock, retainMs: 100 })
  const once = (): Promise<boolean> => inbox.once('g', 'a', async () => {})
  expect(await once()).toBe(true)
  await clock.advance(99)
  expect(await once()).toBe(false)
  await clock.advance(1)
  expect(await once()).toBe(true)
})
