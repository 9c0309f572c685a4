import type { Backoff } from '../kernel/backoff.js'
import { checkFunction, checkInteger, checkNumber, checkPositive } from '../kernel/check.js'
import { settledWithin, systemClock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { familyOf, isHoldfastError } from '../kernel/errors.js'
import type { SqlRow } from '../kernel/postgres.js'
import { randomId, systemRandom } from '../kernel/random.js'
import { reportError } from '../kernel/report.js'
import { failureOf } from './dead-letters.js'
import type { Message } from './message.js'
import type { outboxStatements } from './postgres-outbox.sql.js'
import { RelayLeases } from './postgres-relay-leases.js'
import { RelayWindow, type Item, type Removable } from './postgres-relay-window.js'
import { openMessage } from './stored-message.js'

/** How a relay works. */
export interface RelayOptions {
  /** Most messages published at once. Integer in [1, 1000]. @defaultValue 500 */
  readonly batchSize?: number | undefined
  /** How long a relay that does not answer keeps its partitions, in milliseconds. > 0. @defaultValue 10_000 */
  readonly leaseMs?: number | undefined
  /** How often an idle relay looks by itself, in milliseconds. > 0. @defaultValue 1_000 */
  readonly pollMs?: number | undefined
  /** The wait before messages are published again, when the bus did not take them. @defaultValue 100 ms, doubled each time up to 5 s */
  readonly backoff?: Backoff | undefined
  /**
   * Whether the bus will never take a message that it refused with this error: it is parked, and the others go on.
   * @defaultValue this library's errors of wrong payloads and options, and UnroutedError
   */
  readonly parkOn?: ((error: unknown) => boolean) | undefined
  /** How long `close()` waits for what is being published, in milliseconds, ≥ 0. @defaultValue 10_000 */
  readonly graceMs?: number | undefined
}

/** What stands in an outbox. */
export interface OutboxStats {
  /** Messages that are committed and not yet published. */
  readonly waiting: number
  /** Messages that the bus has refused for good. */
  readonly parked: number
  /** How long the oldest that waits has been committed, in milliseconds; 0 when none waits. */
  readonly lagMs: number
}

/** What a relay tells its listeners. */
export interface OutboxRelayEvents {
  /** The bus has taken so many. `lagMs`: how long the oldest of them had been committed when it was read. */
  readonly published: { readonly count: number; readonly lagMs: number }
  /** The bus has refused a message for good. */
  readonly parked: { readonly id: string; readonly type: string; readonly error: unknown }
  /** The bus or the database did not do what it was asked for: again in so many milliseconds. */
  readonly failed: {
    readonly what: 'publish' | 'read' | 'remove' | 'park' | 'lease'
    readonly error: unknown
    readonly retryInMs: number
  }
  /** The partitions that it owns from now on. */
  readonly partitions: { readonly owned: readonly number[] }
}

/** A relay at work. */
export interface OutboxRelay {
  /** The partitions that it owns now. */
  readonly partitions: readonly number[]
  /** Calls `listener` at each event `name` until the returned function is called. @throws InvalidOptionError when it is no function. */
  on<Name extends keyof OutboxRelayEvents>(
    name: Name,
    listener: (event: OutboxRelayEvents[Name]) => unknown,
  ): Unsubscribe
  /** How much waits in the outbox, of all partitions, and for how long. @throws StoreError */
  stats(): Promise<OutboxStats>
  /**
   * Begins no other batch, waits up to `graceMs` for the one that is being published, and gives its partitions to others; a database
   * that does not answer is waited for no longer than `leaseMs`. Never rejects. Calling it again gives the same promise.
   */
  close(): Promise<void>
  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void>
}

/** What a relay needs of its outbox. */
export interface RelayPort {
  ask(statement: keyof ReturnType<typeof outboxStatements>, params?: unknown[]): Promise<SqlRow[]>
  publish(messages: readonly Message[]): Promise<void>
  stats(): Promise<OutboxStats>
  left(): void
}

/** The first look again after a message was found or announced, and the shortest wait: its transaction is about to commit. */
const LOOK_AGAIN_MS = 10
const SHORTLY_MS = 1

const usualBackoff: Backoff = (attempt) => Math.min(5_000, 100 * 2 ** (attempt - 1))
const isForGood = (error: unknown): boolean =>
  (familyOf(error) === 'invalid' && !isHoldfastError(error, 'NOT_FOUND')) ||
  isHoldfastError(error, 'UNROUTED') ||
  isHoldfastError(error, 'CORRUPT_DATA')

/** Reads the next batch and deletes the last one while it publishes. @internal */
export class PostgresRelay implements OutboxRelay {
  readonly #id = randomId()
  readonly #events = new Emitter<OutboxRelayEvents>()
  readonly #leases: RelayLeases
  readonly #window: RelayWindow
  readonly #batchSize: number
  readonly #pollMs: number
  readonly #backoff: Backoff
  readonly #parkOn: (error: unknown) => boolean
  readonly #graceMs: number
  #lookMs = SHORTLY_MS
  #woken = false
  #endRest: ((ms: number) => void) | undefined
  #running: Promise<void> = Promise.resolve()
  #closing: Promise<void> | undefined

  /** @throws InvalidOptionError when an option is out of its range. */
  constructor(
    private readonly port: RelayPort,
    options: RelayOptions,
  ) {
    const { batchSize = 500, leaseMs = 10_000, pollMs = 1_000, graceMs = 10_000 } = options
    const { backoff = usualBackoff, parkOn = isForGood } = options
    this.#batchSize = checkInteger('batchSize', batchSize, 1, 1_000)
    this.#pollMs = checkPositive('pollMs', pollMs)
    this.#graceMs = checkNumber('graceMs', graceMs, 0)
    this.#backoff = checkFunction('backoff', backoff)
    this.#parkOn = checkFunction('parkOn', parkOn)
    this.#leases = new RelayLeases(this.#id, checkPositive('leaseMs', leaseMs), (...args) => port.ask(...args), {
      changed: (gained) => {
        if (gained) this.#window.rewind()
        this.wake()
        if (this.#events.has('partitions')) this.#events.emit('partitions', { owned: this.partitions })
      },
      failed: (error, retryInMs) => this.#failed('lease', error, retryInMs),
    })
    this.#window = new RelayWindow(this.#batchSize)
  }

  get partitions(): readonly number[] {
    return this.#leases.partitions
  }

  on<Name extends keyof OutboxRelayEvents>(
    name: Name,
    listener: (event: OutboxRelayEvents[Name]) => unknown,
  ): Unsubscribe {
    return this.#events.on(name, listener)
  }

  stats(): Promise<OutboxStats> {
    return this.port.stats()
  }

  start(): void {
    this.#leases.start()
    this.#running = this.#run()
  }

  /** There is, or will be, something to read. */
  wake(): void {
    this.#lookMs = SHORTLY_MS
    this.#woken = true
    this.#endRest?.(SHORTLY_MS)
  }

  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  async #close(): Promise<void> {
    this.#endRest?.(0)
    await settledWithin(systemClock, this.#graceMs, this.#running)
    await this.#leases.leave()
    this.port.left()
  }

  async #run(): Promise<void> {
    let batch: readonly Item[] = []
    for (;;) {
      const over = this.#closing !== undefined
      if (over) batch = []
      if (over && this.#window.removable.items.length === 0) return
      this.#woken = false
      // oxlint-disable-next-line no-await-in-loop -- one batch after the other
      const [, next, removed] = await Promise.all([
        this.#publish(batch),
        over ? [] : this.#read(),
        this.#remove(this.#window.removable),
      ])
      if (over && !removed) return // they will be published once more
      if (removed) this.#window.removed(removed) // now that what was read meanwhile is known
      batch = next
      if (batch.length > 0) this.#lookMs = LOOK_AGAIN_MS
      const idle = batch.length === 0 && this.#window.removable.items.length === 0
      // oxlint-disable-next-line no-await-in-loop
      if ((idle || !removed) && !this.#closing) await this.#rest()
    }
  }

  async #read(): Promise<readonly Item[]> {
    const owned = this.#leases.readable()
    if (owned.size === 0) return []
    const { after, overlap, turn } = this.#window.begin(owned)
    const limit = this.#batchSize + overlap
    try {
      // Two statements: what is settled by the first is seen by the second.
      const [head] = await this.port.ask('settled')
      const rows = await this.port.ask('read', [[...owned.keys()], after, limit])
      return this.#window.take(rows, { owned, turn, limit, settled: Number(head?.['settled']) })
    } catch (error) {
      this.#lookMs = this.#pollMs
      this.#failed('read', error, this.#pollMs)
      return []
    }
  }

  /** @returns what is deleted; `undefined` when it failed */
  async #remove(removable: Removable): Promise<Removable | undefined> {
    const { items, commits } = removable
    if (items.length === 0 && commits.length === 0) return removable
    try {
      await this.port.ask('remove', [
        items.map(({ commit }) => commit.batch),
        items.map(({ commit }) => commit.owned.partition),
        items.map(({ nth }) => nth),
        commits.map(({ pos }) => pos),
      ])
      return removable
    } catch (error) {
      this.#failed('remove', error, this.#pollMs)
      return undefined
    }
  }

  /** Until they are published or parked, but for those whose partition is no longer ours. @returns `false` when it closes before that */
  async #publish(batch: readonly Item[]): Promise<boolean> {
    let previousMs: number | undefined
    for (let attempt = 1; ; attempt++) {
      const items = batch.filter(({ commit }) => this.#leases.holds(commit.owned))
      const [first] = items
      if (!first) return true
      if (this.#closing) return false
      let thrown: unknown
      try {
        // oxlint-disable-next-line no-await-in-loop -- again only when it failed
        await this.port.publish(items.map(({ stored }) => openMessage(stored)))
        this.#window.done(items)
        if (this.#events.has('published'))
          this.#events.emit('published', { count: items.length, lagMs: Math.max(...items.map(({ lagMs }) => lagMs)) })
        return true
      } catch (error) {
        thrown = error
      }
      let what: 'publish' | 'park' = 'publish'
      const forGood = this.#isForGood(thrown)
      // Which of them it will never take, and how many there is room for, shows in smaller parts.
      if (items.length > 1 && (forGood || isHoldfastError(thrown, 'BACKLOG_FULL'))) {
        const half = items.length >> 1
        // oxlint-disable-next-line no-await-in-loop -- in order
        return (await this.#publish(items.slice(0, half))) && this.#publish(items.slice(half))
      }
      if (forGood) {
        try {
          // oxlint-disable-next-line no-await-in-loop
          await this.#park(first, thrown)
          return true
        } catch (error) {
          thrown = error
          what = 'park'
        }
      }
      previousMs = this.#waitMs(attempt, thrown, previousMs)
      this.#failed(what, thrown, previousMs)
      if (this.#closing) return false
      // oxlint-disable-next-line no-await-in-loop
      await this.#pause(previousMs)
    }
  }

  async #park(item: Item, error: unknown): Promise<void> {
    const { commit, nth, stored } = item
    await this.port.ask('park', [commit.batch, commit.owned.partition, nth, JSON.stringify(failureOf(error))])
    this.#window.done([item])
    this.#events.emit('parked', { id: stored.id, type: stored.type, error })
  }

  #isForGood(error: unknown): boolean {
    try {
      return this.#parkOn(error)
    } catch (thrown) {
      reportError(thrown)
      return false
    }
  }

  #waitMs(attempt: number, error: unknown, previousMs: number | undefined): number {
    const least = (error as { retryAfterMs?: unknown } | null)?.retryAfterMs
    const context = { previousMs, random: systemRandom }
    let ms: number
    try {
      ms = checkNumber('the result of backoff', this.#backoff(attempt, error, context), 0)
    } catch (thrown) {
      reportError(thrown)
      ms = usualBackoff(attempt, error, context)
    }
    return typeof least === 'number' ? Math.max(ms, least) : ms
  }

  #failed(what: OutboxRelayEvents['failed']['what'], error: unknown, retryInMs: number): void {
    this.#events.emit('failed', { what, error, retryInMs })
  }

  /** Longer each time, until something is found or announced. */
  async #rest(): Promise<void> {
    const ms = Math.min(this.#pollMs, this.#lookMs)
    this.#lookMs = Math.max(LOOK_AGAIN_MS, ms * 2)
    await this.#pause(this.#woken ? SHORTLY_MS : ms, true)
  }

  /** @param wakes whether a new message ends it; closing does */
  #pause(ms: number, wakes: boolean = false): Promise<void> {
    return new Promise((resolve) => {
      let cancel = systemClock.setTimer(end, ms)
      this.#endRest = (leftMs) => {
        if (leftMs > 0 && !wakes) return
        cancel()
        if (leftMs > 0) cancel = systemClock.setTimer(end, leftMs)
        else end()
        if (leftMs > 0) wakes = false
      }
      const done = (): void => void (this.#endRest = undefined)
      function end(): void {
        done()
        resolve()
      }
    })
  }
}
