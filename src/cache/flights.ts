import { LRUCache } from 'lru-cache'
import { ClosedError, TimeoutError } from '../kernel/errors.js'
import { onAbort, orAbort } from '../kernel/signal.js'
import { ABSENT, ELSEWHERE, Fetcher } from './fetcher.js'
import { Flight, type Request, type Stale } from './flight.js'
import type { Levels } from './levels.js'
import type { LocalEntry } from './local.js'
import type { Plan } from './options.js'
import type { Budget } from './remote.js'
import type { Invalidation } from './store.js'

/** Failures remembered for `errorTtlMs`. */
const MAX_FAILURES = 1_000

/** A key that changes faster than the second level answers would keep a call waiting for ever. */
const MAX_ANEW = 3

const TIMED_OUT = Symbol('timed out')

interface Failure {
  readonly error: unknown
  readonly until: number
  readonly born: number
  readonly tags: readonly string[]
  readonly stale: Stale | undefined
}

/** All loads under way in this process: at most one per key that a new call may join. */
export class Flights {
  readonly #flights = new Map<string, Flight>()
  readonly #running = new Set<Flight>()
  readonly #failures = new LRUCache<string, Failure>({ max: MAX_FAILURES })
  readonly #fetcher: Fetcher
  #closed = false

  constructor(private readonly levels: Levels) {
    this.#fetcher = new Fetcher(levels)
  }

