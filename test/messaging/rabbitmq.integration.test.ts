import { systemClock } from '../../src/kernel/clock.js'
import { eventBusContract, type Defaults, type Harness } from '../conformance/event-bus.js'
import { openBus, removeGroups } from './broker.js'

const open = (partitions?: number) => async (): Promise<Harness> => {
  const bus = openBus({ partitions })
  return { bus, advance: (ms) => systemClock.sleep(ms), close: () => bus.close().then(() => removeGroups(bus)) }
}

const sets: Record<string, [Defaults, number?]> = {
  'as it comes': [{}],
  'no order': [{ order: 'none' }],
  'one at a time, one queue': [{ concurrency: 1 }, 1],
}
for (const [name, [defaults, partitions]] of Object.entries(sets))
  eventBusContract(`RabbitMQ, ${name}`, open(partitions), defaults)
