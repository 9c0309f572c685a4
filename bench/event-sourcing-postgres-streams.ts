import { Repository } from 'holdfast/event-sourcing'
import { hotOverProcesses } from './event-sourcing-hot.js'
import { longStream } from './event-sourcing-long.js'
import {
  CASTORE,
  counter,
  EMMETT,
  event,
  insert,
  open,
  orders,
  OURS,
  pushed,
  type Placed,
  type Stores,
} from './event-sourcing-postgres-stores.js'
import { sequential, type Candidate, type Comparison, type Survey } from './harness.js'

/** Every command is a decision on the state that the one before has left. */
async function hot({ ours, emmett }: Stores): Promise<Candidate[]> {
  const repository = new Repository(ours, counter, { category: 'hot', cache: { max: 10 } })
  const { CommandHandler } = await import('@event-driven-io/emmett')
  const handle = CommandHandler<number, Placed>({
    evolve: counter.evolve,
    initialState: counter.initial,
    retry: { onVersionConflict: 1_000 },
  })
  await ours.append('hot-1', [event])
  return [
    { name: EMMETT, batch: sequential(() => handle(emmett, 'hot', () => event)) },
    { name: OURS, batch: sequential(() => repository.handle('1', () => event)) },
  ]
}

const LENGTH = 1_000

/** A stream read whole and folded. */
async function rehydrate({ raw, ours, emmett, castore }: Stores): Promise<Candidate[]> {
  const many = Array.from({ length: LENGTH }, () => event)
  await insert(raw, 'long', LENGTH)
  await ours.append('long-1', many)
  await emmett.appendToStream('long', many)
  for (let version = 1; version <= LENGTH; version++) await castore.pushEvent(pushed('long', version), orders)
  const repository = new Repository(ours, counter, { category: 'long' })
  const read = { name: 'read', text: 'select * from events where stream = $1 order by version', values: ['long'] }
  return [
    {
      name: 'pg, rows as objects (floor)',
      batch: sequential(async () => (await raw.query(read)).rows.reduce((n) => n + 1, 0)),
    },
    { name: OURS, batch: sequential(() => repository.load('1')) },
    {
      name: EMMETT,
      batch: sequential(() =>
        emmett.aggregateStream('long', { evolve: counter.evolve, initialState: counter.initial }),
      ),
    },
    {
      name: CASTORE,
      batch: sequential(async () => (await castore.getEvents('long', orders)).events.reduce((n) => n + 1, 0)),
    },
  ]
}

/** A stream with many writers, and reading one, on a PostgreSQL that waits for the disk. */
export async function eventSourcingPostgresStreams(): Promise<readonly (Comparison | Survey)[]> {
  const stores = await open()
  return [
    {
      title: 'Repository on PostgreSQL, one stream, 16 commands at once',
      callers: 16,
      candidates: await hot(stores),
      targets: [{ candidate: OURS, than: EMMETT, rate: 60 }],
    },
    {
      title: `Repository on PostgreSQL, a stream of ${LENGTH.toLocaleString('en-US')} events read and folded`,
      callers: 1,
      candidates: await rehydrate(stores),
      targets: [
        { candidate: OURS, than: 'pg, rows as objects (floor)', rate: 1.4 },
        { candidate: OURS, than: EMMETT, rate: 4 },
        { candidate: OURS, than: CASTORE, rate: 1.9 },
      ],
    },
    hotOverProcesses(stores),
    ...longStream(stores),
  ]
}
