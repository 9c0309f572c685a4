import { systemClock } from '../../../src/kernel/clock.js'
import { randomId } from '../../../src/kernel/random.js'
import { seededRandom } from '../../../src/testing/index.js'
import type { Job, News } from './participant.js'
import type { Worker } from './processes.js'
import { LEASE_MS, pointsOf, type Case, type Ground, type Outcome } from './run.js'
import { SCENARIOS, type Scenario } from './saga.js'

/** Does `work` for each item, `width` at a time. */
async function each<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const rest = [...items]
  const lane = async (): Promise<void> => {
    // oxlint-disable-next-line no-await-in-loop
    for (let item; (item = rest.shift()) !== undefined;) await work(item)
  }
  await Promise.all(Array.from({ length: width }, lane))
}

/** What there is to run of a scenario: it undisturbed, and each point at which a process can die. */
export async function casesOf(ground: Ground, scenario: Scenario, seed: number): Promise<[Outcome, Case[]]> {
  const undisturbed = await ground.run({ scenario, seed, points: [] })
  const points = pointsOf(undisturbed.news)
  const random = seededRandom(seed)
  const cases = points.map((point): Case => {
    // the first seed kills once; with others, who takes over may die too
    const next = points[Math.floor(random() * points.length)]!
    return { scenario, seed, points: seed > 1 && random() < 0.5 ? [point, next] : [point] }
  })
  return [undisturbed, cases]
}

/** The sums of outcomes. */
export interface Sums {
  runs: number
  deaths: number
  /** A process took over and the saga was in its hands. */
  takeovers: number
  readonly statuses: Record<string, number>
  slowestMs: number
  /** Taken over later than they should have been. */
  readonly late: string[]
  readonly wrong: string[]
}

export const noSums = (): Sums => ({
  runs: 0,
  deaths: 0,
  takeovers: 0,
  statuses: {},
  slowestMs: 0,
  late: [],
  wrong: [],
})

/** The longest that a saga may be without an owner after its process was killed. */
const RECOVERY_MS = LEASE_MS + 1_000

export function add(sums: Sums, { of, died, recoveryMs, status, wrong }: Outcome): void {
  sums.runs++
  sums.deaths += died.length
  sums.statuses[status] = (sums.statuses[status] ?? 0) + 1
  const where = `${of.scenario}, seed ${of.seed}, killed ${died.join(', then ') || 'nowhere'} (${JSON.stringify(of.points)})`
  for (const what of wrong) sums.wrong.push(`${where}: ${what}`)
  if (recoveryMs === undefined) return
  sums.takeovers++
  sums.slowestMs = Math.max(sums.slowestMs, recoveryMs)
  if (recoveryMs > RECOVERY_MS) sums.late.push(`${where}: taken over after ${Math.round(recoveryMs)} ms`)
}

/** Runs cases, `width` at a time. */
export async function runCases(
  ground: Ground,
  cases: readonly Case[],
  width: number,
  done: (outcome: Outcome) => void,
  how: 'run' | 'runStopped' = 'run',
): Promise<void> {
  await each(cases, width, async (one) => done(await ground[how](one)))
}

export interface Pauses {
  readonly orchestrators: number
  readonly sagas: number
  readonly forMs: number
  readonly seed: number
}

/** Sagas that several orchestrators run while they are stopped for longer than their leases, wake up beside their successors, and die. */
export async function runPauses(ground: Ground, { orchestrators, sagas, forMs, seed }: Pauses): Promise<PauseSums> {
  const random = seededRandom(seed)
  const all = Array.from({ length: sagas }, (_, i) => ({
    id: randomId(),
    scenario: SCENARIOS[i % SCENARIOS.length]!,
  }))
  const job = { ...ground.job(SCENARIOS, seed), bodyMs: 40 }
  const news: News[] = []
  const workers: Worker[] = []
  let started = 0
  const begin = async (own: Job['begin']): Promise<Worker> => {
    const worker = await ground.start({ ...job, begin: own, seed: seed * 1_000 + started++ }, (one) => news.push(one))
    workers.push(worker)
    return worker
  }
  const shares = Array.from({ length: orchestrators }, (_, i) => all.filter((__, n) => n % orchestrators === i))
  const owners = await Promise.all(shares.map(begin))
  const sums = { ...noSums(), pauses: 0, refused: 0 }
  const until = performance.now() + forMs
  const torment = async (i: number): Promise<void> => {
    while (performance.now() < until) {
      // oxlint-disable no-await-in-loop
      await systemClock.sleep(50 + random() * 400)
      const { child, gone } = owners[i]!
      if (random() < 0.2) {
        child.kill('SIGKILL')
        await gone
        sums.deaths++
        owners[i] = await begin(shares[i]!) // begins again what it may not have begun
        continue
      }
      child.kill('SIGSTOP')
      await systemClock.sleep(50 + random() * 3 * LEASE_MS)
      child.kill('SIGCONT')
      sums.pauses++
      // oxlint-enable no-await-in-loop
    }
  }
  await Promise.all(owners.map((_, i) => torment(i)))
  await ground.ended(
    all.map(({ id }) => id),
    90_000, // long, for a machine that has other things to do
  )
  await systemClock.sleep(2 * LEASE_MS) // for those that wake up late
  for (const { child, gone } of workers) {
    child.kill('SIGKILL')
    // oxlint-disable-next-line no-await-in-loop
    await gone
  }
  await each(all, 8, async ({ id, scenario }) => {
    const { status, wrong } = await ground.judge(id, scenario, news, true)
    sums.runs++
    sums.statuses[status] = (sums.statuses[status] ?? 0) + 1
    for (const what of wrong) sums.wrong.push(`${scenario}, paused, seed ${seed}: ${what}`)
  })
  sums.refused = news.filter((one) => one.type === 'refused').length
  sums.takeovers = news.filter((one) => one.type === 'claimed' && one.expired).length
  return sums
}

export type PauseSums = Sums & { pauses: number; refused: number }
