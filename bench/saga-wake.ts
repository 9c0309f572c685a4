import { setTimeout as sleep } from 'node:timers/promises'
import { PostgresSagaStore } from 'holdfast/saga/postgres'
import { saga, SagaOrchestrator } from 'holdfast/saga'
import pg from 'pg'
import { quantile, type Survey } from './harness.js'
import { ownTypes } from './pg-types.js'
import { freshId } from './saga-orders.js'
import { poolOn } from './saga-postgres-stores.js'

const SAGAS = 30
const MOST_MS = 10
/** Between two sagas: so long that the worker has nothing to do in between. */
const PAUSE_MS = { least: 100, more: 200 }

/** How long it takes from the answer to `run`, at an orchestrator that only begins sagas, to the first body, at another. */
async function delays(connectionString: string, listens: boolean): Promise<readonly number[]> {
  const began = new Map<string, (at: number) => void>()
  const definition = saga('told', { version: 1 })
    .step('one', { run: async ({ sagaId }) => began.get(sagaId)?.(performance.now()) })
    .build()
  const listener = new pg.Client({ connectionString, types: ownTypes })
  await listener.connect()
  const store = new PostgresSagaStore(poolOn(connectionString), listens ? { listener } : {})
  await store.migrate()
  const worker = new SagaOrchestrator({ store, sagas: [definition] })
  worker.start()
  const other = new SagaOrchestrator({ store: new PostgresSagaStore(poolOn(connectionString), { notify: listens }) })
  const took: number[] = []
  for (let i = 0; i <= SAGAS; i++) {
    const id = freshId()
    const start = new Promise<number>((resolve) => began.set(id, resolve))
    // oxlint-disable no-await-in-loop -- one after the other
    await other.run(definition, undefined, { id })
    const answered = performance.now()
    const ms = (await start) - answered
    if (i > 0) took.push(Math.max(0, ms)) // the first finds it starting
    await sleep(PAUSE_MS.least + Math.random() * PAUSE_MS.more)
    // oxlint-enable no-await-in-loop
  }
  await worker.close()
  await listener.end()
  return took
}

export const wakeUp = (database: (name: string) => Promise<string>): Survey => ({
  title: 'Saga on PostgreSQL begun by one orchestrator, until another runs its first body, when nothing else goes on',
  columns: ['p50, ms', 'p90, ms', 'most, ms'],
  survey: async () => {
    const told = await delays(await database('wake'), true)
    const polled = await delays(await database('wake_polled'), false)
    const p50 = quantile(told, 0.5)
    return {
      rows: [
        ['told by LISTEN', ...[0.5, 0.9, 1].map((q) => quantile(told, q).toFixed(1))],
        ['polling once a second, without a listener', ...[0.5, 0.9, 1].map((q) => quantile(polled, q).toFixed(1))],
      ],
      targets: [
        { goal: `told by LISTEN, p50 of at most ${MOST_MS} ms`, isMet: p50 <= MOST_MS, shown: `${p50.toFixed(1)} ms` },
      ],
    }
  },
})
