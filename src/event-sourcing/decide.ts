import { checkFunction, checkInteger, checkMethods, checkObject, checkString, invalid } from '../kernel/check.js'
import { isHoldfastError } from '../kernel/errors.js'
import { orAbort } from '../kernel/signal.js'
import { MOST_MISSED, type VersionConflictError } from './errors.js'
import type { Event, Recorded } from './event.js'
import { checkQuery } from './query.js'
import { listOf, type Decided } from './replay.js'
import type { Appended, AppendOptions, EventStore, Query } from './store.js'

/** How {@link decide} decides. */
export interface DecideOptions extends AppendOptions {
  /** How often it is decided again when someone else was first. Integer ≥ 0. @defaultValue 10 */
  readonly retries?: number | undefined
}

/** Makes a state of events, one after the other. */
export interface Fold<S, E extends Event> {
  /** The state before the first event. */
  readonly initial: S
  /** The state after `event`. Must not change what `state` was given. */
  evolve(state: S, event: E): S
}

/** Events fetched at a time. */
const PAGE = 1_000

/**
 * A decision on the events that `query` picks, in whatever streams they are (dynamic consistency boundary): folds them, runs `fn`
 * on the state, and appends what it gives to a stream of their own, on condition that no other event that the query picks
 * was recorded meanwhile. Else folds what was missed and decides again. Give the events tags, so that queries find them.
 * With an idempotency key, a repeat decides nothing and gives the first outcome.
 * @returns what was appended. When `fn` gives no event, nothing is: then `stream` is `''`, `version` and `position` are 0, and there
 * are no `events`.
 * @throws what `fn` throws, as it is: nothing was written.
 * @throws VersionConflictError when someone else was first every time; as `appendAll`.
 */
export async function decide<E extends Event, S, R extends E = E>(
  store: EventStore<E>,
  query: Query,
  fold: Fold<S, E>,
  fn: (state: S) => Decided<R> | Promise<Decided<R>>,
  options: DecideOptions = {},
): Promise<Appended<R>> {
  const { retries = 10, ...append } = options
  checkInteger('retries', retries, 0)
  checkQuery(checkObject('query', query))
  checkMethods('fold', fold, ['evolve'])
  checkFunction('fn', fn)
  const key = append.idempotencyKey
  if (key === undefined) return attempt(store, query, fold, fn, retries, append)
  const before = await recalled<E, R>(store, key, append.tx)
  if (before) return before
  try {
    const appended = await attempt(store, query, fold, fn, retries, append)
    return appended.events.length > 0 ? appended : ((await recalled<E, R>(store, key, append.tx)) ?? appended)
  } catch (error) {
    if (append.signal?.aborted) throw error
    // A twin may have been written since the key was looked up: then this one met the state after itself.
    const twin = await recalled<E, R>(store, key, append.tx).catch(() => undefined)
    if (twin) return twin
    throw error
  }
}

async function recalled<E extends Event, R extends E>(
  store: EventStore<E>,
  key: string,
  tx: unknown,
): Promise<Appended<R> | undefined> {
  const results = await store.recall<R>(checkString('idempotencyKey', key), { tx })
  if (results && results.length !== 1) return invalid('idempotencyKey', 'one that was not used for other streams', key)
  return results?.[0]
}

// oxlint-disable-next-line max-params -- the parts of `decide`
async function attempt<E extends Event, S, R extends E>(
  store: EventStore<E>,
  query: Query,
  fold: Fold<S, E>,
  fn: (state: S) => Decided<R> | Promise<Decided<R>>,
  retries: number,
  options: AppendOptions,
): Promise<Appended<R>> {
  const { signal } = options
  let state = fold.initial
  let after = 0
  const take = (events: readonly Recorded<E>[]): void => {
    for (const event of events) state = fold.evolve(state, event as unknown as E)
  }
  const catchUp = async (): Promise<void> => {
    for (;;) {
      signal?.throwIfAborted()
      // oxlint-disable-next-line no-await-in-loop -- each page starts where the last one ended
      const page = await orAbort(store.readPage<E>({ after, limit: PAGE, query }), signal)
      take(page.events)
      after = page.next
      if (page.events.length < PAGE) return // a short page goes up to the head
    }
  }
  await catchUp()
  for (let conflicts = 0; ;) {
    // oxlint-disable no-await-in-loop -- each try starts where the last one failed
    const events = listOf(await orAbort((async () => fn(state))(), signal))
    if (events.length === 0) return { stream: '', version: 0, position: 0, duplicate: false, events: [] }
    try {
      const [appended] = await store.appendAll<R>([{ events, unless: { query, after } }], options)
      return appended as Appended<R>
    } catch (error) {
      if (!isHoldfastError(error, 'VERSION_CONFLICT') || ++conflicts > retries) throw error
      const { missed, actual } = error as VersionConflictError<E>
      if (missed.length > 0 && missed.length < MOST_MISSED) {
        take(missed)
        after = actual
      } else {
        await catchUp()
      }
    }
    // oxlint-enable no-await-in-loop
  }
}
