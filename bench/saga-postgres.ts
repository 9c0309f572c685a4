import { sequential, type Comparison, type Survey } from './harness.js'
import { sagaClaims } from './saga-claims.js'
import { BARE, databases, DBOS_NAME, GROUPED, OPEN_WORKFLOW, OURS, runners } from './saga-postgres-stores.js'
import { recovery } from './saga-recovery.js'
import { wakeUp } from './saga-wake.js'

/** Sagas of three steps, from their beginning to their end, on a PostgreSQL that waits for the disk. */
export async function sagaPostgres(): Promise<readonly (Comparison | Survey)[]> {
  const all = [...(await runners())]
  const of = (callers: number): Comparison => ({
    title: `Saga on PostgreSQL, three steps, ${callers} at once`,
    callers,
    candidates: all.map(([name, run]) => ({ name, batch: sequential(run) })),
    targets: [
      { candidate: OURS, than: GROUPED, rate: 0.75 },
      { candidate: OURS, than: BARE, rate: callers === 1 ? 0.75 : 1.5 },
      { candidate: OURS, than: DBOS_NAME, rate: callers === 64 ? 15 : 4 },
      { candidate: OURS, than: OPEN_WORKFLOW, rate: 4 },
    ],
  })
  const database = await databases()
  return [...[1, 16, 64].map(of), ...(await sagaClaims(database)), wakeUp(database), recovery(database)]
}
