import pg from 'pg'
import { systemClock } from '../../../src/kernel/clock.js'
import { randomId } from '../../../src/kernel/random.js'
import type { SagaStore, StoredSaga } from '../../../src/saga/index.js'
import { until } from '../../support/until.js'
import { tables, type Job, type News, type Point } from './participant.js'
import type { Processes, Worker } from './processes.js'
import type { Scenario } from './saga.js'
import type { Connected, StoreKind, Urls } from './stores.js'
import { verdict, type Effect } from './verdict.js'

/** One saga, and who dies of it. */
export interface Case {
  readonly scenario: Scenario
  readonly seed: number
  /** Where the first process dies, and those that take over from it; the last one survives. None: nobody dies. */
  readonly points: readonly Point[]
}

/** How a case went. */
export interface Outcome {
  readonly of: Case
  /** Where processes did die: fewer than planned when the saga ended before. */
  readonly died: readonly string[]
  /** Longest time from the end of a process to the claim of its saga, in milliseconds; `undefined`: it owned none. */
  readonly recoveryMs: number | undefined
  readonly status: string
  readonly wrong: readonly string[]
  readonly news: readonly News[]
}

export const LEASE_MS = 400
/** A saga that has not ended by then is stuck. */
const LATE_MS = 20_000

/** Where a whole matrix takes place: one store, and the tables of effects. */
export class Ground {
  readonly #pool: pg.Pool
  readonly #place = `crash_${randomId()}`
  #names = 0
  #server: Connected | undefined
  #store: SagaStore | undefined

  constructor(
    readonly kind: StoreKind,
    private readonly urls: Urls,
    private readonly processes: Processes,
  ) {
    this.#pool = new pg.Pool({ connectionString: urls.postgres, max: 12 })
    this.#pool.on('error', () => {})
  }

  async open(): Promise<void> {
    await this.#pool.query(tables(this.#place))
    this.#server = await this.kind.connect(this.urls)
    await this.#server.prepare(this.#place)
    this.#store = this.#server.open(this.#place)
  }

  async close(): Promise<void> {
    await this.#server?.close()
    await this.#pool.query(`drop schema "${this.#place}" cascade`)
    await this.#pool.end()
  }

  get store(): SagaStore {
    return this.#store!
  }

