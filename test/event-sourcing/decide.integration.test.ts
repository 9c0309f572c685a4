import type { EventStore } from '../../src/event-sourcing/index.js'
import { openPool, openStore } from './database.js'
import { decisionsHold, type Seat } from './seats.js'

const pool = openPool()

decisionsHold(
  'PostgreSQL',
  async () => (await openStore(pool)).store as unknown as EventStore<Seat>,
  'its appends do not know `unless` yet',
)
