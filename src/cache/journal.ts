import { settledWithin, type Clock } from '../kernel/clock.js'
import { checkEntries, checkLease, checkSeq } from './answers.js'
import type { Coherence } from './coherence.js'
import type { Budget, Remote } from './remote.js'
import type { Invalidation, StoredEntry } from './store.js'

/**
 * What became of a change: `'applied'` when every level has it; `'queued'` when the second level could not be told for certain. It
 * will be, in order, as soon as that answers, and until then this process does not believe what it says.
 */
export type Ack = 'applied' | 'queued'

/** A value to be written. */
export interface WriteChange {
  readonly kind: 'write'
  readonly key: string
  readonly entry: StoredEntry
  /** Monotonic time until which the store has to keep it. */
  readonly keepUntil: number
  /** How much this process knew of the store's changes when the value was set. */
  readonly basis: Basis
}

/** Up to where the changes of a store are known. */
export interface Basis {
  readonly epoch: string | undefined
  readonly seq: number
}

/** A change for the second level. */
export type Change = WriteChange | Invalidation

/** A change that the store took: its number, and the generation it was sent in. */
export interface Sent {
  readonly seq: number
  readonly generation: number
}

/** Long enough to store one value at once; so short that nobody waits long for it when that fails. */
const REPLAY_LEASE_MS = 1_000

/** More waiting keys and tags than this are replaced by one invalidation of everything. */
const MAX_WAITING = 10_000

/**
 * Changes on their way to the second level. What it can't take now waits here, one change per key and tag, in order, and is
 * sent when it is back; meanwhile whatever the store says about these keys and tags is not to be believed.
 */
export class Journal {
  readonly #waiting = new Map<string, Change>()
  #draining: Promise<void> | undefined

  /**
   * @param applied told of each change that the store took, with its number there and the generation it was sent in, and whether
   * it had to wait
   */
  constructor(
    private readonly remote: Remote,
    private readonly clock: Clock,
    private readonly origin: string,
    private readonly coherence: Pick<Coherence, 'generation' | 'basis' | 'verify'>,
    private readonly applied: (change: Change, sent: Sent, waited: boolean) => void,
  ) {}

  /** How many changes wait. */
  get size(): number {
    return this.#waiting.size
  }

  /** Whether a waiting change makes what the store says about this key, with these tags, worthless. */
  covers(key: string, tags: readonly string[]): boolean {
    const waiting = this.#waiting
    if (waiting.size === 0) return false
    return waiting.has(ALL) || waiting.has(`k${key}`) || tags.some((tag) => waiting.has(`t${tag}`))
  }

  /**
   * Brings one change to the store, behind those that wait already.
   * @param otherwise makes the change that is to wait when the store can't take this one: another has overtaken it meanwhile
   */
  async submit(change: Change, budget: Budget, otherwise: () => Change = () => change): Promise<Ack> {
    if (this.#waiting.size === 0) {
      const sent = await this.#send(change, budget)
      if (sent) {
        this.applied(change, sent, false)
        return 'applied'
      }
    }
    const waits = otherwise()
    this.#enqueue(waits)
    if (!this.remote.available) return 'queued'
    await this.drainWithin(budget.leftMs)
    return this.#has(waits) ? 'queued' : 'applied'
  }

