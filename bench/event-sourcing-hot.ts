import { fork } from 'node:child_process'
import { once } from 'node:events'
import pg from 'pg'
import { ownTypes } from './pg-types.js'
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql'
import { PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import { EMMETT, OURS, type Stores } from './event-sourcing-postgres-stores.js'
import { quantile, ROUNDS, type Survey } from './harness.js'

const PROCESSES = 2
export const CALLERS = 16
const ROUND_MS = 1_000
const RATE = 25

/** What one process has to say of a round. */
export interface Told {
  readonly handled: number
  /** Commands that ended with an error. */
  readonly failed: number
}

/** Rounds of several processes on one stream, and how many events it has. */
interface Party {
  /** Until they were warm. */
  readonly first: Told
  /** Takes until the last command has ended. */
  readonly round: () => Promise<Told & { readonly ms: number }>
  readonly events: () => Promise<number>
  readonly end: () => void
}

async function party(name: string, url: string, count: string): Promise<Party> {
  const workers = Array.from({ length: PROCESSES }, () => fork('bench/event-sourcing-hot-worker.ts', [name, url]))
  const ended = new AbortController()
  for (const worker of workers)
    worker.once('exit', (code) => {
      if (code) ended.abort(new Error(`${name}: a process ended with ${code}`))
    })
  const answers = async (): Promise<Told> => {
    const told = (await Promise.all(
      workers.map(async (worker) => ((await once(worker, 'message', { signal: ended.signal })) as unknown[])[0]),
    )) as Told[]
    const sum = (of: (one: Told) => number): number => told.reduce((n, one) => n + of(one), 0)
    return { handled: sum((t) => t.handled), failed: sum((t) => t.failed) }
  }
  const pool = new pg.Pool({ connectionString: url, max: 1, types: ownTypes })
  return {
    first: await answers(),
    round: async () => {
      const all = answers()
      const start = performance.now()
      for (const worker of workers) worker.send(ROUND_MS)
      return { ...(await all), ms: performance.now() - start }
    },
    events: async () => Number((await pool.query(count)).rows[0].n),
    end: () => workers.forEach((worker) => worker.kill()),
  }
}

/** Every command is a decision on the state that the one before has left, whichever process that was in. */
export function hotOverProcesses({ database }: Stores): Survey {
  const survey = async (): ReturnType<Survey['survey']> => {
    const urls = { emmett: await database('hot_emmett'), ours: await database('hot_ours') }
    await getPostgreSQLEventStore(urls.emmett).schema.migrate()
    const pool = new pg.Pool({ connectionString: urls.ours, max: 1, types: ownTypes })
    await new PostgresEventStore(pool).migrate()
    await pool.end()
    const parties = new Map([
      [EMMETT, await party(EMMETT, urls.emmett, 'select count(*) as n from emt_messages')],
      [OURS, await party(OURS, urls.ours, 'select count(*) as n from holdfast.es_events')],
    ])
    const rounds = new Map([...parties.keys()].map((name) => [name, [] as (Told & { ms: number })[]]))
    for (let round = 0; round < ROUNDS; round++) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      for (const [name, { round: run }] of parties) rounds.get(name)?.push(await run())
    }
    const rows: string[][] = []
    const rates = new Map<string, number>()
    let isWhole = false
    let shown = ''
    for (const [name, { first, events, end }] of parties) {
      const told = rounds.get(name) ?? []
      const perSecond = told.map(({ handled, ms }) => (handled * 1_000) / ms)
      const all = [first, ...told].reduce((n, { handled }) => n + handled, 0)
      const failed = [first, ...told].reduce((n, one) => n + one.failed, 0)
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const stored = await events()
      end()
      rates.set(name, quantile(perSecond, 0.5))
      rows.push([
        name,
        ...[quantile(perSecond, 0.5), quantile(perSecond, 0), quantile(perSecond, 1), all, failed, stored].map((n) =>
          Math.round(n).toLocaleString('en-US'),
        ),
      ])
      if (name !== OURS) continue
      isWhole = failed === 0 && stored === all
      shown = `${failed} failed, ${all} commands, ${stored} events`
    }
    const ratio = (rates.get(OURS) ?? NaN) / (rates.get(EMMETT) ?? NaN)
    return {
      rows,
      targets: [
        {
          goal: `holdfast at least ${RATE} × as often as ${EMMETT}`,
          isMet: ratio >= RATE,
          shown: `${ratio.toFixed(2)} ×`,
        },
        { goal: 'holdfast with no command failed, and an event for each', isMet: isWhole, shown },
      ],
    }
  }
  return {
    title: `Repository on PostgreSQL, one stream, ${PROCESSES} processes with ${CALLERS} commands at once each`,
    columns: ['per second', 'lowest', 'highest', 'commands', 'failed', 'events'],
    survey,
  }
}
