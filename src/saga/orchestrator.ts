import {
  checkFunction,
  checkInteger,
  checkMethods,
  checkNumber,
  checkObject,
  checkOneOf,
  checkPositive,
  checkString,
  invalid,
} from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { ClosedError, NotFoundError } from '../kernel/errors.js'
import { systemRandom } from '../kernel/random.js'
import { validate, validateNow } from '../kernel/schema.js'
import { orAbort } from '../kernel/signal.js'
import { checkDefinition, checkSame, orderOf } from './checks.js'
import type { SagaDefinition } from './definition.js'
import { SagaConflictError } from './errors.js'
import { Grouped } from './grouped.js'
import { SAGA_STATUSES, type JournalEntry, type SagaStatus } from './journal.js'
import { SagaMachine } from './machine.js'
import { migrate, type MigrateOptions } from './migrate.js'
import type { Order } from './operators.js'
import type { Operator, SagaEvents, SagaHandle, SagaOrchestratorOptions } from './orchestrator-options.js'
import { payloadText } from './payload.js'
import type { SagaRun } from './run.js'
import type { SagaSignal } from './signal.js'
import type { Delivered, NewMessage, SagaQuery, SagaStore, SagaSummary, StoredSaga } from './store.js'
import { outcomeOf, viewOf, type SagaOutcome, type SagaView } from './view.js'
import { Worker } from './worker.js'

/** Runs sagas of a store, together with every other orchestrator of that store. */
export class SagaOrchestrator implements AsyncDisposable {
  readonly #store: SagaStore
  readonly #clock: Clock
  readonly #pollMs: number
  readonly #leaseMs: number
  readonly #worker: Worker
  readonly #events = new Emitter<SagaEvents>()
  readonly #waiters = new Map<string, Set<Tell>>()
  /** How many wait for a saga that did not run here when they began: nothing else may keep the process alive for them. */
  #waitingElsewhere = 0
  #unsubscribe: Unsubscribe | undefined
  /** Aborts when it is closed. */
  readonly #end = new AbortController()
  #closed: Promise<void> | undefined

