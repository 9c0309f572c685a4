import { isDeepStrictEqual } from 'node:util'
import { checkMethods, checkNumber, checkObject } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { notify, type Unsubscribe } from '../kernel/emitter.js'
import type { SagaTransaction } from './body.js'
import { DueQueue } from './due-queue.js'
import type { JournalRecord, SagaStatus } from './journal.js'
import type {
  ClaimRequest,
  ClaimedSaga,
  Claims,
  Created,
  DefinitionKey,
  Delivered,
  Fenced,
  InboxMessage,
  Lease,
  Moved,
  NewMessage,
  NewSaga,
  Renewed,
  SagaMove,
  SagaQuery,
  SagaStore,
  SagaSummary,
  SagaWake,
  StoredSaga,
  Transition,
} from './store.js'

/** Options of {@link MemorySagaStore}. */
export interface MemorySagaStoreOptions {
  /** How long completed and compensated sagas are kept, in milliseconds, ≥ 0; then their ids are free again. @defaultValue 3_600_000 */
  readonly retainMs?: number | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

interface Row extends Omit<DefinitionKey, 'version' | 'hash'> {
  readonly id: string
  version: number
  hash: string
  readonly input: string
  readonly deadlineMs: number | null
  readonly createdAt: number
  status: SagaStatus
  updatedAt: number
  epoch: number
  journal: JournalRecord[]
  inbox: InboxMessage[]
  lastMessage: number
  dedupeIds: Set<string> | undefined
  leased: boolean
  /** When its lease ends, or when it is due. */
  wakeAt: number
  queuedAt: number
  slot: number
}

const MOST_DRIFTED = 100
const finished = (status: SagaStatus): boolean => status === 'completed' || status === 'compensated'

/** Sagas in this process's memory: as durable as the process. Its time begins as the wall clock's, and goes on evenly when that is set. Never throws. */
export class MemorySagaStore implements SagaStore {
  readonly #rows = new Map<string, Row>()
  readonly #due = new DueQueue<Row>()
  /** Finished sagas in the order of their end. */
  readonly #finished = new Set<Row>()
  /** When the first of them is to go, or earlier: a set is slow to say what is first after many that were deleted. */
  #sweepAt = Infinity
  readonly #listeners = new Set<{ readonly call: (wake: SagaWake) => void }>()
  readonly #retainMs: number
  readonly #clock: Clock
  /** What makes the time of its clock an epoch: the wall clock may be set while sagas run, and their leases must not notice. */
  readonly #epochOffset: number

  /** @throws InvalidOptionError when an option is wrong. */
  constructor(options: MemorySagaStoreOptions = {}) {
    const { retainMs = 3_600_000, clock = systemClock } = checkObject('options', options)
    this.#retainMs = checkNumber('retainMs', retainMs, 0)
    this.#clock = checkMethods('clock', clock, ['now', 'epochMs'])
    this.#epochOffset = clock.epochMs() - clock.now()
  }

  /** How many sagas are kept. */
  get size(): number {
    this.#sweep()
    return this.#rows.size
  }

  async create({ id, name, version, hash, input, deadlineMs, leaseMs }: NewSaga): Promise<Created> {
    const now = this.#sweep()
    const existing = this.#rows.get(id)
    if (existing) return { created: false, saga: snapshot(existing), now }
    const row: Row = {
      id,
      name,
      version,
      hash,
      input,
      deadlineMs,
      createdAt: now,
      status: 'running',
      updatedAt: now,
      epoch: leaseMs === null ? 0 : 1,
      journal: [],
      inbox: [],
      lastMessage: 0,
      dedupeIds: undefined,
      leased: leaseMs !== null,
      wakeAt: now + (leaseMs ?? 0),
      queuedAt: Infinity,
      slot: -1,
    }
    this.#rows.set(id, row)
    this.#changed(row, now)
    return { created: true, saga: snapshot(row), now }
  }

