import type pg from 'pg'
import { systemClock } from '../../../src/kernel/clock.js'
import { seededRandom } from '../../../src/testing/index.js'
import { SagaOrchestrator, type SagaStore } from '../../../src/saga/index.js'
import type { JournalRecord, Transition } from '../../../src/saga/index.js'
import { approved, crashSaga, failures, type Bodies, type Scenario } from './saga.js'
import type { Connected } from './stores.js'

// Whoever runs sagas of the matrix: a process that is to die, or the one that survives.

/**
 * Where to die. Statements and commands of one purpose count from 1 in the order in which they are sent. `claim`: does not die, but
 * is stopped (SIGSTOP) once, between its claim of a saga whose owner vanished and its first write.
 */
export type Point =
  | {
      readonly kind: 'statement'
      readonly what: string
      readonly number: number
      readonly phase: 'before' | 'sent' | 'answered'
    }
  | { readonly kind: 'body'; readonly path: string; readonly undo: boolean; readonly phase: 'before' | 'after' }
  | { readonly kind: 'claim' }

export interface Job {
  readonly store: string
  /** Schema of the effects and of the store, or prefix of its keys. */
  readonly place: string
  /** Of the definition: nobody else takes its sagas. */
  readonly name: string
  readonly scenarios: readonly Scenario[]
  /** Sagas to create and send their signals to; `undefined`: only to run what is due. */
  readonly begin: readonly { readonly id: string; readonly scenario: Scenario }[]
  readonly seed: number
  readonly leaseMs: number
  readonly point: Point | undefined
  /** A body takes up to so many milliseconds. */
  readonly bodyMs: number
}

/** What a worker is sent. */
export type ToWorker = Job | 'stop'

/** What happened, as it is told by whoever saw it. */
export type News =
  | { readonly type: 'ready' | 'stopped' }
  | { readonly type: 'created'; readonly id: string }
  | { readonly type: 'statement'; readonly number: number; readonly what: string }
  | {
      readonly type: 'claimed'
      readonly id: string
      readonly epoch: number
      readonly expired: boolean
      readonly journal: readonly JournalRecord[]
    }
  | {
      readonly type: 'started'
      readonly id: string
      readonly path: string
      readonly undo: boolean
      readonly fence: number
      readonly outcome: string
    }
  /** The store took this write of this owner. */
  | { readonly type: 'wrote'; readonly id: string; readonly epoch: number; readonly position: number }
  | { readonly type: 'refused'; readonly id: string; readonly path: string; readonly fence: number }
  | { readonly type: 'dies'; readonly what: string }
  /** It will not go on before it is sent SIGCONT. */
  | { readonly type: 'stops' }
  | { readonly type: 'lost'; readonly id: string; readonly epoch: number }
  | { readonly type: 'settled'; readonly id: string; readonly status: string }
  | { readonly type: 'failed'; readonly error: string }

/** Tables outside of the saga's store: what bodies did, by their key and fence, and how far the callee's fence is. */
export const tables = (place: string): string => `
  create schema if not exists "${place}";
  create table "${place}".effects (seq bigserial, saga text, path text, undo boolean, key text, fence int);
  create index on "${place}".effects (saga);
  create table "${place}".callee (saga text primary key, fence int);
  create table "${place}".ledger (seq bigserial, saga text, amount int);
  create index on "${place}".ledger (saga)`