  /** @throws InvalidOptionError when an option is wrong, or two definitions have the same name and version. */
  constructor(options: SagaOrchestratorOptions) {
    const { store, sagas = [], leaseMs = 10_000, concurrency = 64, graceMs = 5_000 } = checkObject('options', options)
    const { pollMs = 1_000, bus, clock = systemClock, random = systemRandom } = options
    this.#store = checkMethods('store', store, ['create', 'claim', 'renew', 'commit', 'deliver', 'read'])
    this.#clock = checkMethods('clock', clock, ['now', 'setTimer', 'sleep', 'epochMs'])
    if (bus !== undefined) checkMethods('bus', bus, ['publish'])
    if (!Array.isArray(sagas)) invalid('sagas', 'an array', sagas)
    this.#pollMs = checkPositive('pollMs', pollMs)
    this.#leaseMs = checkPositive('leaseMs', leaseMs)
    this.#worker = new Worker({
      store,
      writes: new Grouped((transitions) => store.commit(transitions)),
      clock,
      random: checkFunction('random', random),
      leaseMs,
      concurrency: checkInteger('concurrency', concurrency, 1),
      graceMs: checkNumber('graceMs', graceMs, 0),
      pollMs,
      bus,
      isAwaited: () => this.#waitingElsewhere > 0,
      recorded: (run, entries, statusChanged) => this.#recorded(run, entries, statusChanged),
      dropped: (id) => this.#tellWaiters(id),
    })
    for (const definition of sagas) {
      checkDefinition('sagas', definition, store)
      if (this.#worker.find(definition)) invalid('sagas', 'one definition per name and version', definition.name)
      this.#worker.learn(definition)
    }
  }

  /** Begins to claim and run sagas. Calling it again does nothing. @throws ClosedError after `close()`. */
  start(): void {
    this.#checkOpen()
    this.#subscribe()
    this.#worker.start()
  }

  /**
   * Stores a saga; resolves before it has run. The same id, definition and input again give a handle of the same saga.
   * @throws InvalidPayloadError when its schema or the codec refuses the input: nothing was stored.
   * @throws SagaConflictError when the id is taken by another definition or input, SagaDefinitionDriftError when it is taken
   * by another structure under the same version: nothing was stored.
   * @throws StoreError: it may or may not be stored, and calling again with the same id is safe. ClosedError.
   */
  async run<Input, Results>(
    definition: SagaDefinition<Input, Results>,
    input: NoInfer<Input>,
    /** `id`: any string that is not empty. */
    options: { readonly id: string },
  ): Promise<SagaHandle<Results>> {
    this.#checkOpen()
    checkDefinition('definition', definition, this.#store)
    const id = checkString('id', checkObject('options', options).id)
    const { name, version, hash, deadlineMs } = definition
    const valid = validateNow(definition.input, input, `input of saga '${name}'`)
    const text = payloadText('the input', valid instanceof Promise ? await valid : valid)
    const key = { name, version, hash }
    const runsHere = this.#worker.reserve(id, key)
    let createdAt: number
    try {
      const sentAt = this.#clock.now()
      const { created, saga, now } = await this.#store.create({
        id,
        ...key,
        input: text,
        deadlineMs: deadlineMs === Infinity ? null : deadlineMs,
        leaseMs: runsHere ? this.#leaseMs : null,
      })
      createdAt = saga.createdAt
      if (!created) checkSame(saga, key, text)
      else if (!runsHere) this.#worker.claimSoon()
      else {
        const leaseUntil = sentAt + this.#leaseMs
        this.#worker.adopt([{ saga, expired: false, leaseUntil, clockOffset: now - this.#clock.now() }])
      }
    } finally {
      if (runsHere) this.#worker.giveBack(id)
    }
    const machine = this.#worker.find(key)?.machine
    const own = machine?.definition.hash === hash ? machine : new SagaMachine(definition)
    const begun = { id, createdAt }
    return { id, settled: ({ signal } = {}) => this.#settled(begun, own, signal) as Promise<SagaOutcome<Results>> }
  }

  /**
   * Sends a signal to a saga, whether it waits for it already or will later. Signals of one name are taken in the order they came.
   * @returns `'finished'`: it came too late; `'duplicate'`: one with this `dedupeId` had come: nothing was stored
   * @throws NotFoundError, InvalidPayloadError: nothing was stored. StoreError: unknown, send it again with the same `dedupeId`.
   */
  async signal<T>(
    id: string,
    signal: SagaSignal<T>,
    payload: NoInfer<T>,
    { dedupeId }: { readonly dedupeId?: string | undefined } = {},
  ): Promise<Exclude<Delivered, 'unknown'>> {
    checkString('signal.name', checkObject('signal', signal).name)
    if (dedupeId !== undefined) checkString('dedupeId', dedupeId, 0)
    const what = `signal '${signal.name}'`
    const text = payloadText(what, await validate(signal.schema, payload, what))
    return this.#deliver({ sagaId: id, kind: 'signal', name: signal.name, payload: text, dedupeId })
  }

  /**
   * Asks a saga to turn back: what it did is compensated. After its pivot it can't: the wish is kept as `late`.
   * Resolves when the wish is stored.
   * @param by kept in the history. @defaultValue 'caller'
   * @returns `'finished'`: it had ended
   * @throws NotFoundError; StoreError: it may or may not be stored. InvalidOptionError.
   */
  async cancel(id: string, reason: string, by: Operator = 'caller'): Promise<'delivered' | 'finished'> {
    const { who } = orderOf(by)
    const payload = JSON.stringify({ who, why: checkString('reason', reason) } satisfies Order)
    return (await this.#deliver({ sagaId: id, kind: 'cancel', name: '', payload })) as 'delivered' | 'finished'
  }

  /**
   * Gives every node a parked saga waits for its attempts anew; also those that have failed after the pivot while another branch waits.
   * @throws NotFoundError; SagaConflictError when there is none: nothing was stored. StoreError.
   */
  async retry(id: string, by: Operator): Promise<void> {
    await this.#order({ sagaId: id, kind: 'retry', name: '', payload: JSON.stringify(orderOf(by)) })
  }

  /**
   * Lets a parked saga go on without the node at `path`: going forward it has no result, going back it counts as undone.
   * @throws NotFoundError; SagaConflictError when the saga does not wait for this node: nothing was stored. StoreError.
   */
  async skip(id: string, path: string, by: Operator): Promise<void> {
    await this.#order({ sagaId: id, kind: 'skip', name: path, payload: JSON.stringify(orderOf(by)) })
  }

  /**
   * Tells a parked saga that the node at `path` was settled by hand: going forward `result` is its result, going back it is undone.
   * @throws NotFoundError; InvalidPayloadError; SagaConflictError when the saga does not wait for this node: nothing was stored. StoreError.
   */
  async resolve(id: string, path: string, result: unknown, by: Operator): Promise<void> {
    const order: Order = { ...orderOf(by), value: payloadText('the result', result) }
    await this.#order({ sagaId: id, kind: 'resolve', name: path, payload: JSON.stringify(order) })
  }

  /**
   * Sends a parked or compensated saga forward again from the top-level node `from`, with a new deadline. Nodes that were
   * compensated run under new keys. Everything before `from` must be done, and `from` must stand after a pivot that is done.
   * @throws NotFoundError; SagaConflictError when that is not so: nothing was stored. StoreError.
   */
  async redrive(id: string, options: { readonly from: string; readonly by?: Operator }): Promise<void> {
    const { from, by = 'operator' } = checkObject('options', options)
    await this.#order({ sagaId: id, kind: 'redrive', name: from, payload: JSON.stringify(orderOf(by)) })
  }

  /**
   * Lets an unfinished saga go on as another definition says, if what has happened fits it: every step that has begun is there under the same path, as the
   * same kind and in the same order, with a compensation if it had one; no new node stands before what has begun, but those in `done` and `skipped`.
   * Waits and pauses may go. Input, deadline, results and counted failures stay. A saga that is of this definition already is left as it is.
   * @throws SagaMigrationError when it does not fit, has ended, or is being run at the moment: nothing was written.
   * @throws NotFoundError; InvalidPayloadError; InvalidOptionError: nothing was written. StoreError: unknown, calling again is safe.
   */
  async migrate(id: string, options: MigrateOptions): Promise<void> {
    const machineOf = (saga: StoredSaga): SagaMachine | undefined => this.#worker.find(saga)?.machine
    const moved = await migrate({ store: this.#store, machineOf }, checkString('id', id), options)
    if (moved && !this.#store.onWake) this.#worker.wake({ id, dueInMs: 0 })
  }

  /** A saga as it stands in the store; `undefined` when there is none of this id. @throws StoreError. */
  async get(id: string): Promise<SagaView | undefined> {
    const saga = await this.#store.read(checkString('id', id, 0))
    if (!saga) return undefined
    const found = this.#worker.find(saga)
    if (!found) return viewOf(saga, undefined, 'unknown')
    if (found.machine.definition.hash !== saga.hash) return viewOf(saga, undefined, 'drifted')
    return viewOf(saga, found.machine, 'known')
  }

  /** Sagas in the order of their ids. `after`: the last id of the page before; `limit`: integer ≥ 1, 100 by default. @throws StoreError; InvalidOptionError, also when the store has no list. */
  async list(query: Partial<SagaQuery> = {}): Promise<readonly SagaSummary[]> {
    const { limit = 100, stuckForMs, status, name, after } = checkObject('query', query)
    if (name !== undefined) checkString('name', name, 0)
    if (after !== undefined) checkString('after', after, 0)
    if (status !== undefined) checkOneOf('status', status, SAGA_STATUSES)
    checkInteger('limit', limit, 1)
    if (stuckForMs !== undefined) checkNumber('stuckForMs', stuckForMs, 0)
    if (!this.#store.list) invalid('store', 'one that has a list', this.#store)
    return this.#store.list({ ...query, limit })
  }

  /** Calls `listener` at each event `name` until the returned function is called. */
  on<K extends keyof SagaEvents>(name: K, listener: (event: SagaEvents[K]) => unknown): Unsubscribe {
    if (name === 'lost' || name === 'drift' || name === 'error') return this.#worker.events.on(name, listener as never)
    return this.#events.on(name, listener)
  }

  /**
   * Starts nothing more; resolves when all sagas are let go, also those that a call under way still brings, so that others take over at
   * once. Neither bodies nor a store that hangs are waited for longer than `graceMs` each. Bodies may end within that time; of those that do
   * not, the outcome is unknown, and others wait for the lease, as after a crash. Calling it again gives the same promise.
   */
  close(): Promise<void> {
    return (this.#closed ??= this.#close())
  }

  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    await this.#worker.close()
    this.#unsubscribe?.()
    this.#end.abort(closedError())
    for (const id of [...this.#waiters.keys()]) this.#tellWaiters(id)
  }

  #checkOpen(): void {
    if (this.#closed) throw closedError()
  }

  #subscribe(): void {
    this.#unsubscribe ??= this.#store.onWake?.((wake) => {
      this.#worker.wake(wake)
      if (wake.id === undefined) for (const id of [...this.#waiters.keys()]) this.#tellWaiters(id)
      // of one that runs here its run tells, and how it ended
      else if (wake.dueInMs === Infinity && !this.#worker.holds(wake.id)) this.#tellWaiters(wake.id)
    })
  }

  async #deliver(message: NewMessage): Promise<Exclude<Delivered, 'unknown'>> {
    checkString('id', message.sagaId, 0)
    const delivered = await this.#store.deliver(message)
    if (delivered === 'unknown') throw new NotFoundError(`there is no saga '${message.sagaId}'`)
    if (delivered === 'delivered' && !this.#store.onWake) this.#worker.wake({ id: message.sagaId, dueInMs: 0 })
    return delivered
  }

  /** Tries the order on a copy first, so that whoever gives it learns that it does not fit. */
  async #order(message: NewMessage): Promise<void> {
    const { sagaId, kind, name, payload } = message
    checkString(kind === 'redrive' ? 'from' : 'path', name, 0)
    const saga = await this.#store.read(checkString('id', sagaId, 0))
    if (!saga) throw new NotFoundError(`there is no saga '${sagaId}'`)
    const machine = this.#worker.find(saga)?.machine
    if (machine?.definition.hash === saga.hash) {
      const trial = { number: saga.lastMessage + 1, kind, name, payload }
      const moment = { now: saga.updatedAt, live: new Set<string>(), inbox: [trial], random: () => 0 }
      const { entries } = machine.decide(machine.load(saga), [], moment)
      if (!entries.some((e) => e.type === 'operator' && e.entry.applied)) throw misfit(saga, kind, name)
    } else if (saga.status !== 'parked' && kind !== 'redrive') throw misfit(saga, kind, name)
    if ((await this.#deliver(message)) === 'finished') throw misfit(saga, kind, name)
  }

  async #settled(
    { id, createdAt }: Pick<StoredSaga, 'id' | 'createdAt'>,
    machine: SagaMachine,
    signal: AbortSignal | undefined,
  ): Promise<SagaOutcome<unknown>> {
    this.#subscribe()
    for (;;) {
      signal?.throwIfAborted()
      this.#checkOpen()
      const change = this.#nextChange(id)
      try {
        if (!this.#worker.isBusyWith(id)) {
          // a store that hangs must hold neither the caller nor close()
          const saga = await orAbort(orAbort(this.#store.read(id), signal), this.#end.signal)
          // a new saga under the old id is not the one that was begun
          if (saga?.createdAt !== createdAt) throw new NotFoundError(`there is no saga '${id}' any more`)
          const known = this.#worker.find(saga)?.machine
          const now = known?.definition.hash === saga.hash ? known : machine // another one than it began with: it was moved
          const outcome = outcomeOf(now.load(saga), now)
          if (outcome) return outcome
        }
        const outcome = await orAbort(change.happened, signal)
        if (outcome) return outcome
      } finally {
        change.forget()
      }
    }
  }

  /** Resolves when the saga may have ended: with its outcome if that is known. */
  #nextChange(id: string): { readonly happened: Promise<SagaOutcome<unknown> | undefined>; forget(): void } {
    let tell!: Tell
    const happened = new Promise<SagaOutcome<unknown> | undefined>((resolve) => (tell = resolve))
    const all = this.#waiters.get(id) ?? new Set()
    this.#waiters.set(id, all.add(tell))
    const elsewhere = this.#worker.holds(id) ? 0 : 1
    this.#waitingElsewhere += elsewhere
    if (elsewhere) this.#worker.rearm()
    const poll = this.#store.onWake
      ? undefined
      : this.#clock.setTimer(() => tell(undefined), this.#pollMs, { keepAlive: true })
    return {
      happened,
      forget: () => {
        poll?.()
        all.delete(tell)
        if (all.size === 0 && this.#waiters.get(id) === all) this.#waiters.delete(id)
        this.#waitingElsewhere -= elsewhere
        if (elsewhere) this.#worker.rearm()
      },
    }
  }

  #tellWaiters(id: string, outcome?: SagaOutcome<unknown>): void {
    const waiters = this.#waiters.get(id)
    if (waiters) for (const tell of waiters) tell(outcome)
  }

  #recorded({ id, state, machine }: SagaRun, entries: readonly JournalEntry[], statusChanged: boolean): void {
    const { name } = machine.definition
    if (this.#events.has('node'))
      for (const path of new Set(entries.map((entry) => ('path' in entry ? entry.path : '')))) {
        const at = state.nodes.get(path)
        if (at) this.#events.emit('node', { id, name, path, status: at.status, attempt: at.attempt })
      }
    if (!statusChanged || !isEnd(state.status)) return
    if (this.#waiters.has(id)) this.#tellWaiters(id, outcomeOf(state, machine))
    this.#events.emit('settled', { id, name, status: state.status })
  }
}

const closedError = (): ClosedError => new ClosedError('the orchestrator is closed')

type Tell = (outcome: SagaOutcome<unknown> | undefined) => void

const isEnd = (status: SagaStatus): status is 'completed' | 'compensated' | 'parked' =>
  status === 'completed' || status === 'compensated' || status === 'parked'

const misfit = (saga: StoredSaga, kind: string, path: string): SagaConflictError =>
  new SagaConflictError(`saga '${saga.id}' is ${saga.status}: ${kind}${path && ` of '${path}'`} does not fit`, saga.id)
