import { jsonCodec } from '../kernel/codec.js'
import { plainResultsOf } from './results.js'
import type { HistoryEntry, NodeStatus, RecordedError, SagaFailure, SagaState, SagaStatus } from './journal.js'
import type { SagaNode } from './definition.js'
import type { SagaMachine } from './machine.js'
import { isBlocked } from './operators.js'
import type { StoredSaga } from './store.js'

/** One node of a {@link SagaView}. */
export interface NodeView {
  /** As bodies are given it. */
  readonly path: string
  /** What it is. */
  readonly kind: Exclude<SagaNode['kind'], 'parallel'>
  /** `'pending'`: it has not begun. */
  readonly status: NodeStatus | 'pending'
  /** Starts of its present body; 0: none. */
  readonly attempt: number
  /** What it failed with last; `undefined` when it did not, or has succeeded since. */
  readonly error: RecordedError | undefined
}

/** A saga as it stands in the store. Times are epoch milliseconds by the store's clock. */
export interface SagaView {
  /** As it was created. */
  readonly id: string
  /** Of its definition. */
  readonly name: string
  /** Of its definition. */
  readonly version: number
  /** Where it stands. */
  readonly status: SagaStatus
  /** As it was stored: a copy. */
  readonly input: unknown
  /** What is known of the nodes. Empty when this orchestrator does not know the definition. */
  readonly results: Readonly<Record<string, unknown>>
  /** Steps, waits and pauses in the order of the definition. Empty when this orchestrator does not know it. */
  readonly nodes: readonly NodeView[]
  /** Whether nodes, results, failure and the like are filled in: `'drifted'`: it began with another structure under this version. */
  readonly definition: 'known' | 'unknown' | 'drifted'
  /** Why it turned back; `undefined` while it goes forward. */
  readonly failure: SagaFailure | undefined
  /** Paths that wait for an operator's decision, in the order of the definition: of a parked saga, or while another branch waits. */
  readonly blocked: readonly string[]
  /** A deadline or cancel that came after the pivot, or while it was under way. */
  readonly late: { readonly kind: 'deadline' | 'cancelled'; readonly reason: string } | undefined
  /** What people did to it, oldest first. */
  readonly history: readonly HistoryEntry[]
  /** When it was created. */
  readonly createdAt: number
  /** When its last transition was written. */
  readonly updatedAt: number
  /** `undefined`: none. */
  readonly deadlineAt: number | undefined
  /** Names of signals that came and that nothing has waited for yet, oldest first. */
  readonly buffered: readonly string[]
  /** How many owners it has had. */
  readonly epoch: number
}

/** How a saga ended, or that it waits for an operator. */
export type SagaOutcome<Results> =
  | { readonly status: 'completed'; readonly results: Results }
  | { readonly status: 'compensated'; readonly failure: SagaFailure }
  | {
      readonly status: 'parked'
      /** Why it turned back; `undefined` when it was going forward. */
      readonly failure: SagaFailure | undefined
      /** Paths to be decided about. */
      readonly blocked: readonly string[]
    }

/** Reads a stored saga with the rules of its definition. */
export function viewOf(
  saga: StoredSaga,
  machine: SagaMachine | undefined,
  definition: SagaView['definition'],
): SagaView {
  const { id, name, version, status, createdAt, updatedAt, epoch } = saga
  const base = {
    id,
    name,
    version,
    status,
    createdAt,
    updatedAt,
    epoch,
    definition,
    input: jsonCodec.decode(saga.input),
  }
  const buffered = saga.inbox.filter((m) => m.kind === 'signal').map((m) => m.name)
  if (!machine) {
    const nothing = { failure: undefined, late: undefined, deadlineAt: undefined }
    return { ...base, ...nothing, buffered, results: {}, nodes: [], blocked: [], history: [] }
  }
  const state = machine.load(saga)
  const nodes: NodeView[] = []
  for (const { path, kind } of machine.nodes.values()) {
    if (kind === 'parallel') continue
    const at = state.nodes.get(path)
    nodes.push({ path, kind, status: at?.status ?? 'pending', attempt: at?.attempt ?? 0, error: at?.error })
  }
  const { failure, late, history, deadlineAt } = state
  return {
    ...base,
    results: plainResultsOf(state, machine.definition.nodes),
    nodes,
    failure,
    blocked: blockedPaths(state, machine),
    late,
    history,
    deadlineAt: deadlineAt === Infinity ? undefined : deadlineAt,
    buffered,
  }
}

/** The outcome of a saga that has ended or is parked; `undefined` of any other. */
export function outcomeOf(state: SagaState, machine: SagaMachine): SagaOutcome<unknown> | undefined {
  const { status, failure } = state
  if (status === 'completed') return { status, results: plainResultsOf(state, machine.definition.nodes) }
  if (status === 'compensated') return { status, failure: failure as SagaFailure }
  if (status === 'parked') return { status, failure, blocked: blockedPaths(state, machine) }
  return undefined
}

function blockedPaths(state: SagaState, machine: SagaMachine): string[] {
  return [...machine.nodes.keys()].filter((path) => {
    const at = state.nodes.get(path)
    return at !== undefined && isBlocked(at, state)
  })
}
