import type { SagaNode } from './definition.js'

/** Where a saga stands. The last three are its ends, and `parked` waits for an operator. */
export type SagaStatus = 'running' | 'waiting' | 'compensating' | 'completed' | 'compensated' | 'parked'

/** Every status. */
export const SAGA_STATUSES: readonly SagaStatus[] = [
  'running',
  'waiting',
  'compensating',
  'completed',
  'compensated',
  'parked',
]

/** What went wrong, as it is stored: of an error only what every process can read. */
export interface RecordedError {
  /** The error's `name`; `'Error'` when no error was thrown. */
  readonly name: string
  /** At most 2 000 characters. */
  readonly message: string
  /** The error's `code`, if it has one. */
  readonly code?: string | undefined
}

/** Why a saga turned back. */
export interface SagaFailure {
  /** `'failed'`: a step; `'timed-out'`: a wait. */
  readonly kind: 'failed' | 'timed-out' | 'deadline' | 'cancelled'
  /** The node that failed; `undefined` for a deadline and a cancel. */
  readonly path?: string | undefined
  /** What it failed with, or the reason that was given. */
  readonly error: RecordedError
}

/** An emitted event as it is stored. */
export interface StoredEvent {
  /** The message's id, the same however often it is published. */
  readonly id: string
  /** The message's type. */
  readonly type: string
  /** Text of the codec. */
  readonly data: string
  /** The message's key, for order. */
  readonly key?: string | undefined
  /** The message's headers. */
  readonly headers: Readonly<Record<string, string>>
  /** Epoch milliseconds. */
  readonly occurredAt: number
}

/** What an operator did, or somebody who cancelled: kept for good. */
export interface HistoryEntry {
  /** What was asked for. */
  readonly verb: 'cancel' | 'retry' | 'skip' | 'resolve' | 'redrive' | 'migrate'
  /** As they gave it. */
  readonly who: string
  /** As they gave it; of a cancel always the reason. */
  readonly why?: string | undefined
  /** Epoch milliseconds, by the store's clock. */
  readonly at: number
  /** The node it was about, where there is one. */
  readonly path?: string | undefined
  /** `false`: it came too late, or did not fit where the saga stood, and nothing followed from it. */
  readonly applied: boolean
  /** Of a migration: the version it left. */
  readonly from?: number | undefined
  /** Of a migration: the version it got. */
  readonly to?: number | undefined
}

/** What of a definition is needed to read what was written under it. */
export interface PastDefinition {
  /** Integer ≥ 1. */
  readonly version: number
  /** Of its structure. */
  readonly hash: string
  /** What its first nodes did when the saga was created, which is recorded nowhere else; empty when the saga was created under another one. */
  readonly began: readonly JournalEntry[]
  /** Of its pivot and transactions, by path: what the journal says of these depends on their kind. */
  readonly kinds: { readonly [path: string]: SagaNode['kind'] }
}

/** One fact of a saga. Plain JSON: values of users stand in it as text of the codec. */
export type JournalEntry =
  /** `run` of a step is to be started: whoever finds this after a crash must assume that it was. */
  | { readonly type: 'started'; readonly path: string }
  | { readonly type: 'waiting'; readonly path: string; readonly until: number | null }
  | { readonly type: 'done'; readonly path: string; readonly value: string; readonly emitted?: readonly StoredEvent[] }
  /** An attempt failed and the next one is to be started at `at`. `maybe`: it may have had its effect. */
  | {
      readonly type: 'retrying'
      readonly path: string
      readonly error: RecordedError
      readonly maybe: boolean
      readonly at: number
      readonly delayMs: number
    }
  | { readonly type: 'failed'; readonly path: string; readonly error: RecordedError; readonly maybe: boolean }
  /** The owner vanished while the body may have run: it is started again. */
  | { readonly type: 'interrupted'; readonly path: string }
  /** The saga turned back before the next attempt began. */
  | { readonly type: 'abandoned'; readonly path: string }
  | { readonly type: 'turned'; readonly failure: SagaFailure }
  | { readonly type: 'late'; readonly kind: 'deadline' | 'cancelled'; readonly reason: string }
  | { readonly type: 'compensating'; readonly path: string }
  | { readonly type: 'compensated'; readonly path: string; readonly emitted?: readonly StoredEvent[] }
  /** Its compensation failed for good. */
  | { readonly type: 'stuck'; readonly path: string; readonly error: RecordedError }
  | { readonly type: 'published'; readonly count: number }
  | { readonly type: 'operator'; readonly entry: HistoryEntry }
  | { readonly type: 'again'; readonly path: string }
  | { readonly type: 'skipped'; readonly path: string }
  | { readonly type: 'redriven'; readonly paths: readonly string[]; readonly deadlineAt: number | null }
  /** From here on it is of another definition, in which `dropped` are not, or not begun. Nodes that count as done in it follow as `done` and `skipped`. */
  | {
      readonly type: 'migrated'
      readonly was: PastDefinition
      readonly to: { readonly version: number; readonly hash: string }
      readonly dropped: readonly string[]
      readonly who: string
      readonly why?: string | undefined
    }

