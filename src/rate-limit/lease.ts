import { checkInteger, checkMethods, checkObject, checkPositive } from '../kernel/check.js'
import type { Clock } from '../kernel/clock.js'
import { StoreError, withoutStack } from '../kernel/errors.js'
import { admits, meterOf, stateOf, type Meter } from './gcra.js'
import type { Limit } from './limit.js'
import type { BucketState, Taken, TokenBucketStore } from './store.js'

/** Tokens that a process takes ahead of its calls. */
export interface LeaseOptions {
  /**
   * How many for each key in use, at once. Integer ≥ 1; where a capacity is smaller, so many as that. As many as are waited for,
   * where that is more.
   */
  readonly tokens: number
  /** What is left of them after so many milliseconds is lost. > 0. */
  readonly ttlMs: number
}

/** Keys with a lease in one process. More are not kept: the one that asked longest ago gives back what it holds. */
const MAX_LEASES = 10_000

/** Calls in all lines, above which new ones fail at once: behind a server that does not answer they would pile up without end. */
const MAX_WAITING = 10_000

/** A list of limits as leases want it. */
interface Terms {
  readonly limits: readonly Limit[]
  readonly meters: readonly Meter[]
  /** The smallest capacity: what costs more never passes. */
  readonly most: number
  /** Tokens taken at once. */
  readonly block: number
  /** Stands before a key, so that each list of limits has leases of its own. */
  readonly name: string
}

/** What this process holds of one key, and what it knows of its buckets. Times are those of the monotonic clock. */
interface Lease {
  /** Whose it is. */
  readonly key: string
  /** Under which limits. */
  readonly terms: Terms
  /** Tokens taken there and not used here. */
  held: number
  /** When what is held is lost. */
  until: number
  /** How many ticks each bucket was from full, as the shared store has told at some moment between the next two. */
  backlogs: readonly number[]
  /** Who wants to know what may be counts from here. */
  askedAt: number
  /** Who tells others when to come back counts from here. */
  answeredAt: number
  /** The last call in the line for this key; `undefined` when nobody stands there. */
  last: Promise<unknown> | undefined
  /** What each in that line wants to take, but for the one whose turn it is. */
  readonly costs: number[]
}

/** What waits in line for its turn. */
interface Turn<T> {
  /** Tokens it wants to take. */
  readonly cost: number
  readonly call: (lease: Lease) => T | Promise<T>
}

/**
 * A store in front of a shared one: takes blocks of tokens there, and decides by itself as long as they last. What a call takes here
 * was taken there before, so that all processes together never admit more than the buckets gave. It may have been taken up to
 * `ttlMs` earlier: in any span of w seconds at most capacity + refill × w + processes × `tokens` pass.
 *
 * A refusal is known here as long as the limits say, but no longer than `ttlMs`: a blocked key costs the server nothing. Calls of
 * one key that need the server go one after the other. Time is this process's monotonic clock; no timer is held.
 */
export class LeasingStore implements TokenBucketStore {
  readonly #shared: TokenBucketStore
  readonly #options: LeaseOptions
  readonly #clock: Clock
  readonly #terms = new WeakMap<readonly Limit[], Terms>()
  /** In the order in which the shared store was last asked. */
  readonly #leases = new Map<string, Lease>()
  #waiting = 0
  #isClosed = false

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(shared: TokenBucketStore, options: LeaseOptions, clock: Clock) {
    const { tokens, ttlMs } = checkObject('lease', options)
    checkInteger('lease.tokens', tokens, 1)
    checkPositive('lease.ttlMs', ttlMs)
    this.#shared = shared
    this.#options = { tokens, ttlMs }
    this.#clock = checkMethods('clock', clock, ['now', 'setTimer'])
  }

