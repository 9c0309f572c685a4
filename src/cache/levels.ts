import { checkFunction, checkMethods, checkNumber, checkObject, checkOneOf, invalid } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { jsonCodec, type Codec } from '../kernel/codec.js'
import { Emitter } from '../kernel/emitter.js'
import { randomId, systemRandom, type Random } from '../kernel/random.js'
import { checkState } from './answers.js'
import { Coherence } from './coherence.js'
import { newCounters, type CacheEvents } from './events.js'
import { Fences, type Watch } from './fences.js'
import type { Stale } from './flight.js'
import { Journal, type Ack, type Change, type WriteChange } from './journal.js'
import { LocalEntry, LocalLevel } from './local.js'
import { l1Of, planOf, type CacheManagerOptions, type Plan } from './options.js'
import { Remote, type Budget } from './remote.js'
import { News } from './news.js'
import type { Invalidation, StoredEntry } from './store.js'

/** A value out of the second level. */
export interface Found {
  readonly value: unknown
  readonly entry: StoredEntry
  /** Milliseconds for which it is still fresh; ≤ 0 when it can only serve for grace. */
  readonly freshMs: number
}

/** What may go into the first level. Times in milliseconds from now. */
export interface Keeping {
  /** As `LocalLevel.keep` gave it. */
  readonly value: unknown
  readonly freshMs: number
  readonly ageMs: number
  readonly tags: readonly string[]
  readonly etag?: string | undefined
  readonly loadMs?: number | undefined
}

/** The share of the load's time beyond which an early reload by chance is out of the question: chance e^-14. */
const XFETCH_REACH = 14

const OUTDATED = Symbol('outdated')

/** After this part of `maxStalenessMs` a hit has it confirmed in the background that the first level is current. */
const ASK_AHEAD_RATIO = 0.25

/** The part of `l2TimeoutMs` for which messages may still be on their way. */
const PATIENCE_RATIO = 0.5

/** The two levels of one cache and the rules by which values pass between them. Keys and tags are full names here. */
export class Levels {
  readonly clock: Clock
  readonly random: Random
  readonly codec: Codec
  readonly emitter = new Emitter<CacheEvents>()
  readonly counters = newCounters()
  readonly local: LocalLevel
  readonly fences: Fences
  readonly remote: Remote | undefined
  readonly maxStalenessMs: number
  readonly leaseMs: number
  readonly serveUnverified: boolean
  readonly #journal: Journal | undefined
  readonly #coherence: Coherence | undefined
  readonly #news: News | undefined