/** @param die ends the process, and does not return then */
export function participate(
  job: Job,
  { open, transactions }: Connected,
  effects: pg.Pool,
  { tell, die, stop }: { tell(news: News): void; die(what: string): void; stop(): void },
): { readonly orchestrator: SagaOrchestrator; readonly done: Promise<void> } {
  const { place, point, seed, leaseMs, bodyMs } = job
  const random = seededRandom(seed)
  const counts = new Map<string, number>()
  const dieAt = (phase: string, number: number, what: string): void => {
    if (point?.kind !== 'statement' || point.what !== what) return
    if (point.phase === phase && point.number === number) die(`${phase} ${what}`)
  }
  const store = open(place, (what) => {
    const number = (counts.get(what) ?? 0) + 1
    counts.set(what, number)
    tell({ type: 'statement', number, what })
    dieAt('before', number, what)
    return { sent: () => dieAt('sent', number, what), answered: () => dieAt('answered', number, what) }
  })
  const dieIn = (path: string, undo: boolean, phase: 'before' | 'after'): boolean =>
    point?.kind === 'body' && point.path === path && point.undo === undo && point.phase === phase

  const scenarioOf = (name: string): Scenario => name.slice(job.name.length + 1) as Scenario
  const bodiesOf = (scenario: Scenario): Bodies => {
    const act = async (
      { sagaId: id, path, key, fence, outcome }: Parameters<Bodies['step']>[0],
      undo: boolean,
      effect: () => Promise<void>,
    ): Promise<string> => {
      tell({ type: 'started', id, path, undo, fence, outcome: outcome ?? '' })
      const what = `body of ${path}${undo ? ' (undo)' : ''}`
      await systemClock.sleep(random() * bodyMs)
      if (dieIn(path, undo, 'before')) die(`before effect, ${what}`)
      // of one that fails, an attempt that was cut off may have had its effect all the same
      if (failures(scenario, path, undo) > 0 && !dieIn(path, undo, 'after')) throw new Error('no')
      await effect()
      if (dieIn(path, undo, 'after')) die(`after effect, ${what}`)
      await systemClock.sleep(random() * bodyMs)
      return key
    }
    return {
      step: (context, undo) =>
        act(context, undo, async () => {
          const { sagaId: id, path, key, fence } = context
          const { rowCount } = await effects.query(
            `with taken as (
              insert into "${place}".callee as c values ($1, $2)
              on conflict (saga) do update set fence = excluded.fence where c.fence <= excluded.fence returning 1
            ) insert into "${place}".effects (saga, path, undo, key, fence) select $1, $3, $4, $5, $2 from taken`,
            [id, fence, path, undo, key],
          )
          if (rowCount === 1) return
          tell({ type: 'refused', id, path, fence })
          throw new Error('this fence is too small')
        }),
      ledger: (context, undo) =>
        act(context, undo, async () => {
          const { tx, sagaId } = context
          await tx.query(`insert into "${place}".ledger (saga, amount) values ($1, $2)`, [sagaId, undo ? -1 : 1])
        }),
    }
  }
  const definitions = job.scenarios.map((scenario) =>
    crashSaga(`${job.name} ${scenario}`, scenario, bodiesOf(scenario), transactions),
  )
  const known = new Map(definitions.map((definition) => [scenarioOf(definition.name), definition]))
  const orchestrator = new SagaOrchestrator({
    store: observed(store, tell, point?.kind === 'claim' ? stop : undefined),
    sagas: definitions,
    leaseMs,
    pollMs: 150,
    random,
  })
  orchestrator.on('lost', ({ id, epoch }) => tell({ type: 'lost', id, epoch }))
  orchestrator.on('settled', ({ id, status }) => tell({ type: 'settled', id, status }))
  orchestrator.start()
  const begin = async (): Promise<void> => {
    for (const { id, scenario } of job.begin) {
      // oxlint-disable no-await-in-loop -- one after the other, in an order that is always the same
      await again(() => orchestrator.run(known.get(scenario)!, id, { id }), tell)
      tell({ type: 'created', id })
      if (scenario === 'no signal') continue
      await again(() => orchestrator.signal(id, approved, 'yes', { dedupeId: 'once' }), tell)
      // oxlint-enable no-await-in-loop
    }
  }
  return { orchestrator, done: begin() }
}

/** A call whose answer was lost is made again. */
async function again<T>(call: () => Promise<T>, tell: (news: News) => void): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      // oxlint-disable-next-line no-await-in-loop
      return await call()
    } catch (error) {
      if (tries === 5) throw error
      tell({ type: 'failed', error: String(error) })
    }
  }
}

/** A store that tells what it gave to whom. @param stop called once, when a saga is taken over and nothing of it is written yet */
function observed(store: SagaStore, tell: (news: News) => void, stop?: () => void): SagaStore {
  const wrote = ({ id, epoch, position }: Transition): void => tell({ type: 'wrote', id, epoch, position })
  const own: SagaStore = {
    create: (saga) => store.create(saga),
    claim: async (request) => {
      const claims = await store.claim(request)
      for (const { saga, expired } of claims.claimed) {
        const { id, epoch, journal } = saga
        tell({ type: 'claimed', id, epoch, expired, journal })
      }
      if (stop && claims.claimed.some(({ expired }) => expired)) {
        const once = stop
        stop = undefined
        once()
      }
      return claims
    },
    renew: (leases, leaseMs) => store.renew(leases, leaseMs),
    commit: async (transitions) => {
      const answers = await store.commit(transitions)
      for (const [i, one] of transitions.entries()) if (answers[i] === 'ok') wrote(one)
      return answers
    },
    deliver: (message) => store.deliver(message),
    read: (id) => store.read(id),
    list: (query) => store.list!(query),
  }
  if (store.transaction)
    own.transaction = async (work, record) => {
      let written: Transition | undefined
      const answer = await store.transaction!(work, () => (written = record()))
      if (answer === 'ok' && written) wrote(written)
      return answer
    }
  if (store.onWake) own.onWake = (listener) => store.onWake!(listener)
  return own
}
