import { checkInteger, checkNumber, checkPositive } from '../kernel/check.js'
import { settledWithin, systemClock } from '../kernel/clock.js'
import { Emitter, type Unsubscribe } from '../kernel/emitter.js'
import { toSqlText, type SqlRow } from '../kernel/postgres.js'
import { randomId } from '../kernel/random.js'
import { failureOf } from './dead-letters.js'
import type { Message } from './message.js'
import type { PageRow } from './postgres-outbox-rows.js'
import type { outboxStatements } from './postgres-outbox.sql.js'
import { RelayLeases } from './postgres-relay-leases.js'
import type { OutboxRelay, OutboxRelayEvents, OutboxStats, RelayOptions } from './postgres-relay-options.js'
import { RelayPublisher, type PublisherPort } from './postgres-relay-publisher.js'
import { RelayWindow, type Item, type Owned, type Removable } from './postgres-relay-window.js'

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

/** Messages of one commit between which there is no other. */
interface Run {
  readonly first: Item
  last: Item
}

function runsOf(items: readonly Item[]): readonly Run[] {
  const runs: Run[] = []
  let run: Run | undefined
  for (const item of items) {
    if (run && run.last.commit === item.commit && run.last.order + 1 === item.order) run.last = item
    else runs.push((run = { first: item, last: item }))
  }
  return runs
}

/** Reads the next batch and deletes those before while it publishes. @internal */
export class PostgresRelay implements OutboxRelay {
  readonly #id = randomId()
  readonly #events = new Emitter<OutboxRelayEvents>()
  readonly #leases: RelayLeases
  readonly #window: RelayWindow
  readonly #publisher: RelayPublisher
  readonly #batchSize: number
  readonly #pollMs: number
  readonly #graceMs: number
  #lookMs = SHORTLY_MS
  /** Not before then, for it has failed. */
  #removeAt = 0
  #removing: Promise<boolean> | undefined
  /** What is deleted, and not yet forgotten. */
  #gone: Removable | undefined
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
    const { publishTimeoutMs = leaseMs / 2 } = options
    this.#batchSize = checkInteger('batchSize', batchSize, 1, 1_000)
    this.#pollMs = checkPositive('pollMs', pollMs)
    this.#graceMs = checkNumber('graceMs', graceMs, 0)
    this.#leases = new RelayLeases(this.#id, checkPositive('leaseMs', leaseMs), (...args) => port.ask(...args), {
      changed: (gained) => {
        if (gained) this.#window.rewind()
        this.wake()
        if (this.#events.has('partitions')) this.#events.emit('partitions', { owned: this.partitions })
      },
      failed: (error, retryInMs) => this.#failed('lease', error, retryInMs),
    })
    this.#window = new RelayWindow(this.#batchSize)
    const publisher = {
      publish: (messages: readonly Message[]) => port.publish(messages),
      park: (item: Item, error: unknown) => this.#park(item, error),
      holds: (owned: Owned) => this.#leases.holds(owned),
      published: (items: readonly Item[]) => this.#published(items),
      failed: (...what: Parameters<PublisherPort['failed']>) => this.#failed(...what),
    }
    this.#publisher = new RelayPublisher(publisher, { ...options, publishTimeoutMs })
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
    this.#publisher.close()
    await settledWithin(systemClock, this.#graceMs, this.#running)
    await this.#leases.leave()
    this.port.left()
  }

  async #run(): Promise<void> {
    let batch: readonly Item[] = []
    // oxlint-disable no-await-in-loop -- one batch after the other
    while (!this.#closing) {
      this.#woken = false
      const [, next] = await Promise.all([this.#publisher.publish(batch), this.#read()])
      batch = next
      this.#forget() // now that what was read meanwhile is known
      if (!this.#removing && systemClock.now() >= this.#removeAt)
        this.#removing = this.#remove().finally(() => (this.#removing = undefined))
      if (batch.length > 0) this.#lookMs = LOOK_AGAIN_MS
      else if (!(await this.#removing) && !this.#closing) await this.#rest()
    }
    // oxlint-enable no-await-in-loop
    await this.#removing
    this.#forget()
    await this.#remove() // what stays will be published once more
  }

  async #read(): Promise<readonly Item[]> {
    const owned = this.#leases.readable()
    if (owned.size === 0) return []
    const { from, overlap, turn } = this.#window.begin(owned)
    const limit = this.#batchSize + overlap
    try {
      const answer = await this.port.ask('page', [[...owned.keys()], from.pos, from.nth, limit])
      const [head, ...rows] = answer as [PageRow, ...PageRow[]]
      return this.#window.take(rows, { owned, turn, limit, settled: Number(head.commit) })
    } catch (error) {
      this.#lookMs = this.#pollMs
      this.#window.rewind() // who answers next may have forgotten some, and have given their positions anew
      this.#failed('read', error, this.#pollMs)
      return []
    }
  }

  /** Deletes what is published, beside the other work: it never waits for the disk. @returns whether there was any, and it is gone */
  async #remove(): Promise<boolean> {
    const removable = this.#window.removable
    const { items, commits } = removable
    if (items.length === 0 && commits.length === 0) return false
    const runs = runsOf(items)
    try {
      await this.port.ask('remove', [
        runs.map(({ first }) => first.commit.batch),
        runs.map(({ first }) => first.commit.owned.partition),
        runs.map(({ first }) => first.nth),
        runs.map(({ last }) => last.nth),
        runs.map(({ first }) => first.commit.pos),
        runs.map(({ first }) => first.commit.at),
        commits.map(({ pos }) => pos),
        commits.map(({ at }) => at),
      ])
      this.#gone = removable
      return true
    } catch (error) {
      this.#removeAt = systemClock.now() + this.#pollMs
      this.#failed('remove', error, this.#pollMs)
      return false
    }
  }

  /** To be called when no read is under way: one that began before they were deleted must not take them for new. */
  #forget(): void {
    if (this.#gone) this.#window.removed(this.#gone)
    this.#gone = undefined
  }

  #published(items: readonly Item[]): void {
    this.#window.done(items)
    if (this.#events.has('published'))
      this.#events.emit('published', { count: items.length, lagMs: Math.max(...items.map(({ lagMs }) => lagMs)) })
  }

  async #park(item: Item, error: unknown): Promise<void> {
    const { commit, nth, stored } = item
    const reason = JSON.stringify(failureOf(error))
    await this.port.ask('park', [commit.batch, commit.owned.partition, nth, reason, toSqlText(stored.id)])
    this.#window.done([item])
    this.#events.emit('parked', { id: stored.id, type: stored.type, error })
  }

  #failed(what: OutboxRelayEvents['failed']['what'], error: unknown, retryInMs: number): void {
    this.#events.emit('failed', { what, error, retryInMs })
  }

  /** Longer each time, until something is found or announced. */
  async #rest(): Promise<void> {
    const ms = Math.min(this.#pollMs, this.#lookMs)
    this.#lookMs = Math.max(LOOK_AGAIN_MS, ms * 2)
    await this.#pause(this.#woken ? SHORTLY_MS : ms)
  }

  /** A new message cuts it short, closing ends it. */
  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      let cancel = systemClock.setTimer(end, ms)
      let isCut = false
      this.#endRest = (leftMs) => {
        if (leftMs > 0 && isCut) return
        isCut = true
        cancel()
        if (leftMs > 0) cancel = systemClock.setTimer(end, leftMs)
        else end()
      }
      const done = (): void => void (this.#endRest = undefined)
      function end(): void {
        done()
        resolve()
      }
    })
  }
}
