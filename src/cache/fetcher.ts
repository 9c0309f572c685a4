import { checkLease } from './answers.js'
import type { Flight, Stale } from './flight.js'
import { Loading } from './loading.js'
import type { Found, Levels } from './levels.js'
import type { Plan } from './options.js'
import type { StoredEntry } from './store.js'

/** The value of a key that a load of many left out. */
export const ABSENT = Symbol('absent')

/** Not loaded: another process sees to it, or the call has to begin anew. */
export const ELSEWHERE = Symbol('elsewhere')

/** First and longest pause between two looks at a key that another process loads. */
const MIN_POLL_MS = 5
const MAX_POLL_MS = 100

/** An entry that is outdated each time it is told of is asked for no more often. */
const MAX_TRIES = 3

/** Brings one value for one flight: from the second level, or else by the loader, under a lease where one can be had. */
export class Fetcher {
  constructor(private readonly levels: Levels) {}

  async fetch(flight: Flight): Promise<unknown> {
    const { levels } = this
    const { remote } = levels
    if (remote && !flight.forced) {
      const found = await levels.find(flight.watch, flight.budget)
      if (found && found.freshMs > 0) return this.#hit(flight, found)
      if (found) flight.stale = staleOf(found, levels, flight.request.plan)
    }
    flight.stale ??= levels.localStale(flight.watch.key)
    flight.lookedUp()
    if (!remote) return this.#load(flight)
    const leased = await this.#lease(flight)
    if (leased === ELSEWHERE) return ELSEWHERE
    if (typeof leased === 'object') return this.#hit(flight, leased)
    flight.token = leased
    const { signal } = flight.controller
    if (signal.aborted) {
      this.#release(flight)
      throw signal.reason // nobody waits any more, or the cache is closed
    }
    if (leased !== undefined && !flight.request.hurried && flight.watch.outdated(flight.tags)) {
      // Changed here while it waited for its turn: a load now would bring a newer value than it may store. Begin anew.
      this.#release(flight)
      return ELSEWHERE
    }
    return this.#load(flight)
  }

  /**
   * Gives the lease of a load back whose value can't be stored any more, so that the next need not wait for its end. Of an
   * invalidated key the store takes the lease away itself, but of an invalidated tag it does not know whose load has it.
   */
  giveWay(flight: Flight): void {
    if (flight.token !== undefined && !flight.watch.mayFill(flight.tags)) this.#release(flight)
  }