/** The facts of one write. */
export interface JournalRecord {
  /** Epoch milliseconds, by the store's clock. */
  readonly at: number
  /** In the order in which they hold; may be empty. */
  readonly entries: readonly JournalEntry[]
}

/** How far a node is. One that has not begun has no state. */
export type NodeStatus =
  | 'running'
  | 'waiting'
  | 'done'
  | 'skipped'
  | 'failed'
  | 'unknown'
  | 'compensating'
  | 'compensated'
  | 'stuck'

/** What the journal says of one node. */
export interface NodeState {
  status: NodeStatus
  /** Starts of the present body, the one under way or planned included. */
  attempt: number
  /** Failures of the present body. */
  failures: number
  /** When the present attempt begins, epoch milliseconds; the end of a wait or pause (`Infinity`: none). */
  at: number
  /** The wait before the present attempt. */
  delayMs: number | undefined
  /** Whether an attempt of `run` may have had its effect though it gave no result. */
  maybe: boolean
  /** What `compensate` is told. */
  outcome: 'done' | 'unknown'
  /** How often it was begun anew after its compensation had been started: part of the keys. */
  generation: number
  value: string | undefined
  error: RecordedError | undefined
  changedAt: number
}

/** What the journal says of a saga. Only {@link applyEntry} changes it. */
export interface SagaState {
  status: SagaStatus
  direction: 'forward' | 'back'
  /** The pivot is done: there is no way back. */
  pivoted: boolean
  deadlineAt: number
  /** A deadline or cancel that came when it could change nothing any more (yet). */
  late: { readonly kind: 'deadline' | 'cancelled'; readonly reason: string } | undefined
  failure: SagaFailure | undefined
  readonly nodes: Map<string, NodeState>
  /** How often redriven nodes have been begun anew, by path; `undefined`: none was. */
  generations: Map<string, number> | undefined
  /** Emitted and not yet known to be published. */
  outbox: StoredEvent[]
  history: HistoryEntry[]
}

/** A saga about which nothing has been recorded. */
export const emptyState = (deadlineAt: number): SagaState => ({
  status: 'running',
  direction: 'forward',
  pivoted: false,
  deadlineAt,
  late: undefined,
  failure: undefined,
  nodes: new Map(),
  generations: undefined,
  outbox: [],
  history: [],
})

/** Nodes of a definition. Of pivots and transactions the kind is needed; others may be missing. */
export type KindsByPath = ReadonlyMap<string, { readonly kind: SagaNode['kind'] }>

