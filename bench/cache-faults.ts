import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { libraries } from './cache-libraries.js'
import { quantile, type Findings, type Survey } from './harness.js'

/** No call is waited for any longer. */
export const CALL_LIMIT_MS = 3_000
/** A value that is still served so long after it was replaced counts as served until it expires. */
export const STALE_LIMIT_MS = 3_000
export const BACK_LIMIT_MS = 6_000
export const LOAD_MS = 20

/** What a reader is sent. */
export interface Watch {
  readonly key: string
  readonly value: string
  readonly limitMs: number
}

/** A clock that all processes of a machine share, and that nobody sets. */
export const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6

/** What a worker found. Times are milliseconds; Infinity, which JSON has as null, is the limit. */
export interface Found {
  /** A load that fails, and a hundred callers: some rounds of it. */
  readonly failing: readonly { readonly loads: number; readonly times: number }[]
  readonly stopped: Outage
  readonly killed: Outage
  /** How long after a write was acknowledged another process read what was there before. */
  readonly stale: { readonly healthy: Times; readonly lost: Times; readonly restarted: Times }
}
type Times = readonly (number | null)[]

/** What calls get while Redis does not answer, beyond the time of their load. */
export interface Outage {
  readonly misses: Times
  /** A set and a delete. */
  readonly changes: Times
  readonly answers: readonly string[]
  readonly errors: number
  /** From the return of Redis until something written after that is there. */
  readonly back: number | null
}

let found: Promise<ReadonlyMap<string, Found>> | undefined

/** Each library in a process of its own, and with a Redis of its own. */
async function all(): Promise<ReadonlyMap<string, Found>> {
  const result = new Map<string, Found>()
  for (const name of Object.keys(libraries)) {
    const args = [...process.execArgv, 'bench/cache-faults-worker.ts', name]
    const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 120_000 })
    result.set(name, JSON.parse(stdout) as Found)
  }
  return result
}

const worst = (times: Times): number => Math.max(...times.map((ms) => ms ?? Infinity))
const part = (times: Times, q: number): number =>
  quantile(
    times.map((ms) => ms ?? Infinity),
    q,
  )
function shown(ms: number, limit: number): string {
  if (ms === Infinity) return `> ${limit / 1_000} s`
  return ms < 100 ? `${ms.toFixed(1)} ms` : `${(ms / 1_000).toFixed(2)} s`
}
const call = (ms: number): string => shown(ms, CALL_LIMIT_MS)
const stale = (ms: number): string => shown(ms, STALE_LIMIT_MS)

/** A survey of what all libraries did, with the targets of ours. */
function survey(
  title: string,
  columns: readonly string[],
  cells: (found: Found) => readonly string[],
  targets: (ours: Found) => Findings['targets'],
): Survey {
  return {
    title,
    columns,
    survey: async () => {
      const results = await (found ??= all())
      const rows = [...results].map(([name, one]) => [name, ...cells(one)])
      return { rows, targets: targets(results.get('holdfast')!)! }
    },
  }
}

const target = (what: string, ms: number, goal: number, limit: number): NonNullable<Findings['targets']>[number] => ({
  goal: `holdfast, ${what}, at most ${shown(goal, limit)}`,
  isMet: ms <= goal,
  shown: shown(ms, limit),
})

function outage(title: string, of: (found: Found) => Outage): Survey {
  return survey(
    title,
    ['first miss', 'later ones, p50', 'worst', 'set and delete', 'their answers', 'errors', 'Redis used again'],
    (one) => {
      const { misses, changes, answers, errors, back } = of(one)
      const [first, ...later] = misses
      const none = later.length === 0
      return [
        call(first ?? Infinity),
        none ? '' : call(part(later, 0.5)),
        none ? '' : call(worst(later)),
        call(worst(changes)),
        answers.join(', '),
        `${errors}`,
        shown(back ?? Infinity, BACK_LIMIT_MS),
      ]
    },
    (ours) => {
      const { misses, back } = of(ours)
      return [
        target('first miss, beyond its load', misses[0] ?? Infinity, 50, CALL_LIMIT_MS),
        target('later misses, beyond their loads, worst', worst(misses.slice(1)), 2, CALL_LIMIT_MS),
        target('Redis used again', back ?? Infinity, 1_000, BACK_LIMIT_MS),
      ]
    },
  )
}

/** A second level that is gone, does not answer, has lost everything; messages that are lost; loads that fail. */
export function cacheFaults(): readonly Survey[] {
  return [
    outage('Cache, Redis is killed, and comes back empty: time beyond that of the load', ({ killed }) => killed),
    outage('Cache, Redis stands still, and goes on: time beyond that of the load', ({ stopped }) => stopped),
    survey(
      'Cache on Redis, how long another process reads what was replaced',
      ['p50', 'p99', 'worst', 'message lost', 'Redis restarted empty'],
      ({ stale: { healthy, lost, restarted } }) => [
        ...[0.5, 0.99, 1].map((q) => stale(part(healthy, q))),
        stale(worst(lost)),
        stale(worst(restarted)),
      ],
      ({ stale: { healthy, lost, restarted } }) => [
        target('p50', part(healthy, 0.5), 1, STALE_LIMIT_MS),
        target('p99', part(healthy, 0.99), 10, STALE_LIMIT_MS),
        target('message lost', worst(lost), 2_000, STALE_LIMIT_MS),
        target('Redis restarted empty', worst(restarted), 2_000, STALE_LIMIT_MS),
      ],
    ),
    survey(
      `Cache on Redis, 100 callers of a load that fails after ${LOAD_MS} ms`,
      ['loads', 'until all have the error'],
      (one) => [`${loadsOf(one)}`, `${timesOf(one).toFixed(2)} × the load`],
      (ours) => [
        { goal: 'holdfast in one load', isMet: loadsOf(ours) === 1, shown: `${loadsOf(ours)}` },
        {
          goal: 'holdfast, until all have the error, at most 1.5 × the load',
          isMet: timesOf(ours) <= 1.5,
          shown: `${timesOf(ours).toFixed(2)} ×`,
        },
      ],
    ),
  ]
}

const loadsOf = ({ failing }: Found): number => Math.max(...failing.map(({ loads }) => loads))
const timesOf = ({ failing }: Found): number =>
  quantile(
    failing.map(({ times }) => times),
    0.5,
  )