  /** Sends what waits, in order, until it is all there or the store fails. */
  drain(): Promise<void> {
    if (this.#waiting.size === 0) return Promise.resolve()
    return (this.#draining ??= this.#drain())
  }

  /** As {@link drain}, for `ms` milliseconds at most; what is left then goes on. */
  drainWithin(ms: number): Promise<void> {
    return settledWithin(this.clock, Math.max(0, ms), this.drain())
  }

  async #drain(): Promise<void> {
    for (const [id, change] of this.#waiting) {
      const sent = await this.#send(change, this.remote.budget(), true)
      if (!sent) break
      if (this.#waiting.get(id) === change) this.#waiting.delete(id) // else a newer one has taken its place
      this.applied(change, sent, true)
    }
    this.#draining = undefined // in the same breath as the last look at what waits
  }

  async #send(change: Change, budget: Budget, late = false): Promise<Sent | undefined> {
    const { generation } = this.coherence
    if (change.kind !== 'write') return this.#sent(generation, await this.#invalidate(change, budget))
    if (late) return this.#replay(change)
    const ms = Math.ceil(change.keepUntil - this.clock.now())
    if (ms <= 0) return this.#sent(generation, await this.#invalidate({ kind: 'keys', keys: [change.key] }, budget))
    const items = [{ key: change.key, entry: change.entry, ms }]
    const seq = await this.remote.call(
      'write',
      async (store, waitMs) => checkSeq(await store.write(items, this.origin, waitMs)),
      budget,
    )
    return this.#sent(generation, seq)
  }

  /**
   * Stores a value that had to wait, if the store shows that nobody else has changed its key since it was set; else the key is
   * only taken away: the waiting value may be the older one. The lease sees to it that nobody comes in between.
   */
  async #replay({ key, entry, keepUntil, basis }: WriteChange): Promise<Sent | undefined> {
    const { remote, coherence } = this
    if (!(await coherence.verify())) return undefined
    const { generation } = coherence
    const before = await remote.call('read', async (store) => checkEntries(await store.read([key]), 1), remote.budget())
    if (!before) return undefined
    const there = before.entries[0]
    if (there && there.freshUntil > 0 && there.stamp > basis.seq && isSame(there, entry))
      return { seq: there.stamp, generation } // it had arrived after all
    const seq = await this.#invalidate({ kind: 'keys', keys: [key] }, remote.budget())
    if (seq === undefined) return undefined
    const stamp = there?.stamp ?? before.seq // what is not there may have been deleted by any change
    const ms = Math.ceil(keepUntil - this.clock.now())
    if (ms > 0 && stamp <= basis.seq && coherence.basis.epoch === basis.epoch && seq === before.seq + 1) {
      const lease = await remote.call(
        'lease',
        async (store) => checkLease(await store.lease(key, REPLAY_LEASE_MS)),
        remote.budget(),
      )
      if (lease?.kind === 'granted') {
        const still = lease.seq === seq ? { ...entry, stamp: seq } : undefined
        await remote.call('fill', (store) => store.fill(key, lease.token, still, ms), remote.budget())
      }
    }
    return { seq, generation }
  }

  #invalidate(what: Invalidation, budget: Budget): Promise<number | undefined> {
    return this.remote.call('invalidate', async (store) => checkSeq(await store.invalidate(what, this.origin)), budget)
  }

  #sent(generation: number, seq: number | undefined): Sent | undefined {
    return seq === undefined ? undefined : { seq, generation }
  }

  #enqueue(change: Change): void {
    switch (change.kind) {
      case 'all':
        this.#waiting.clear()
        this.#waiting.set(ALL, change)
        break
      case 'write':
        this.#place(`k${change.key}`, change)
        break
      case 'keys':
        for (const key of change.keys) {
          const id = `k${key}`
          const soft = change.soft === true && isSoft(this.#waiting.get(id))
          this.#place(id, { kind: 'keys', keys: [key], soft })
        }
        break
      case 'tags':
        for (const tag of change.tags) {
          const id = `t${tag}`
          const soft = change.soft === true && isSoft(this.#waiting.get(id))
          this.#place(id, { kind: 'tags', tags: [tag], soft })
        }
    }
    if (this.#waiting.size > MAX_WAITING) this.#enqueue({ kind: 'all' })
  }

  #place(id: string, change: Change): void {
    this.#waiting.delete(id) // and set again, so that the map stays in order
    this.#waiting.set(id, change)
  }

  #has(change: Change): boolean {
    if (this.#waiting.has(ALL)) return true
    switch (change.kind) {
      case 'all':
        return false
      case 'write':
        return this.#waiting.has(`k${change.key}`)
      case 'keys':
        return change.keys.some((key) => this.#waiting.has(`k${key}`))
      case 'tags':
        return change.tags.some((tag) => this.#waiting.has(`t${tag}`))
    }
  }
}

const ALL = 'a'

const isSame = (a: StoredEntry, b: StoredEntry): boolean =>
  a.payload === b.payload && a.tags.length === b.tags.length && a.tags.every((tag, i) => tag === b.tags[i])

/** What nothing waits for, or an expiry, may stay soft; after a deletion or a write, only a deletion takes both away. */
const isSoft = (waiting: Change | undefined): boolean =>
  waiting === undefined || (waiting.kind !== 'write' && waiting.kind !== 'all' && waiting.soft === true)
