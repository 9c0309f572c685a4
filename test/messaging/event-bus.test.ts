import { MemoryEventBus } from '../../src/messaging/index.js'
import { ManualClock } from '../../src/testing/manual-clock.js'
import { eventBusContract, type Defaults, type Harness } from '../conformance/event-bus.js'

const open = async (): Promise<Harness> => {
  const clock = new ManualClock()
  const bus = new MemoryEventBus({ clock, random: () => 0.5 })
  return {
    bus,
    advance: (ms) => clock.advance(ms),
    close: async () => {
      const closing = bus.close()
      await clock.advance(60_000)
      await closing
    },
  }
}

const sets: Record<string, Defaults> = {
  'as it comes': {},
  'no order': { order: 'none' },
  'one at a time': { concurrency: 1 },
  'a hundred at a time, one attempt': { concurrency: 100, retry: { attempts: 1 } },
}
for (const [name, defaults] of Object.entries(sets)) eventBusContract(`memory, ${name}`, open, defaults)
