import { fork, type ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Survey } from './harness.js'
import { DBOS_NAME, OURS } from './saga-postgres-stores.js'

export const SAGAS = 20
export const LEASE_MS = 2_000
const ALLOWED_MS = LEASE_MS + 1_000
/** So long we wait for a peer that has no lease. */
const PATIENCE_MS = 10_000

/** What a process tells: it stands; it hangs in a body of each saga; a saga has ended. */
export type Told = 'ready' | 'hanging' | 'ended'

interface Process {
  readonly child: ChildProcess
  readonly heard: Told[]
  readonly until: (what: Told, count: number, mostMs: number) => Promise<void>
}

function begun(name: string, url: string, role: 'dies' | 'lives'): Process {
  const child = fork('bench/saga-recovery-worker.ts', [name, url, role])
  const heard: Told[] = []
  child.on('message', (told: Told) => void heard.push(told))
  const until = async (what: Told, count: number, mostMs: number): Promise<void> => {
    const late = performance.now() + mostMs
    // oxlint-disable-next-line no-await-in-loop
    while (heard.filter((told) => told === what).length < count && performance.now() < late) await sleep(5)
  }
  return { child, heard, until }
}

/** One process has begun sagas and is ended by SIGKILL in the middle of a body; another one is there. */
async function trial(
  name: string,
  url: string,
  mostMs: number,
): Promise<{ readonly ended: number; readonly ms: number }> {
  const dies = begun(name, url, 'dies')
  await dies.until('ready', 1, 30_000)
  const lives = begun(name, url, 'lives')
  await lives.until('ready', 1, 30_000)
  dies.child.send('go')
  await dies.until('hanging', SAGAS, 30_000)
  dies.child.kill('SIGKILL')
  const start = performance.now()
  await lives.until('ended', SAGAS, mostMs)
  const ms = performance.now() - start
  lives.child.kill('SIGKILL')
  return { ended: lives.heard.filter((told) => told === 'ended').length, ms }
}

export const recovery = (database: (name: string) => Promise<string>): Survey => ({
  title: `Sagas on PostgreSQL, ${SAGAS} under way in a process that is killed, another process alive`,
  columns: ['ended', 'after, ms'],
  survey: async () => {
    const ours = await trial(OURS, await database('recovery_ours'), 10 * ALLOWED_MS)
    const dbos = await trial(DBOS_NAME, await database('recovery_dbos'), PATIENCE_MS)
    const row = (name: string, { ended, ms }: typeof ours): string[] => [
      name,
      `${ended} of ${SAGAS}`,
      ended === SAGAS ? Math.round(ms).toLocaleString('en-US') : `not within ${Math.round(ms).toLocaleString('en-US')}`,
    ]
    return {
      rows: [row(`${OURS}, lease of ${LEASE_MS.toLocaleString('en-US')} ms`, ours), row(DBOS_NAME, dbos)],
      targets: [
        {
          goal: `holdfast with all ended within the lease and a second`,
          isMet: ours.ended === SAGAS && ours.ms <= ALLOWED_MS,
          shown: `${ours.ended} of ${SAGAS} in ${Math.round(ours.ms)} ms`,
        },
      ],
    }
  },
})