  async claim({ known, limit, leaseMs }: ClaimRequest): Promise<Claims> {
    const now = this.#sweep()
    const hashes = new Map(known.map((d) => [keyOf(d), d.hash]))
    const claimed: ClaimedSaga[] = []
    const drifted: Row[] = []
    const passed: Row[] = []
    for (let row; claimed.length < limit && (row = this.#due.take(now));) {
      const hash = hashes.get(keyOf(row))
      if (hash === row.hash) {
        const expired = row.leased
        row.epoch++
        row.leased = true
        row.wakeAt = now + leaseMs
        claimed.push({ saga: snapshot(row), expired })
      } else if (hash !== undefined && drifted.length < MOST_DRIFTED) drifted.push(row)
      passed.push(row)
    }
    const nextDueMs = claimed.length === limit ? 0 : Math.max(0, this.#due.nextAt - now)
    let leaseEnd = Infinity
    for (const row of passed) {
      this.#due.update(row)
      if (row.wakeAt > now) leaseEnd = Math.min(leaseEnd, row.wakeAt - now)
    }
    return {
      claimed,
      drifted: drifted.map(({ id, name, version }) => ({ id, name, version })),
      now,
      nextDueMs: Math.min(nextDueMs, leaseEnd),
    }
  }

  async renew(leases: readonly Lease[], leaseMs: number): Promise<readonly Renewed[]> {
    const now = this.#now()
    return leases.map((lease) => {
      const row = this.#owned(lease)
      if (!row) return 'fenced'
      row.wakeAt = now + leaseMs
      this.#due.update(row)
      return { lastMessage: row.lastMessage }
    })
  }

  async commit(transitions: readonly Transition[]): Promise<readonly Fenced[]> {
    const now = this.#now()
    return transitions.map((t) => this.#commitOne(t, now))
  }

  async transaction(
    work: (tx: SagaTransaction) => Promise<void>,
    record: () => Transition | undefined,
  ): Promise<Fenced> {
    await work(NO_DATABASE)
    const transition = record()
    return transition ? this.#commitOne(transition, this.#now()) : 'fenced'
  }

  async move({ id, createdAt, epoch, position, to, entries, letGo }: SagaMove): Promise<Moved> {
    const now = this.#sweep()
    const row = this.#rows.get(id)
    if (!row || row.createdAt !== createdAt) return 'fenced'
    const written = row.journal[position]
    if (written) return isDeepStrictEqual(written.entries, entries) ? 'ok' : 'fenced'
    if (row.epoch !== epoch || row.journal.length !== position) return 'fenced'
    if (row.leased && row.wakeAt > now) return 'owned'
    if (row.leased && letGo) return 'expired'
    row.journal.push({ at: now, entries: entries.slice() })
    row.version = to.version
    row.hash = to.hash
    row.epoch++
    row.updatedAt = now
    row.wakeAt = Math.min(row.wakeAt, now)
    this.#changed(row, now)
    return 'ok'
  }

  async deliver({ sagaId, dedupeId, kind, name, payload }: NewMessage): Promise<Delivered> {
    this.#sweep()
    const row = this.#rows.get(sagaId)
    if (!row) return 'unknown'
    if (row.status === 'completed' || (row.status === 'compensated' && kind !== 'redrive')) return 'finished'
    if (dedupeId !== undefined) {
      if (row.dedupeIds?.has(dedupeId)) return 'duplicate'
      row.dedupeIds = (row.dedupeIds ?? new Set()).add(dedupeId)
    }
    this.#finished.delete(row) // it is about to be driven again
    // property by property: what a rest pattern leaves is several times as slow to read, and many may wait
    row.inbox.push({ number: ++row.lastMessage, kind, name, payload })
    if (!row.leased) {
      row.wakeAt = Math.min(row.wakeAt, this.#now())
      this.#due.update(row)
    }
    this.#wake({ id: row.id, dueInMs: 0 })
    return 'delivered'
  }

  async read(id: string): Promise<StoredSaga | undefined> {
    this.#sweep()
    const row = this.#rows.get(id)
    return row && snapshot(row)
  }

  async list({ status, name, stuckForMs, after, limit }: SagaQuery): Promise<readonly SagaSummary[]> {
    const now = this.#sweep()
    return [...this.#rows.values()]
      .filter(
        (row) =>
          (status === undefined || row.status === status) &&
          (name === undefined || row.name === name) &&
          (stuckForMs === undefined || (!finished(row.status) && now - row.updatedAt >= stuckForMs)) &&
          (after === undefined || row.id > after),
      )
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
      .slice(0, limit)
      .map((row) => ({
        id: row.id,
        name: row.name,
        version: row.version,
        status: row.status,
        createdAt: row.createdAt,
        updatedAt: row.updatedAt,
      }))
  }

  onWake(listener: (wake: SagaWake) => void): Unsubscribe {
    const entry = { call: listener }
    this.#listeners.add(entry)
    return () => void this.#listeners.delete(entry)
  }

  #commitOne({ id, epoch, position, record, status, consumed, seen, next }: Transition, now: number): Fenced {
    const row = this.#rows.get(id)
    if (!row || row.epoch !== epoch) return 'fenced'
    if (row.journal.length > position) return isDeepStrictEqual(row.journal[position], record) ? 'ok' : 'fenced' // sent again
    if (!row.leased || row.journal.length < position) return 'fenced'
    row.journal.push({ at: record.at, entries: record.entries.slice() }) // without the room that arrays keep to grow
    row.status = status
    row.updatedAt = now
    if (consumed.length > 0) row.inbox = row.inbox.filter((m) => !consumed.includes(m.number))
    if ('leaseMs' in next) {
      row.wakeAt = now + next.leaseMs
      this.#due.update(row)
      return 'ok'
    }
    row.leased = false
    row.wakeAt = row.lastMessage > seen && status !== 'completed' ? now : (next.dueAt ?? Infinity)
    if (finished(status) && row.wakeAt === Infinity) {
      row.journal = row.journal.slice() // it grows no more
      this.#finished.add(row)
      this.#sweepAt = Math.min(this.#sweepAt, now + this.#retainMs)
    }
    this.#changed(row, now)
    return 'ok'
  }

  #owned({ id, epoch }: Lease): Row | undefined {
    const row = this.#rows.get(id)
    return row?.epoch === epoch && row.leased ? row : undefined
  }

  #changed(row: Row, now: number): void {
    this.#due.update(row)
    this.#wake({ id: row.id, dueInMs: Math.max(0, row.wakeAt - now) })
  }

  #wake(wake: SagaWake): void {
    for (const { call } of this.#listeners) notify(call, wake)
  }

  /** Deletes sagas that were kept long enough. @returns the time */
  #sweep(): number {
    const now = this.#now()
    if (now < this.#sweepAt) return now
    this.#sweepAt = Infinity
    for (const row of this.#finished) {
      const endsAt = row.updatedAt + this.#retainMs
      if (endsAt > now) {
        this.#sweepAt = endsAt
        break
      }
      this.#finished.delete(row)
      this.#rows.delete(row.id)
    }
    return now
  }

  #now(): number {
    return Math.floor(this.#clock.now() + this.#epochOffset)
  }
}

const NO_DATABASE: SagaTransaction = {
  query: async () => {
    throw new Error('MemorySagaStore has no database: a transaction that asks one needs PostgresSagaStore')
  },
}

const keyOf = ({ name, version }: DefinitionKey): string => `${version} ${name}`

/** The row at this moment: what is appended later does not show. */
function snapshot(row: Row): StoredSaga {
  // property by property: spreading costs several times as much
  return {
    id: row.id,
    name: row.name,
    version: row.version,
    hash: row.hash,
    input: row.input,
    deadlineMs: row.deadlineMs,
    status: row.status,
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
    epoch: row.epoch,
    lastMessage: row.lastMessage,
    journal: row.journal.slice(),
    inbox: row.inbox.slice(),
  }
}
