import { Emitter } from '../kernel/emitter.js'
import type { SagaDefinition } from './definition.js'
import { SagaDefinitionDriftError } from './errors.js'
import { SagaMachine } from './machine.js'
import { visibleNodes } from './results.js'
import type { RunHost } from './run-host.js'
import { SagaRun } from './run.js'
import type { SagaNode } from './definition.js'
import type { JournalEntry } from './journal.js'
import type { DefinitionKey, SagaWake } from './store.js'
import type { Taken } from './taken.js'

/** What a {@link Worker} is made of. */
export interface WorkerOptions extends Omit<RunHost, 'recorded' | 'dropped' | 'failed'> {
  readonly concurrency: number
  readonly pollMs: number
  /** Whether somebody waits for the end of a saga that does not run here: timers then keep the process alive. */
  readonly isAwaited: () => boolean
  readonly recorded: RunHost['recorded']
  /** A saga is not owned here any more. */
  readonly dropped: (id: string) => void
}

/** What goes on behind the calls. */
export interface WorkerEvents {
  lost: { readonly id: string; readonly epoch: number }
  drift: { readonly id: string; readonly error: SagaDefinitionDriftError }
  error: { readonly doing: 'claim' | 'renew' | 'commit' | 'publish' | 'read' | 'run'; readonly error: unknown }
}

/** The machine of a definition and what its bodies see. */
export interface Known {
  readonly machine: SagaMachine
  readonly visible: ReadonlyMap<string, readonly SagaNode[]>
}

const REMEMBERED_DRIFTS = 1_000
const REMEMBERED_WAKES = 10_000
/** After a claim, until those that something came for meanwhile are asked about: mostly that was their creation, and many have ended by then. */
const SOON_MS = 50

/** Owns sagas: claims those that are due, keeps their leases, runs them. Soon after its last saga it holds no timer. */
export class Worker implements RunHost {
  readonly events = new Emitter<WorkerEvents>()
  readonly store
  readonly writes
  readonly clock
  readonly random
  readonly leaseMs
  readonly graceMs
  readonly bus
  /** Every version, by name. */
  readonly #known = new Map<string, (Known & { readonly key: DefinitionKey })[]>()
  readonly #runs = new Map<string, SagaRun>()
  readonly #drifted = new Set<string>()
  /** Sagas that something has come for since a claim or a creation under way was sent: the answer may be older. */
  readonly #woken = new Set<string>()
  /** How many creations of a saga are under way. */
  readonly #creating = new Map<string, number>()
  #reserved = 0
  #state: 'idle' | 'started' | 'closed' = 'idle'
  #claiming = false
  #claimAgain = false
  #starved = false
  #claimTimer: { readonly at: number; readonly keepAlive: boolean; readonly cancel: () => void } | undefined
  #renewTimer: { readonly at: number; readonly cancel: () => void } | undefined
  #onEmpty: (() => void) | undefined
  #waitsForCalls = true

  constructor(private readonly options: WorkerOptions) {
    this.store = options.store
    this.writes = options.writes
    this.clock = options.clock
    this.random = options.random
    this.leaseMs = options.leaseMs
    this.graceMs = options.graceMs
    this.bus = options.bus
  }

  learn(definition: SagaDefinition): void {
    const { name, version, hash } = definition
    const machine = new SagaMachine(definition)
    const versions = this.#known.get(name) ?? []
    this.#known.set(name, versions)
    versions.push({ machine, visible: visibleNodes(definition.nodes), key: { name, version, hash } })
  }

  /** What is known of this name and version, whatever its hash. */
  find({ name, version }: Pick<DefinitionKey, 'name' | 'version'>): Known | undefined {
    return this.#known.get(name)?.find(({ key }) => key.version === version)
  }

  /** Whether it runs here and, as far as is known, goes on. */
  isBusyWith(id: string): boolean {
    const status = this.#runs.get(id)?.state.status
    return status === 'running' || status === 'waiting' || status === 'compensating'
  }

  /** Whether it is owned here, as far as is known. */
  holds(id: string): boolean {
    return this.#runs.has(id)
  }

