import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { ownTypes } from './pg-types.js'
import { subscribe, type Subscription } from 'holdfast/event-sourcing'
import { PostgresCheckpoints, PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import { event, type Stores } from './event-sourcing-postgres-stores.js'
import { quantile, type Survey } from './harness.js'

const EVENTS = 30
const MOST_MS = 15
/** Between two events: so long that a subscription has nothing to do in between, and no multiple of what it waits. */
const PAUSE_MS = { least: 300, more: 500 }

const WAYS = [
  { name: 'told by LISTEN', listens: true, pollMs: undefined, isMeant: true },
  { name: 'polling every 20 ms', listens: false, pollMs: 20, isMeant: true },
  { name: 'polling, as it is without options (up to 500 ms)', listens: false, pollMs: undefined, isMeant: false },
]

/** How long it takes from the answer to an append, by another store, to the handler, when nothing else goes on. */
export function delay({ database }: Stores): Survey {
  const survey = async (): ReturnType<Survey['survey']> => {
    const rows: string[][] = []
    const targets: { goal: string; isMet: boolean; shown: string }[] = []
    for (const { name, listens, pollMs, isMeant } of WAYS) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const took = await delays(await database(`delay_${rows.length}`), listens, pollMs)
      const p50 = quantile(took, 0.5)
      rows.push([name, ...[0.5, 0.9, 1].map((q) => quantile(took, q).toFixed(1))])
      if (!isMeant) continue
      targets.push({
        goal: `${name}, p50 of at most ${MOST_MS} ms`,
        isMet: p50 <= MOST_MS,
        shown: `${p50.toFixed(1)} ms`,
      })
    }
    return { rows, targets }
  }
  return {
    title: 'Subscription on PostgreSQL, from an append to the handler, when nothing else goes on',
    columns: ['p50, ms', 'p90, ms', 'most, ms'],
    survey,
  }
}

async function delays(
  connectionString: string,
  listens: boolean,
  pollMs: number | undefined,
): Promise<readonly number[]> {
  const pool = (): pg.Pool => new pg.Pool({ connectionString, max: 4, types: ownTypes })
  const writer = new PostgresEventStore(pool(), { notify: listens })
  await writer.migrate()
  const listener = new pg.Client({ connectionString, types: ownTypes })
  await listener.connect()
  const db = pool()
  const reader = new PostgresEventStore(db, listens ? { listener } : {})
  const handled = new Map<number, number>()
  const subscription: Subscription = subscribe(
    reader,
    new PostgresCheckpoints(db),
    'delay',
    ({ position }) => void handled.set(position, performance.now()),
    { pollMs },
  )
  const took: number[] = []
  for (let i = 0; i <= EVENTS; i++) {
    // oxlint-disable no-await-in-loop -- one after the other
    const { position } = await writer.append(`order-${i}`, [event])
    const answered = performance.now()
    while (!handled.has(position)) await sleep(1)
    if (i > 0) took.push(Math.max(0, (handled.get(position) ?? NaN) - answered)) // the first finds it starting
    await sleep(PAUSE_MS.least + Math.random() * PAUSE_MS.more)
    // oxlint-enable no-await-in-loop
  }
  await subscription.stop()
  await Promise.all([listener.end(), db.end()])
  return took
}
