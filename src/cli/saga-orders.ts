import { systemClock } from '../kernel/clock.js'
import type { HistoryEntry } from '../saga/journal.js'
import type { Order } from '../saga/operators.js'
import { payloadText } from '../saga/payload.js'
import type { NewMessage, SagaStore, StoredSaga } from '../saga/store.js'
import { accountOf } from './saga-journal.js'
import { blockedOf, textOf } from './saga-print.js'
import { quoted, UsageError, word, type Terminal } from './terminal.js'

/** What operators can do. */
export type Verb = 'retry' | 'skip' | 'resolve' | 'redrive' | 'cancel'

/** An order as it was given. */
export interface Wish {
  readonly verb: Verb
  readonly id: string
  /** Node of `skip` and `resolve`, start of `redrive`; else empty. */
  readonly path: string
  readonly who: string
  readonly why: string | undefined
  /** Of `resolve`: any JSON. */
  readonly result: unknown
  /** Nobody is asked. */
  readonly yes: boolean
  /** How long to wait until an orchestrator has taken it, in milliseconds. */
  readonly timeoutMs: number
}

const LOOK_MS = 50

/**
 * Delivers an order and tells what became of it. Orders are carried out by an orchestrator that knows the definition: this one
 * only sees whether it fits as far as the journal tells.
 * @throws Error when it does not fit, was refused, or nobody took it in time
 */
export async function give(store: SagaStore, wish: Wish, terminal: Terminal): Promise<void> {
  const { id, verb, path, who, why, result } = wish
  let before = await read(store, id)
  refuseMisfit(before, wish)
  if (!wish.yes) {
    await confirm(before, wish, terminal)
    before = await read(store, id) // people take their time
    refuseMisfit(before, wish)
  }
  const value = verb === 'resolve' ? { value: payloadText('the result', result) } : {}
  const payload = JSON.stringify({ who, ...(why === undefined ? {} : { why }), ...value } satisfies Order)
  const message: NewMessage = { sagaId: id, kind: verb, name: path, payload }
  const delivered = await store.deliver(message)
  if (delivered === 'unknown') throw unknown(id)
  if (delivered === 'finished') throw ended(await read(store, id), verb)
  await follow(store, before, wish, terminal)
}

/** Waits until an orchestrator has written what it made of the order. */
async function follow(store: SagaStore, before: StoredSaga, wish: Wish, terminal: Terminal): Promise<void> {
  const { id, verb, timeoutMs } = wish
  const { signal } = terminal
  const known = entriesLike(before, wish).length
  const until = systemClock.now() + timeoutMs
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- asked again and again
    const saga = await read(store, id)
    if (saga.createdAt !== before.createdAt)
      throw new Error(`the saga ended meanwhile, and ${quoted(id)} is another now`)
    const entry = entriesLike(saga, wish)[known]
    if (entry) return tell(saga, before, entry, terminal)
    if (saga.status === 'completed' && before.status !== 'completed') throw ended(saga, verb)
    if (systemClock.now() >= until || signal.aborted)
      throw new Error(
        `no orchestrator has taken it ${signal.aborted ? 'so far' : `within ${timeoutMs / 1_000} s`}. The order stays in the saga's inbox and is carried out as soon as one that knows ${word(saga.name)}@${saga.version} does; holdfast sagas show ${word(id)} tells`,
      )
    // oxlint-disable-next-line no-await-in-loop
    await systemClock.sleep(LOOK_MS, signal).catch(() => {}) // asked to end: one more look, and what is left is told
  }
}

function tell(saga: StoredSaga, before: StoredSaga, entry: HistoryEntry, terminal: Terminal): void {
  const { status } = saga
  const stands = status === before.status ? `still ${status}` : `${status} (was ${before.status})`
  if (entry.applied) return terminal.out(`${entry.verb}: taken; ${word(saga.id)} is ${stands}`)
  const { late } = accountOf(saga).state
  const why = late && entry.verb === 'cancel' ? 'it is past its pivot, or has turned back already' : 'it did not fit'
  throw new Error(`${entry.verb} of ${quoted(saga.id)} had no effect: ${why}; the saga is ${stands}`)
}

/** What the history has of this very order. */
function entriesLike({ journal }: StoredSaga, { verb, path, who, why }: Wish): HistoryEntry[] {
  return journal
    .flatMap(({ entries }) => entries)
    .flatMap((e) => (e.type === 'operator' ? [e.entry] : []))
    .filter((e) => e.verb === verb && (e.path ?? '') === path && e.who === who && e.why === why)
}

/** The mistakes that the journal alone shows. */
function refuseMisfit(saga: StoredSaga, { verb, path }: Wish): void {
  const { status, id } = saga
  const { state, nodes } = accountOf(saga)
  if (verb === 'cancel') {
    if (status === 'completed' || status === 'compensated') throw ended(saga, verb)
    if (state.direction === 'back') throw new Error(`${quoted(id)} is ${status}: it has turned back already`)
    return
  }
  if (verb === 'redrive') {
    if (status !== 'parked' && status !== 'compensated')
      throw misfit(saga, 'redrive needs a parked or compensated saga')
    return
  }
  const blocked = blockedOf(nodes)
  if (blocked.length === 0) throw misfit(saga, `${verb} needs a parked saga`)
  if (verb === 'retry') return
  if (!blocked.includes(path)) {
    const at = blocked.map(word).join(', ')
    throw misfit(saga, `it does not wait for ${quoted(path)}, but for ${at}`)
  }
}

async function confirm(saga: StoredSaga, { verb, path, who }: Wish, { ask }: Terminal): Promise<void> {
  if (!ask) throw new UsageError('nobody is there to be asked: give --yes')
  const { state } = accountOf(saga)
  const about = `${word(saga.id)} (${word(saga.name)}@${saga.version}, ${saga.status})`
  const why = state.failure ? `\nIt turned back: ${textOf(state.failure.error)}` : ''
  const what = path === '' ? verb : `${verb} ${word(path)} of`
  const answer = await ask(`${what} ${about}, as ${word(who)}?${why}\n[y/N] `)
  if (!/^y(es)?$/i.test(answer.trim())) throw new Error('left as it is')
}

/** @throws Error when there is none. */
export async function read(store: SagaStore, id: string): Promise<StoredSaga> {
  const saga = await store.read(id)
  if (!saga) throw unknown(id)
  return saga
}

const unknown = (id: string): Error => new Error(`there is no saga ${quoted(id)}`)

const ended = ({ id, status }: StoredSaga, verb: Verb): Error =>
  new Error(`${quoted(id)} is ${status}: ${verb} comes too late`)

const misfit = ({ id, status }: StoredSaga, why: string): Error => new Error(`${quoted(id)} is ${status}: ${why}`)