  take(key: string, cost: number, limits: readonly Limit[]): Taken | Promise<Taken> {
    if (this.#isClosed) return this.#shared.take(key, cost, limits)
    const terms = this.#termsOf(limits)
    const lease = this.#leases.get(terms.name + key)
    const answer = lease && !lease.last ? this.#decide(lease, cost) : undefined
    if (answer) return answer
    return this.#inTurn(key, terms, { cost, call: (mine) => this.#decide(mine, cost) ?? this.#ask(mine, cost) })
  }

  /** What is held goes back just before: a penalty bites at once, and a full bucket does not soften it by what is held. */
  async adjust(key: string, tokens: number, limits: readonly Limit[]): Promise<void> {
    const call = async (lease: Lease): Promise<void> => {
      const held = this.#drop(lease)
      const back = held > 0 && this.#shared.adjust(key, held, limits)
      await Promise.all([back, this.#shared.adjust(key, tokens, limits)])
    }
    await this.#inTurn(key, this.#termsOf(limits), { cost: 0, call })
  }

  async reset(key: string, limits: readonly Limit[]): Promise<void> {
    const call = (lease: Lease): void | Promise<void> => {
      this.#drop(lease)
      return this.#shared.reset(key, limits)
    }
    await this.#inTurn(key, this.#termsOf(limits), { cost: 0, call })
  }

  /**
   * Gives back what is held, once the calls under way have ended. Later ones go to the shared store.
   * @throws StoreError when it can't be reached, or has not answered within `ttlMs`: what was held is back, or lost.
   */
  async close(): Promise<void> {
    this.#isClosed = true
    const { ttlMs } = this.#options
    const late = withoutStack(() => new StoreError(`the store has not taken the leases back within ${ttlMs} ms`))
    let cancel = nothing
    const timeIsUp = new Promise<never>((_, reject) => {
      cancel = this.#clock.setTimer(() => reject(late), ttlMs, { keepAlive: true })
    })
    const allBack = Promise.all([...this.#leases.values()].map((lease) => this.#giveBack(lease)))
    try {
      await Promise.race([allBack, timeIsUp])
    } finally {
      cancel()
    }
  }

  #termsOf(limits: readonly Limit[]): Terms {
    let terms = this.#terms.get(limits)
    if (!terms) {
      const name = JSON.stringify(
        limits.map(({ name: limit, capacity, refillPerSecond }) => [limit, capacity, refillPerSecond]),
      )
      const most = Math.min(...limits.map(({ capacity }) => capacity))
      const block = Math.min(this.#options.tokens, most)
      terms = { limits, meters: limits.map((limit) => meterOf(limit)), most, block, name }
      this.#terms.set(limits, terms)
    }
    return terms
  }

  /** What can be said without asking: there is enough, or there can't be. */
  #decide(lease: Lease, cost: number): Taken | undefined {
    const now = this.#clock.now()
    if (now >= lease.until) lease.held = 0
    const isEnough = lease.held >= (cost || 1)
    if (!isEnough && (now >= lease.askedAt + this.#options.ttlMs || this.#mayAdmit(lease, cost, now))) return undefined
    if (isEnough) lease.held -= cost
    return this.#said(lease, cost, now, isEnough)
  }

  #mayAdmit({ terms: { meters, most }, held, backlogs, askedAt }: Lease, cost: number, now: number): boolean {
    if (cost > most) return false // not even by what is held on top of a full bucket
    return meters.every((meter, i) => admits(ticksLeft(backlogs[i]!, now - askedAt, meter), (cost || 1) - held, meter))
  }

  /** As the shared store would say it, what is held here counted in. */
  #said({ terms: { meters }, held, backlogs, answeredAt }: Lease, cost: number, now: number, allowed: boolean): Taken {
    const buckets = meters.map((meter, i) => {
      const backlog = ticksLeft(backlogs[i]!, now - answeredAt, meter)
      return stateOf(Math.max(0, backlog - held * meter.ticksPerToken), cost, meter)
    })
    return { allowed, buckets }
  }

  async #ask(lease: Lease, cost: number): Promise<Taken> {
    const { key, costs } = lease
    const { limits, most, block } = lease.terms
    if (cost === 0) return this.#shared.take(key, 0, limits) // nothing is held: it knows all
    const held = cost > most ? 0 : lease.held
    const missing = cost - held
    // For those behind as well: one after the other they would be no quicker than a block per round trip.
    let wanted = Math.max(block, cost + sumWithin(most - cost, costs)) - held
    let taken = await this.#takeShared(lease, wanted)
    if (!taken.allowed && wanted > missing) {
      const left = Math.min(...taken.buckets.map(({ remaining }) => remaining))
      wanted = missing + sumWithin(left - missing, costs) // the last tokens are for those who wait: none is kept
      taken = await this.#takeShared(lease, wanted)
    }
    if (!taken.allowed && wanted > missing) taken = await this.#takeShared(lease, (wanted = missing)) // others were quicker
    if (taken.allowed) {
      lease.held += wanted - cost
      lease.until = lease.askedAt + this.#options.ttlMs
    }
    return this.#said(lease, cost, lease.answeredAt, taken.allowed)
  }

  async #takeShared(lease: Lease, tokens: number): Promise<Taken> {
    const askedAt = this.#clock.now()
    const taken = await this.#shared.take(lease.key, tokens, lease.terms.limits)
    lease.askedAt = askedAt
    lease.answeredAt = this.#clock.now()
    lease.backlogs = taken.buckets.map((bucket, i) => backlogOf(bucket, lease.terms.meters[i]!))
    return taken
  }

  /** Runs a call once those before it for the same key have ended. */
  #inTurn<T>(key: string, terms: Terms, { cost, call }: Turn<T>): Promise<T> {
    if (this.#waiting >= MAX_WAITING)
      return Promise.reject(
        withoutStack(() => new StoreError(`${MAX_WAITING} calls wait for the store: this one does not`)),
      )
    this.#waiting++
    const lease = this.#leaseOf(key, terms)
    lease.costs.push(cost)
    const begin = (): T | Promise<T> => {
      lease.costs.shift()
      return call(lease)
    }
    const mine = lease.last ? lease.last.then(begin) : new Promise<T>((resolve) => resolve(begin()))
    const ended = mine.then(nothing, nothing)
    lease.last = ended
    void ended.then(() => {
      this.#waiting--
      if (lease.last === ended) lease.last = undefined
    })
    return mine
  }

  /** The lease of a key, which is now the one that was used last. */
  #leaseOf(key: string, terms: Terms): Lease {
    const name = terms.name + key
    const known = this.#leases.get(name)
    const lease = known ?? {
      key,
      terms,
      held: 0,
      until: 0,
      backlogs: [],
      askedAt: -Infinity,
      answeredAt: 0,
      last: undefined,
      costs: [],
    }
    this.#leases.delete(name)
    this.#leases.set(name, lease)
    const now = this.#clock.now()
    let spared = 2 // one for which the store has no answer must not keep the others here, nor cost each call a long search
    for (const [oldest, other] of this.#leases) {
      const isOver = now >= other.until && now >= other.askedAt + this.#options.ttlMs
      const isFull = this.#leases.size > MAX_LEASES
      if (other === lease || (!isOver && !isFull)) break
      if (other.last && (!isFull || --spared < 0)) break
      this.#leases.delete(oldest)
      if (other.last) this.#leases.set(oldest, other) // at work: its turn comes again
      else if (!isOver) void this.#giveBack(other).catch(nothing) // lost, if the store is away
    }
    return lease
  }

  /** Forgets what is held. @returns how much that was */
  #drop(lease: Lease): number {
    const held = this.#clock.now() < lease.until ? lease.held : 0
    lease.held = 0
    lease.askedAt = -Infinity
    return held
  }

  async #giveBack(lease: Lease): Promise<void> {
    await lease.last
    const held = this.#drop(lease)
    if (held > 0) await this.#shared.adjust(lease.key, held, lease.terms.limits)
  }
}

/** The sum of the first of `costs`, of as many as keep it within `most`. */
function sumWithin(most: number, costs: readonly number[]): number {
  let sum = 0
  for (const cost of costs) {
    if (sum + cost > most) break
    sum += cost
  }
  return sum
}

const ticksIn = (ms: number, { ticksPerMicro }: Meter): number => ms * 1_000 * ticksPerMicro

/** The most ticks that a bucket can be from full. A millisecond may be more than fills it, so whole tokens count as well. */
const backlogOf = ({ remaining, resetMs }: BucketState, meter: Meter): number =>
  Math.min(ticksIn(resetMs, meter), remaining > 0 ? meter.size - remaining * meter.ticksPerToken : Infinity)

/** Ticks that a bucket is from full, some time after it was told. */
const ticksLeft = (backlog: number, elapsedMs: number, meter: Meter): number =>
  Math.max(0, backlog - ticksIn(elapsedMs, meter))

const nothing = (): void => {}