  /** Acts on an invalidation: forgets failures that it may have cured, those with its tags when they are asked for. */
  changed(what: Invalidation): void {
    if (what.kind === 'all') this.#failures.clear()
    else if (what.kind === 'keys') for (const key of what.keys) this.#failures.delete(key)
    else for (const flight of this.#running) this.#fetcher.giveWay(flight)
  }

  /** Lets every loader know that nobody wants its value any more. */
  close(): void {
    this.#closed = true
    for (const { controller } of this.#running) controller.abort(closed())
    this.#flights.clear()
    this.#failures.clear()
  }

  /** @throws ClosedError after `close`. */
  checkOpen(): void {
    if (this.#closed) throw closed()
  }

  /** The value of a key: stored, or loaded once for all who ask meanwhile. */
  async obtain(request: Request): Promise<unknown> {
    const { levels } = this
    for (let anew = 0; ; anew++) {
      this.checkOpen()
      request.signal?.throwIfAborted()
      const budget = levels.budget()
      if (!levels.coherent) {
        await levels.confirm(budget)
        this.checkOpen()
      }
      const entry = request.fresh ? undefined : levels.stored(request.key)
      if (entry) {
        levels.counters.l1Hits++
        if (this.due(entry)) this.refresh(entry, request)
        return levels.local.give(entry.value)
      }
      const { changes } = levels.fences // before the load begins: its loader may change things at once
      let flight = this.#flights.get(request.key)
      if (flight && this.#joinable(flight, request.fresh)) {
        request.parked?.()
      } else {
        const failure = request.fresh ? undefined : this.#failure(request.key)
        if (failure) return levels.local.give(this.#serve(request, failure.stale, failure.error))
        const wish = anew < MAX_ANEW ? request : { ...request, hurried: true }
        flight = this.#start(wish, request.fresh, budget)
      }
      levels.counters.misses++
      const value = await this.#wait(flight, request)
      if (value === ELSEWHERE) continue
      // What the load found out at its end may show that a change came between its beginning and this call.
      if (flight.outdated && changes !== flight.changes) continue
      if (value === ABSENT) {
        if (request.many) return ABSENT
        continue
      }
      return levels.local.give(value)
    }
  }

  /** Whether an entry is to be renewed ahead of time. */
  due(entry: LocalEntry): boolean {
    if (entry.refreshAt === entry.freshUntil) return false
    const { clock, random } = this.levels
    const now = clock.now()
    if (now < entry.refreshAt) return false
    const spreadMs = entry.notes?.spreadMs
    return spreadMs === undefined || now - spreadMs * Math.log(1 - random()) >= entry.freshUntil
  }

  /** Loads anew in the background. */
  refresh(entry: LocalEntry, request: Request): void {
    entry.refreshAt = entry.freshUntil // once per entry: when it fails, the next load comes at the end of the ttl
    const running = this.#flights.get(request.key)
    if (!running || !this.#joinable(running, true)) this.#start(request, true, this.levels.budget()).background = true
  }

  #joinable(flight: Flight, fresh: boolean): boolean {
    const { clock, leaseMs, maxStalenessMs, coherent, serveUnverified } = this.levels
    if (flight.watch.outdated(flight.tags) || flight.watch.overtaken || (fresh && !flight.forced && !flight.loading))
      return false
    const age = clock.now() - flight.startedAt
    return age < leaseMs && (coherent || serveUnverified || age < maxStalenessMs)
  }

  #failure(key: string): Failure | undefined {
    const failure = this.#failures.get(key)
    if (!failure || this.levels.clock.now() >= failure.until) return undefined
    return this.levels.fences.movedSince(failure.born, key, failure.tags, 'any') ? undefined : failure
  }

  #start(request: Request, forced: boolean, budget: Budget): Flight {
    const { fences, clock, leaseMs } = this.levels
    const { key } = request
    const before = this.#flights.get(key)
    if (before && clock.now() - before.startedAt >= leaseMs)
      before.controller.abort(new TimeoutError(`the load of ${key} took longer than leaseMs, ${leaseMs} ms`, leaseMs))
    const flight = new Flight({
      watch: fences.watch(key),
      request,
      changes: fences.changes,
      forced,
      budget,
      startedAt: clock.now(),
    })
    this.#flights.set(key, flight)
    this.#running.add(flight)
    let begin!: () => void
    flight.promise = new Promise((resolve) => {
      begin = () => resolve(this.#run(flight))
    })
    begin() // only now: the loader may ask for its own key at once
    flight.promise.catch(() => {}) // those who wait hear of it; in the background there may be nobody
    return flight
  }

  async #run(flight: Flight): Promise<unknown> {
    const { key, plan } = flight.request
    try {
      const value = await this.#fetcher.fetch(flight)
      this.#failures.delete(key)
      return value
    } catch (error) {
      if (plan.errorTtlMs > 0 && !flight.controller.signal.aborted && !flight.watch.outdated(flight.tags)) {
        const { watch } = flight
        const now = this.levels.clock.now()
        const until = now + plan.errorTtlMs
        const stale = flight.fallback(now)
        const tags = [...flight.tags, ...(stale?.tags ?? [])] // the old value goes with its own, which only its loader named
        this.#failures.set(key, { error, until, born: watch.start, tags, stale })
      }
      throw error
    } finally {
      flight.end()
      this.#running.delete(flight)
      if (this.#flights.get(key) === flight) this.#flights.delete(key)
    }
  }

  async #wait(flight: Flight, request: Request): Promise<unknown> {
    const { signal, plan } = request
    const patient = plan.softTimeoutMs === Infinity && plan.hardTimeoutMs === Infinity
    flight.waiters++
    try {
      const value = await orAbort(patient ? flight.promise : this.#impatient(flight, plan, signal), signal)
      if (value !== TIMED_OUT) return value
      flight.background = true
    } catch (error) {
      if (signal?.aborted) throw error
      return this.#serve(request, flight.fallback(this.levels.clock.now()), error)
    } finally {
      flight.waiters--
      if (signal?.aborted && flight.waiters === 0 && !flight.background) this.#abandon(flight, signal.reason)
    }
    const stale = flight.fallback(this.levels.clock.now())
    if (stale) return this.#serve(request, stale)
    throw new TimeoutError(`no value of ${request.name} within ${plan.hardTimeoutMs} ms`, plan.hardTimeoutMs)
  }

  /** As the flight settles, or {@link TIMED_OUT} when this call has waited as long as it wants to. */
  #impatient(
    flight: Flight,
    { softTimeoutMs, hardTimeoutMs }: Plan,
    signal: AbortSignal | undefined,
  ): Promise<unknown> {
    const { clock } = this.levels
    return new Promise((resolve, reject) => {
      let ended = false
      const cancels: (() => void)[] = []
      const end = (): void => {
        ended = true
        for (const cancel of cancels) cancel()
      }
      const after = (ms: number, ready: () => boolean): void => {
        const fire = (): void => {
          if (!ready()) return
          end()
          resolve(TIMED_OUT)
        }
        cancels.push(clock.setTimer(fire, ms, { keepAlive: true }))
      }
      if (signal) cancels.push(onAbort(signal, end))
      after(hardTimeoutMs, () => true)
      if (softTimeoutMs < Infinity) {
        const began = clock.now()
        void flight.looked.then(() => {
          const hasFallback = (): boolean => flight.fallback(clock.now()) !== undefined
          if (!ended && hasFallback()) after(Math.max(0, softTimeoutMs - (clock.now() - began)), hasFallback)
        })
      }
      flight.promise.then(
        (value) => {
          end()
          resolve(value)
        },
        (error) => {
          end()
          reject(error)
        },
      )
    })
  }

  #abandon(flight: Flight, reason: unknown): void {
    flight.controller.abort(reason)
    if (this.#flights.get(flight.watch.key) === flight) this.#flights.delete(flight.watch.key)
  }

  /** @throws `error` when there is no old value to serve. */
  #serve(request: Request, stale: Stale | undefined, error?: unknown): unknown {
    const { emitter, counters, clock } = this.levels
    if (!stale || clock.now() >= stale.until) throw error
    counters.staleServed++
    emitter.emit('stale', { key: request.name, error })
    return stale.value
  }
}

const closed = (): ClosedError => new ClosedError('the cache is closed')
