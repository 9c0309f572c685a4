import pg from 'pg'
import { ownTypes } from './pg-types.js'
import { CommandHandler, isExpectedVersionConflictError } from '@event-driven-io/emmett'
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql'
import { Repository } from 'holdfast/event-sourcing'
import { PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import { CALLERS, type Told } from './event-sourcing-hot.js'
import { counter, EMMETT, event, OURS, type Placed } from './event-sourcing-postgres-stores.js'

// One of several processes that write to the same stream: for so many milliseconds as it is sent, with many callers at once.

const [name = '', url = ''] = process.argv.slice(2)

const handlers: Record<string, () => Promise<() => Promise<unknown>>> = {
  [OURS]: async () => {
    const store = new PostgresEventStore(new pg.Pool({ connectionString: url, max: 16, types: ownTypes }))
    const repository = new Repository(store, counter, { category: 'hot', cache: { max: 10 } })
    return () => repository.handle('1', () => event)
  },
  [EMMETT]: async () => {
    const store = getPostgreSQLEventStore(url)
    await store.readStream('hot') // looks for its tables, for which many first commands at once would wait in a circle
    const handle = CommandHandler<number, Placed>({
      evolve: counter.evolve,
      initialState: counter.initial,
      // Its own wait grows without end, and a round has to end.
      retry: {
        retries: 10_000,
        minTimeout: 10,
        maxTimeout: 200,
        factor: 1.5,
        randomize: true,
        shouldRetryError: isExpectedVersionConflictError,
      },
    })
    return () => handle(store, 'hot', () => event)
  },
}
const handle = await handlers[name]!()

async function round(ms: number): Promise<Told> {
  let [handled, failed] = [0, 0]
  const end = performance.now() + ms
  const caller = async (): Promise<void> => {
    while (performance.now() < end) {
      try {
        // oxlint-disable-next-line no-await-in-loop -- one command after the other
        await handle()
        handled++
      } catch {
        failed++
      }
    }
  }
  await Promise.all(Array.from({ length: CALLERS }, caller))
  return { handled, failed }
}

const first = await round(200) // connections stand, and what is asked is compiled
process.once('disconnect', () => process.exit()) // whoever asks has gone
process.on('message', (ms: number) => void round(ms).then((told) => process.send!(told)))
process.send!(first)