  /** @param changed told of each invalidation, when it has been acted on here */
  constructor(
    options: CacheManagerOptions,
    private readonly changed: (what: Invalidation) => void,
  ) {
    const { l1 = {}, l2, codec = jsonCodec, clock = systemClock, random = systemRandom, partition = 'load' } = options
    const { backplane } = options
    if (l1 === false && !l2) invalid('l1', 'a first level, or else a second one', l1)
    if (backplane && !l2) invalid('backplane', 'a second level (l2) whose changes it tells', backplane)
    if (l2) checkMethods('l2', l2, ['read', 'lease', 'fill', 'write', 'invalidate', 'state'])
    if (backplane) checkMethods('backplane', backplane, ['publish', 'subscribe'])
    this.clock = checkMethods('clock', clock, ['now', 'epochMs', 'setTimer', 'sleep'])
    this.random = checkFunction('random', random)
    this.codec = checkMethods('codec', codec, ['encode', 'decode'])
    this.maxStalenessMs = checkNumber('maxStalenessMs', options.maxStalenessMs ?? 2_000, Number.MIN_VALUE)
    this.leaseMs = checkNumber('leaseMs', options.leaseMs ?? 30_000, Number.MIN_VALUE, Number.MAX_SAFE_INTEGER)
    this.serveUnverified = checkOneOf('partition', partition, ['load', 'serve']) === 'serve'
    const timeoutMs = checkNumber('l2TimeoutMs', options.l2TimeoutMs ?? 50, Number.MIN_VALUE)
    if (options.defaults !== undefined) checkObject('defaults', options.defaults)
    planOf(options.defaults, undefined) // mistakes in the defaults show at once
    const local = (this.local = new LocalLevel(
      l1 === false ? undefined : l1Of(l1),
      clock,
      () => void this.#coherence?.verify(),
    ))
    this.fences = new Fences(() => local.cells())
    if (!l2) return

    local.coherentUntil = -Infinity
    const remote = (this.remote = new Remote(
      l2,
      clock,
      timeoutMs,
      (operation, error) => this.emitter.emit('l2Error', { operation, error }),
      () => {
        this.emitter.emit('l2Up', { queued: journal.size })
        void journal.drain()
      },
    ))
    const coherence = (this.#coherence = new Coherence(
      clock,
      this.maxStalenessMs,
      () => remote.call('state', async (store) => checkState(await store.state([])), remote.budget()),
      (until) => {
        local.coherentUntil = until
        local.askAt = until - this.maxStalenessMs * (1 - ASK_AHEAD_RATIO)
      },
      (reason) => {
        local.clear()
        this.fences.drop()
        this.changed({ kind: 'all' })
        if (reason !== 'start') this.emitter.emit('dropped', { reason })
      },
      backplane ? timeoutMs * PATIENCE_RATIO : 0,
    ))
    const origin = randomId()
    const news =
      backplane &&
      new News(backplane, origin, clock, (operation, error) => this.emitter.emit('l2Error', { operation, error }))
    const journal = (this.#journal = new Journal(
      remote,
      clock,
      origin,
      coherence,
      (change, { seq, generation }, waited) => {
        const what: Invalidation = change.kind === 'write' ? { kind: 'keys', keys: [change.key] } : change
        coherence.observe(seq, generation)
        news?.tell(seq, what, generation === coherence.generation ? coherence.basis.epoch : undefined)
        if (!waited) return
        this.apply(what)
        this.emitter.emit('replayed', { queued: journal.size })
      },
    ))
    news?.listen((seq, what, epoch, isOwn) => {
      if (!isOwn) this.apply(what)
      coherence.heard(seq, epoch)
    })
    this.#news = news
  }

  /** How many changes wait for the second level. */
  get queued(): number {
    return this.#journal?.size ?? 0
  }

  /** Whether the first level is known to be current. */
  get coherent(): boolean {
    return this.clock.now() < this.local.coherentUntil
  }

  /** Makes sure, if it can, that the first level is current: at once, or with one question for all who call meanwhile. */
  async confirm(budget: Budget): Promise<void> {
    const began = this.clock.now()
    const answered = await this.#coherence?.verify()
    this.remote?.spend(budget, began, answered ?? false)
  }

  /** What one call may spend on waiting for the second level. */
  budget(): Budget {
    return this.remote?.budget() ?? { leftMs: 0 }
  }

  /** A fresh value in the first level that may be served. */
  stored(key: string): LocalEntry | undefined {
    return this.local.hit(key) ?? (this.serveUnverified && !this.coherent ? this.local.unverified(key) : undefined)
  }

  /** A value in the first level that may stand in for a load. */
  localStale(key: string): Stale | undefined {
    const entry = this.local.forGrace(key)
    if (!entry) return undefined
    const { value, storedAt, graceUntil, cells, notes } = entry
    return { value, storedAt, tags: cells?.map(({ name }) => name) ?? [], etag: notes?.etag, until: graceUntil }
  }

  /** Acts on an invalidation in this process: nothing read or loaded before it is handed on after it. */
  apply(what: Invalidation): void {
    switch (what.kind) {
      case 'all':
        this.local.clear()
        this.fences.moveAll()
        break
      case 'keys':
        for (const key of what.keys) {
          if (what.soft) this.local.expire(key)
          else this.local.remove(key)
          this.fences.moveKey(key, what.soft ?? false)
        }
        break
      case 'tags':
        for (const tag of what.tags) this.fences.moveTag(tag, what.soft ?? false)
    }
    this.changed(what)
  }

  /** Acts on an invalidation in both levels. */
  async invalidate(what: Invalidation): Promise<Ack> {
    this.apply(what)
    if (!this.#journal || !this.remote) return 'applied'
    const ack = await this.#journal.submit(what, this.remote.budget())
    this.apply(what) // once more: what was read since then may be from before it took effect there
    return ack
  }

  /** Brings a value to the second level. @param otherwise see {@link Journal.submit} */
  async write(change: Omit<WriteChange, 'basis'>, otherwise: (change: WriteChange) => Change): Promise<Ack> {
    if (!this.#journal || !this.#coherence || !this.remote) return 'applied'
    const write = { ...change, basis: this.#coherence.basis }
    const ack = this.#journal.submit(write, this.remote.budget(), () => otherwise(write))
    if (write.basis.epoch === undefined) void this.#coherence.verify() // after it, so that it counts: later ones need a basis
    return ack
  }

  /** Whether the second level's word on this key counts for nothing until a queued change has reached it. */
  doubtful(key: string, tags: readonly string[] = []): boolean {
    return this.#journal?.covers(key, tags) ?? false
  }

  /** What the second level holds, fresh or not; `undefined` when it has nothing, or nothing to be believed. */
  async find(watch: Watch, budget: Budget): Promise<Found | undefined> {
    if (!this.remote) return undefined
    for (let tries = 3; tries > 0 && !this.doubtful(watch.key); tries--) {
      const sentAt = this.fences.turn
      const entries = await this.remote.read([watch.key], budget)
      const found = this.#believed(watch, entries?.[0], sentAt)
      if (found !== OUTDATED) return found
    }
    return undefined
  }

  /** As {@link find}, of many at once. */
  async findMany(watches: readonly Watch[], budget: Budget): Promise<(Found | undefined)[]> {
    const sentAt = this.fences.turn
    const entries = await this.remote?.read(
      watches.map(({ key }) => key),
      budget,
    )
    const found = watches.map((watch, i) => this.#believed(watch, entries?.[i], sentAt))
    if (!found.includes(OUTDATED)) return found as (Found | undefined)[]
    return Promise.all(found.map(async (each, i) => (each === OUTDATED ? this.find(watches[i]!, budget) : each)))
  }

  /** What an entry that was read is worth. @param sentAt the turn at which it was asked for */
  #believed(watch: Watch, entry: StoredEntry | undefined, sentAt: number): Found | undefined | typeof OUTDATED {
    if (!entry || this.doubtful(watch.key, entry.tags)) return undefined
    return watch.outdated(entry.tags, sentAt) ? OUTDATED : this.decode(entry)
  }

  /** The value of an entry; `undefined`, and an event, when it can't be read. */
  decode(entry: StoredEntry): Found | undefined {
    const { payload } = entry
    try {
      const text = typeof payload === 'string' ? payload : Buffer.from(payload).toString('utf8')
      return { value: this.codec.decode(text), entry, freshMs: entry.freshUntil - this.clock.epochMs() }
    } catch (error) {
      this.emitter.emit('l2Error', { operation: 'decode', error })
      return undefined
    }
  }

  /**
   * Puts what was found into the first level. When it may be older than what stands there, or newer, neither stays: the next
   * read asks again, so that no caller is sent back in time.
   */
  keepFound(watch: Watch, { value, entry, freshMs }: Found, plan: Plan): void {
    if (freshMs <= 0) return
    watch.found()
    if (!this.local.inUse) return
    if (!watch.mayPutRead(entry.tags)) return this.local.remove(watch.key)
    const { storedAt, tags, etag, loadMs } = entry
    const ageMs = Math.max(0, this.clock.epochMs() - storedAt)
    this.put(watch.key, { value: this.local.keep(value), freshMs, ageMs, tags, etag, loadMs }, plan, watch.start)
    watch.put(false)
  }

  /** @param born the turn at which the value's read or load began */
  put(key: string, { value, freshMs, ageMs, tags, etag, loadMs }: Keeping, plan: Plan, born: number): void {
    this.fences.tidy()
    const now = this.clock.now()
    const fresh = Math.min(freshMs, plan.l1TtlMs)
    const freshUntil = Math.floor(now + fresh)
    const storedAt = Math.floor(now - ageMs)
    const cells = hasTags(tags) ? this.fences.cells(tags) : undefined
    const spreadMs = plan.refreshAhead === 'xfetch' ? loadMs : undefined
    const notes = etag !== undefined || spreadMs ? { etag, spreadMs } : undefined
    let refreshAt = freshUntil
    if (plan.refreshAhead === 'xfetch') refreshAt -= XFETCH_REACH * (spreadMs ?? 0)
    else if (plan.refreshAhead !== undefined) refreshAt = storedAt + plan.refreshAhead * (freshUntil - storedAt)
    const graceUntil = plan.graceMs > 0 ? Math.floor(now + freshMs + plan.graceMs) : 0
    this.local.put(
      key,
      new LocalEntry(
        value,
        freshUntil,
        Math.min(freshUntil, Math.floor(refreshAt)),
        graceUntil,
        storedAt,
        born,
        cells,
        notes,
      ),
    )
  }

  /** Sends what waits, if the second level answers within a call's budget, and lets go of all timers. */
  async close(): Promise<void> {
    const { remote } = this
    this.#news?.close()
    if (remote?.available) await this.#journal?.drainWithin(remote.budget().leftMs)
    remote?.close()
    this.local.close()
  }
}

const hasTags = (tags: readonly string[]): tags is readonly [string, ...string[]] => tags.length > 0