/** Takes one fact into `state`. @param nodes of the definition under which it was written */
export function applyEntry(state: SagaState, entry: JournalEntry, at: number, nodes: KindsByPath): void {
  switch (entry.type) {
    case 'turned':
      state.direction = 'back'
      state.failure = entry.failure
      return
    case 'late':
      state.late ??= { kind: entry.kind, reason: entry.reason }
      return
    case 'published':
      state.outbox = state.outbox.slice(entry.count)
      return
    case 'operator':
      state.history.push(entry.entry)
      return
    case 'redriven':
      for (const path of entry.paths) {
        const old = state.nodes.get(path)
        state.nodes.delete(path)
        // what was (perhaps) undone is done anew under a new key, what stands keeps its own
        if (old && COMPENSATED.has(old.status)) (state.generations ??= new Map()).set(path, old.generation + 1)
      }
      state.direction = 'forward'
      state.failure = undefined
      state.late = undefined
      state.deadlineAt = entry.deadlineAt ?? Infinity
      return
    case 'migrated': {
      for (const path of entry.dropped) state.nodes.delete(path)
      const { was, to, who, why } = entry
      const versions = { from: was.version, to: to.version }
      state.history.push({
        verb: 'migrate',
        who,
        ...(why === undefined ? {} : { why }),
        at,
        applied: true,
        ...versions,
      })
      return
    }
    case 'started':
    case 'waiting':
      state.nodes.set(entry.path, {
        status: entry.type === 'started' ? 'running' : 'waiting',
        attempt: 1,
        failures: 0,
        at: entry.type === 'started' ? at : (entry.until ?? Infinity),
        delayMs: undefined,
        maybe: false,
        outcome: 'done',
        generation: state.generations?.get(entry.path) ?? 0,
        value: undefined,
        error: undefined,
        changedAt: at,
      })
      return
    default:
      applyToNode(state, state.nodes.get(entry.path)!, entry, at, nodes.get(entry.path)?.kind)
  }
}

const COMPENSATED: ReadonlySet<NodeStatus> = new Set(['compensating', 'compensated', 'stuck'])

type NodeEntry = Extract<
  JournalEntry,
  {
    type:
      | 'done'
      | 'retrying'
      | 'failed'
      | 'interrupted'
      | 'abandoned'
      | 'compensating'
      | 'compensated'
      | 'stuck'
      | 'again'
      | 'skipped'
  }
>

function applyToNode(
  state: SagaState,
  node: NodeState,
  entry: NodeEntry,
  at: number,
  kind: SagaNode['kind'] | undefined,
): void {
  node.changedAt = at
  switch (entry.type) {
    case 'done':
      node.status = 'done'
      node.value = entry.value
      node.error = undefined
      for (const event of entry.emitted ?? []) state.outbox.push(event) // as arguments of one call they may be too many
      if (kind === 'pivot') state.pivoted = true
      return
    case 'retrying':
      node.failures++
      node.attempt++
      node.error = entry.error
      node.maybe ||= entry.maybe && node.status === 'running'
      node.at = entry.at
      node.delayMs = entry.delayMs
      return
    case 'failed':
      node.failures++
      node.error = entry.error
      node.maybe ||= entry.maybe
      node.status = node.maybe ? 'unknown' : 'failed'
      return
    case 'interrupted':
      node.attempt++
      node.maybe ||= node.status === 'running' && kind !== 'transaction' // whose work is recorded, or undone
      node.at = at
      return
    case 'abandoned':
      if (node.maybe || node.failures > 0) node.status = node.maybe ? 'unknown' : 'failed'
      else state.nodes.delete(entry.path) // never began
      return
    case 'compensating':
      node.outcome = node.status === 'done' ? 'done' : 'unknown'
      node.status = 'compensating'
      begin(node, at)
      return
    case 'compensated':
      node.status = 'compensated'
      for (const event of entry.emitted ?? []) state.outbox.push(event)
      return
    case 'stuck':
      node.status = 'stuck'
      node.failures++
      node.error = entry.error
      return
    case 'again':
      node.status = node.status === 'stuck' ? 'compensating' : 'running'
      node.attempt++
      node.failures = 0
      node.delayMs = undefined
      node.at = at
      return
    case 'skipped':
      node.status = 'skipped'
      if (kind === 'pivot') state.pivoted = true
  }
}

function begin(node: NodeState, at: number): void {
  node.attempt = 1
  node.failures = 0
  node.delayMs = undefined
  node.error = undefined
  node.at = at
}
