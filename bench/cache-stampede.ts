import { fork } from 'node:child_process'
import { once } from 'node:events'
import { Servers } from '../scripts/servers.mjs'
import type { Survey } from './harness.js'

const PROCESSES = 4
export const CALLERS = 250
export const LOAD_MS = 100
const TRIALS = 20
const NAMES = ['holdfast', 'bentocache', 'cacheable', 'cache-manager', 'async-cache-dedupe']

/** How many loads each trial took, each of a key that nobody has. */
async function trials(name: string, port: number): Promise<readonly number[]> {
  const workers = Array.from({ length: PROCESSES }, () => fork('bench/cache-stampede-worker.ts', [name, `${port}`]))
  for (const worker of workers)
    worker.once('exit', (code) => {
      if (code) throw new Error(`${name}: a process ended with ${code}`)
    })
  const answers = (): Promise<unknown[]> =>
    Promise.all(workers.map(async (worker) => ((await once(worker, 'message')) as unknown[])[0]))
  await answers()
  const loads: number[] = []
  for (let trial = 0; trial < TRIALS; trial++) {
    const all = answers()
    for (const worker of workers) worker.send(`${name} ${trial}`)
    loads.push(((await all) as number[]).reduce((sum, each) => sum + each, 0))
  }
  for (const worker of workers) worker.kill()
  return loads
}

async function survey(): ReturnType<Survey['survey']> {
  const { port } = await new Servers().redis() // ends with this process
  const found = new Map<string, readonly number[]>()
  for (const name of NAMES) found.set(name, await trials(name, port))
  const ones = (name: string): number => (found.get(name) ?? []).filter((loads) => loads === 1).length
  return {
    rows: [...found].map(([name, loads]) => {
      const [least, most] = [Math.min(...loads), Math.max(...loads)]
      return [name, least === most ? `${least}` : `${least} – ${most}`, `${ones(name)} of ${TRIALS}`]
    }),
    targets: [
      {
        goal: `holdfast in exactly one load, ${TRIALS} of ${TRIALS} times`,
        isMet: ones('holdfast') === TRIALS,
        shown: `${ones('holdfast')} of ${TRIALS}`,
      },
    ],
  }
}

/** A key that nobody has, and everybody wants. */
export function cacheStampede(): readonly Survey[] {
  return [
    {
      title: `Cache on Redis, loads of one key by ${PROCESSES} processes with ${CALLERS} callers each`,
      columns: ['loads', 'in one load'],
      survey,
    },
  ]
}