  /** The place of a group of sagas that only their own processes take. */
  job(scenarios: readonly Scenario[], seed: number): Job {
    const name = `crash-${++this.#names}`
    const common = { store: this.kind.name, place: this.#place, name, scenarios, seed }
    // of every third seed bodies take long, so that leases are renewed while they run
    return { ...common, begin: [], leaseMs: LEASE_MS, point: undefined, bodyMs: seed % 3 === 0 ? 60 : 3 }
  }

  async start(job: Job, listener?: (news: News) => void): Promise<Worker> {
    const worker = await this.processes.take()
    worker.run(job, listener)
    return worker
  }

  /** Runs one saga through the deaths of its processes, in a last process that survives, and judges it. */
  async run(of: Case): Promise<Outcome> {
    const { scenario, seed, points } = of
    const id = randomId()
    const job: Job = { ...this.job([scenario], seed), begin: [{ id, scenario }] }
    const news: News[] = []
    const died: string[] = []
    let recoveryMs: number | undefined
    let goneAt: number | undefined
    const plans = [...points, undefined]
    const workers = await Promise.all(plans.map(() => this.processes.take())) // alive when the one before them dies
    for (const [i, worker] of workers.entries()) {
      const ended = new Promise<void>((resolve) => {
        const late = setTimeout(resolve, LATE_MS)
        worker.run({ ...job, point: plans[i], seed: seed * 16 + i }, (one) => {
          if (one.type === 'claimed' && one.expired && goneAt !== undefined)
            recoveryMs = Math.max(recoveryMs ?? 0, performance.now() - goneAt)
          if (one.type === 'settled') resolve()
          // it may have ended with the process before, which could not tell
          if (one.type === 'created' && i > 0) void this.ended([id], LATE_MS).then(() => resolve())
        })
        void worker.gone.then(() => {
          clearTimeout(late)
          resolve()
        })
      })
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await ended
      const death = worker.news.find((one) => one.type === 'dies')
      // oxlint-disable-next-line no-await-in-loop
      if (death) goneAt = await worker.gone
      news.push(...worker.news)
      if (!death) break
      died.push(death.what)
    }
    for (const worker of workers) void this.processes.giveBack(worker)
    return { of, died, recoveryMs, news, ...(await this.judge(id, scenario, news, false)) }
  }

  /**
   * One saga whose process dies. Two that take it over, one from the other, are stopped between their claims and their first writes,
   * and go on in the order of their claims: the first of them is not the owner any more, and the second has written nothing yet.
   */
  async runStopped(of: Case): Promise<Outcome> {
    const { scenario, seed, points } = of
    const id = randomId()
    const job: Job = { ...this.job([scenario], seed), begin: [{ id, scenario }] }
    const news: News[] = []
    const begin = async (point: Point | undefined): Promise<Stopping> => {
      const worker = await this.processes.take()
      const own: News[] = []
      worker.run({ ...job, point, seed: seed * 16 }, (one) => own.push(one) && news.push(one))
      return { worker, told: (...types) => own.filter(({ type }) => types.includes(type)).length }
    }
    let lookAt = 0
    const isOver = (): false | Promise<boolean> => {
      if (performance.now() < lookAt) return false
      lookAt = performance.now() + 1_000
      return this.ended([id], 1) // who ends it may lose it in the same moment, and tells nothing then
    }
    const first = await begin(points[0])
    await untilLate(() => first.told('dies', 'settled') > 0 || isOver())
    const death = news.find((one) => one.type === 'dies')
    if (death) await first.worker.gone
    const late = await begin({ kind: 'claim' })
    await untilLate(() => late.told('stops', 'settled') > 0 || isOver())
    const owner = await begin({ kind: 'claim' })
    await untilLate(() => owner.told('stops', 'settled') > 0 || late.told('stops') === 0 || isOver())
    const before = late.told('lost', 'started')
    await untilLate(() => late.worker.child.kill('SIGCONT') && (late.told('lost', 'started') > before || isOver()))
    const told = (): number => late.told('settled') + owner.told('settled')
    await untilLate(() => owner.worker.child.kill('SIGCONT') && (told() > 0 || isOver()))
    const stopped = late.told('stops') + owner.told('stops')
    const all = death ? [late, owner] : [first, late, owner]
    await Promise.all(all.map(({ worker }) => this.processes.giveBack(worker)))
    const died = [...(death ? [death.what] : []), ...Array.from({ length: stopped }, () => 'stopped after its claim')]
    return { of, died, recoveryMs: undefined, news, ...(await this.judge(id, scenario, news, true)) }
  }

  async judge(
    id: string,
    scenario: Scenario,
    news: readonly News[],
    paused: boolean,
  ): Promise<{ status: string; wrong: readonly string[] }> {
    const saga = await this.store.read(id)
    if (!saga) return { status: 'lost', wrong: ['it is lost'] }
    if (!hasEnded(saga)) return { status: 'stuck', wrong: [`it is stuck: ${JSON.stringify(saga)}`] }
    const { rows } = await this.#pool.query<Effect>(
      `select path, undo, key, fence from "${this.#place}".effects where saga = $1 order by seq`,
      [id],
    )
    const booked = await this.#pool.query<{ amount: number }>(
      `select amount from "${this.#place}".ledger where saga = $1 order by seq`,
      [id],
    )
    const ledger = this.#server?.transactions ? booked.rows.map((row) => row.amount) : undefined
    return { status: saga.status, wrong: verdict({ scenario, saga, news, effects: rows, ledger, paused }) }
  }

  /** Waits until all of these have ended. @returns whether they have */
  async ended(ids: readonly string[], withinMs: number): Promise<boolean> {
    const late = performance.now() + withinMs
    let open = [...ids]
    while (open.length > 0 && performance.now() < late) {
      // oxlint-disable no-await-in-loop
      const sagas = await Promise.all(open.map((id) => this.store.read(id)))
      open = open.filter((_, i) => !sagas[i] || !hasEnded(sagas[i]))
      if (open.length > 0) await systemClock.sleep(100)
      // oxlint-enable no-await-in-loop
    }
    return open.length === 0
  }
}

const hasEnded = ({ status }: StoredSaga): boolean =>
  status === 'completed' || status === 'compensated' || status === 'parked'

interface Stopping {
  readonly worker: Worker
  /** How often it told something of these types. */
  told(...types: readonly News['type'][]): number
}

/** Waits until it is so. What never comes is no error here: the saga is judged by what it has come to. */
const untilLate = async (isSo: () => boolean | Promise<boolean>): Promise<void> => {
  await until(isSo, 3 * LATE_MS).catch(() => {}) // each of them may have to wait for a process to start
}

/** What is asked again and again, however long the saga takes. */
const POLLS = new Set(['claim', 'next', 'read', 'renew'])
const MOST_POLLS = 2

/** Every place where a process can die in a saga that goes its way, as one did that was watched. */
export function pointsOf(news: readonly News[]): Point[] {
  const points: Point[] = []
  const bodies = new Set<string>()
  for (const one of news) {
    if (one.type === 'statement' && (one.number <= MOST_POLLS || !POLLS.has(one.what)))
      for (const phase of ['before', 'sent', 'answered'] as const)
        points.push({ kind: 'statement', what: one.what, number: one.number, phase })
    if (one.type !== 'started' || bodies.has(`${one.path} ${one.undo}`)) continue
    bodies.add(`${one.path} ${one.undo}`)
    for (const phase of ['before', 'after'] as const)
      points.push({ kind: 'body', path: one.path, undo: one.undo, phase })
  }
  return points
}