  start(): void {
    if (this.#state !== 'idle') return
    this.#state = 'started'
    this.claimSoon()
  }

  /** Keeps a place for a saga to be created, until {@link giveBack}. @returns whether there is one */
  reserve(id: string, key: DefinitionKey): boolean {
    if (this.#state !== 'started' || this.#room() <= 0) return false
    if (this.find(key)?.machine.definition.hash !== key.hash) return false
    this.#reserved++
    this.#creating.set(id, (this.#creating.get(id) ?? 0) + 1)
    return true
  }

  giveBack(id: string): void {
    this.#reserved--
    const left = (this.#creating.get(id) ?? 1) - 1
    if (left > 0) this.#creating.set(id, left)
    else this.#creating.delete(id)
    if (left === 0 && !this.#claiming) this.#woken.delete(id)
    if (this.#starved) this.claimSoon()
    this.#tellIfEmpty()
  }

  /** Runs sagas that the store says are ours. */
  adopt(all: readonly Taken[]): void {
    for (const taken of all) this.#adopt(taken)
    const behind = all.flatMap(({ saga: { id } }) => (this.#woken.delete(id) ? (this.#runs.get(id) ?? []) : []))
    if (behind.length === 0) return
    const ask = (): void => void this.#renew(behind.filter((run) => this.#runs.get(run.id) === run)) // tells whether messages came
    this.clock.setTimer(ask, SOON_MS)
  }

  #adopt(taken: Taken): void {
    const { saga } = taken
    const known = this.find(saga)
    if (!known) return // its lease runs out and somebody who knows it takes it
    this.#runs.get(saga.id)?.replaced(taken)
    let run: SagaRun
    try {
      run = new SagaRun(known.machine, known.visible, this, taken)
    } catch (error) {
      return this.failed('read', error) // it must not hold up the others
    }
    this.#runs.set(saga.id, run)
    const leftMs = taken.leaseUntil - this.clock.now() // little when the store was slow to answer
    this.#renewIn(Math.min(this.leaseMs / 3, leftMs / 2))
    if (this.#state === 'closed') run.close()
    else run.proceed()
  }

  /** Something has changed in the store. */
  wake({ id, dueInMs }: SagaWake): void {
    if (id !== undefined) {
      const mayCome = this.#creating.has(id) || (this.#claiming && this.#woken.size < REMEMBERED_WAKES)
      if (mayCome && dueInMs === 0) this.#woken.add(id)
      const run = this.#runs.get(id)
      if (run && dueInMs === 0) return void run.readInbox()
    }
    this.#claimIn(id === undefined ? 0 : dueInMs)
  }

  /** Claims now, or as soon as the claim under way has ended. */
  claimSoon(): void {
    this.#claimIn(0)
  }

  /** Makes the timer keep the process alive, or no longer. */
  rearm(): void {
    const timer = this.#claimTimer
    if (timer && timer.keepAlive !== this.options.isAwaited()) this.#setClaimTimer(timer.at)
  }

  /** Lets every saga go. Resolves when none is owned any more, and no call is under way that may bring one. */
  async close(): Promise<void> {
    this.#state = 'closed'
    this.#claimTimer?.cancel()
    this.#claimTimer = undefined
    const empty = new Promise<void>((resolve) => (this.#onEmpty = resolve))
    for (const run of [...this.#runs.values()]) run.close()
    const giveUp = (): void => {
      this.#waitsForCalls = false // the store hangs: what it gives out then waits for the lease
      this.#tellIfEmpty()
    }
    const cancel = this.clock.setTimer(giveUp, this.graceMs, { keepAlive: true })
    this.#tellIfEmpty()
    await empty
    cancel()
    this.#renewTimer?.cancel()
  }

  recorded(run: SagaRun, entries: readonly JournalEntry[], statusChanged: boolean): void {
    this.options.recorded(run, entries, statusChanged)
  }

  dropped(run: SagaRun, lost: boolean): void {
    if (this.#runs.get(run.id) === run) this.#runs.delete(run.id)
    this.#tellIfEmpty()
    if (lost) {
      this.events.emit('lost', { id: run.id, epoch: run.epoch })
      this.#claimIn(this.leaseMs) // it may have been ours alone
    }
    if (this.#starved || run.woken) this.claimSoon()
    this.options.dropped(run.id)
  }

  failed(doing: WorkerEvents['error']['doing'], error: unknown): void {
    this.events.emit('error', { doing, error })
  }

  #tellIfEmpty(): void {
    const isBusy = this.#waitsForCalls && (this.#claiming || this.#reserved > 0)
    if (this.#runs.size === 0 && !isBusy) this.#onEmpty?.()
  }

  #room(): number {
    return this.options.concurrency - this.#runs.size - this.#reserved
  }

  #claimIn(ms: number): void {
    if (this.#state !== 'started') return
    if (ms > 0) return this.#setClaimTimer(Math.min(this.#claimTimer?.at ?? Infinity, this.clock.now() + ms))
    if (this.#claiming) this.#claimAgain = true
    else void this.#claim()
  }

  #setClaimTimer(at: number): void {
    const keepAlive = this.options.isAwaited()
    if (this.#claimTimer?.at === at && this.#claimTimer.keepAlive === keepAlive) return
    this.#claimTimer?.cancel()
    this.#claimTimer = undefined
    if (at === Infinity) return
    const fire = (): void => {
      this.#claimTimer = undefined
      this.claimSoon()
    }
    const waitMs = Math.max(0, at - this.clock.now())
    this.#claimTimer = { at, keepAlive, cancel: this.clock.setTimer(fire, waitMs, { keepAlive }) }
  }

  async #claim(): Promise<void> {
    this.#claiming = true
    let nextMs: number
    try {
      nextMs = await this.#claimAll()
    } catch (error) {
      this.failed('claim', error)
      nextMs = this.options.pollMs
      this.#claimAgain = false
    } finally {
      this.#claiming = false
      this.#tellIfEmpty()
    }
    if (this.#claimAgain) return this.#claimIn(0) // something came after the last claim was answered
    this.#claimIn(Math.max(1, this.store.onWake ? nextMs : Math.min(nextMs, this.options.pollMs)))
  }

  /** @returns milliseconds after which to look again */
  async #claimAll(): Promise<number> {
    for (;;) {
      this.#claimAgain = false
      const limit = this.#room()
      this.#starved = limit <= 0
      if (limit <= 0 || this.#state !== 'started') return Infinity
      const sentAt = this.clock.now()
      const known = [...this.#known.values()].flat().map(({ key }) => key)
      for (const id of this.#woken) if (!this.#creating.has(id)) this.#woken.delete(id)
      const { claimed, unreadable, drifted, now, nextDueMs } = await this.store.claim({
        known,
        limit,
        leaseMs: this.leaseMs,
      })
      const clockOffset = now - this.clock.now()
      const leaseUntil = sentAt + this.leaseMs
      this.adopt(claimed.map(({ saga, expired }) => ({ saga, expired, leaseUntil, clockOffset })))
      for (const saga of drifted) this.#tellDrift(saga)
      for (const error of unreadable ?? []) this.failed('read', error)
      if (claimed.length < limit && !this.#claimAgain) return nextDueMs
    }
  }

  #tellDrift({ id, name, version }: { id: string; name: string; version: number }): void {
    if (this.#drifted.has(id)) return
    if (this.#drifted.size >= REMEMBERED_DRIFTS) this.#drifted.clear()
    this.#drifted.add(id)
    this.events.emit('drift', { id, error: driftError(id, name, version) })
  }

  /** Renews what is to be renewed `ms` milliseconds from now, or sooner. */
  #renewIn(ms: number): void {
    const at = this.clock.now() + Math.max(1, ms)
    if (this.#renewTimer && this.#renewTimer.at <= at) return
    this.#renewTimer?.cancel()
    const tick = (): void => {
      this.#renewTimer = undefined
      void this.#renewOld()
      if (this.#runs.size === 0) return
      const now = this.clock.now()
      let waitMs = this.leaseMs / 3
      for (const { leaseUntil } of this.#runs.values()) waitMs = Math.min(waitMs, leaseUntil - now)
      this.#renewIn(waitMs)
    }
    this.#renewTimer = { at, cancel: this.clock.setTimer(tick, Math.max(1, ms)) }
  }

  async #renewOld(): Promise<void> {
    const now = this.clock.now()
    for (const run of [...this.#runs.values()]) if (run.leaseUntil <= now) run.lose()
    await this.#renew([...this.#runs.values()].filter((run) => run.leaseUntil - now <= (this.leaseMs * 2) / 3))
  }

  async #renew(runs: readonly SagaRun[]): Promise<void> {
    if (runs.length === 0) return
    const now = this.clock.now()
    try {
      const leases = runs.map(({ id, epoch }) => ({ id, epoch }))
      const answers = await this.store.renew(leases, this.leaseMs)
      for (const [i, run] of runs.entries()) {
        const answer = answers[i]
        if (answer === undefined || answer === 'fenced') run.fenced()
        else {
          run.leaseUntil = Math.max(run.leaseUntil, now + this.leaseMs)
          if (answer.lastMessage > run.seen) void run.readInbox()
        }
      }
    } catch (error) {
      this.failed('renew', error)
    }
  }
}

export const driftError = (id: string, name: string, version: number): SagaDefinitionDriftError =>
  new SagaDefinitionDriftError(
    `saga '${id}' was begun by '${name}' version ${version} with another structure: give the changed one a new version`,
    id,
  )