  #hit(flight: Flight, found: Found): unknown {
    const { levels } = this
    flight.tags = found.entry.tags
    levels.counters.l2Hits++
    levels.keepFound(flight.watch, found, flight.request.plan)
    return found.value
  }

  /**
   * Waits until this process may load, or another has loaded. Without an answer, or when it takes too long, this process loads
   * alone: the value will not go to the second level.
   */
  async #lease(flight: Flight): Promise<Found | string | undefined | typeof ELSEWHERE> {
    const { levels } = this
    const { key } = flight.watch
    const { remote, clock, leaseMs } = levels
    const giveUpAt = clock.now() + leaseMs
    if (!remote) return undefined
    let tries = MAX_TRIES
    for (let pauseMs = MIN_POLL_MS; !levels.doubtful(key); pauseMs = Math.min(2 * pauseMs, MAX_POLL_MS)) {
      const sentAt = levels.fences.turn
      const lease = await remote.call(
        'lease',
        async (store) => checkLease(await store.lease(key, leaseMs, flight.forced)),
        pauseMs === MIN_POLL_MS ? flight.budget : remote.budget(), // waiting for another's load is not waiting for the store
        (late) => late.kind === 'granted' && this.#giveBack(key, late.token),
      )
      if (!lease) return undefined
      if (lease.kind === 'granted') {
        flight.stamp = lease.seq
        return lease.token
      }
      if (lease.kind === 'hit') {
        if (levels.doubtful(key, lease.entry.tags)) return undefined
        const current = !flight.watch.outdated(lease.entry.tags, sentAt)
        const found = current ? levels.decode(lease.entry) : undefined
        if (found) return found
        if (current || --tries === 0) return undefined // can't be read, or changes all the time: a load of our own
      } else {
        if (flight.background && flight.waiters === 0) return ELSEWHERE
        flight.request.parked?.()
      }
      if (clock.now() >= giveUpAt) return undefined
      await clock.sleep(pauseMs, flight.controller.signal)
    }
    return undefined
  }

  async #load(flight: Flight): Promise<unknown> {
    const { counters, clock, emitter, local } = this.levels
    const { request } = flight
    const began = clock.now()
    const loading = new Loading(flight, flight.fallback(began), began, (value) => local.give(value))
    flight.loading = true
    counters.loads++
    try {
      const value = await request.load(loading)
      const ms = clock.now() - began
      if (value !== ABSENT && emitter.has('load')) emitter.emit('load', { key: request.name, ms })
      flight.tags = loading.tags
      if (!loading.stored || value === ABSENT) this.#release(flight)
      else await this.#store(flight, loading, { value, ms })
      return value
    } catch (error) {
      counters.loadErrors++
      emitter.emit('loadError', { key: request.name, error })
      this.#release(flight)
      throw error
    }
  }

  async #store(flight: Flight, loading: Loading, loaded: { value: unknown; ms: number }): Promise<void> {
    const { levels } = this
    const { watch, request, token } = flight
    const { remote } = levels
    const { value, ms: loadMs } = loaded
    const { tags, etag, graceMs } = loading
    if (!watch.mayFill(tags)) {
      this.#release(flight)
      return this.#fenced(flight)
    }
    const ttlMs = Math.ceil(loading.ttlMs * (1 - request.plan.jitterRatio * levels.random()))
    if (ttlMs + graceMs === 0) return this.#release(flight)
    const kept = levels.local.keep(value) // before the second level has it: it may throw
    if (remote && token !== undefined) {
      const epochMs = levels.clock.epochMs()
      const entry: StoredEntry = {
        payload: levels.codec.encode(value),
        stamp: flight.stamp,
        freshUntil: epochMs + ttlMs,
        storedAt: epochMs,
        tags,
        etag,
        loadMs,
      }
      const filled = await remote.call(
        'fill',
        (store) => store.fill(watch.key, token, entry, Math.ceil(ttlMs + graceMs)),
        flight.budget,
      )
      if (filled === false) {
        levels.local.remove(watch.key) // somebody changed the key: what stands here is older
        return this.#fenced(flight)
      }
    }
    if (!watch.mayPutLoad(tags)) return levels.local.remove(watch.key) // what was put meanwhile may be older
    const plan = { ...request.plan, graceMs }
    levels.put(watch.key, { value: kept, freshMs: ttlMs, ageMs: 0, tags, etag, loadMs }, plan, watch.start)
    watch.put(true)
  }

  #fenced({ request }: Flight): void {
    this.levels.counters.fenced++
    this.levels.emitter.emit('fenced', { key: request.name })
  }

  /** So that others need not wait for the end of the lease. */
  #release(flight: Flight): void {
    if (flight.token !== undefined) this.#giveBack(flight.watch.key, flight.token)
    flight.token = undefined
  }

  #giveBack(key: string, token: string): void {
    const { remote } = this.levels
    if (remote) void remote.call('fill', (store) => store.fill(key, token, undefined, 0), remote.budget())
  }
}

/** Past the call's own grace, how long it may still serve is the store's to say: it keeps an entry for as long as that. */
const staleOf = ({ value, entry, freshMs }: Found, { clock }: Levels, { graceMs }: Plan): Stale => ({
  value,
  storedAt: clock.now() - (clock.epochMs() - entry.storedAt),
  tags: entry.tags,
  etag: entry.etag,
  until: freshMs + graceMs > 0 ? clock.now() + freshMs + graceMs : Infinity,
})
