import type { SagaNode } from '../saga/definition.js'
import {
  applyEntry,
  emptyState,
  type JournalEntry,
  type NodeStatus,
  type RecordedError,
  type SagaState,
} from '../saga/journal.js'
import { isBlocked } from '../saga/operators.js'
import type { StoredSaga } from '../saga/store.js'

/** One time that a node did not succeed. */
export interface Failure {
  /** Epoch milliseconds. */
  readonly at: number
  readonly of: 'run' | 'compensate'
  /** From 1, of this body. */
  readonly attempt: number
  /** `undefined`: its owner vanished. */
  readonly error: RecordedError | undefined
  /** It may have had its effect. */
  readonly maybe: boolean
}

/** What the journal says of one node. */
export interface NodeTrace {
  readonly path: string
  /** `'pending'`: it was taken back before it began. */
  readonly status: NodeStatus | 'pending'
  /** Starts of its present body. */
  readonly attempt: number
  /** When it last began from nothing, epoch milliseconds. */
  readonly beganAt: number
  /** When it last went on, epoch milliseconds. */
  readonly changedAt: number
  /** While it has not ended: when it goes on by itself; `Infinity`: never; `undefined`: it is under way. */
  readonly nextAt: number | undefined
  /** Its result as text of the codec, if it has one. */
  readonly value: string | undefined
  /** Oldest first. */
  readonly failures: readonly Failure[]
  /** The saga waits for a decision about it. */
  readonly blocked: boolean
}

/** A saga as its journal alone tells it. */
export interface Account {
  readonly state: SagaState
  /** Those that the journal knows, by the place they have, in the order in which they first appear. */
  readonly nodes: readonly NodeTrace[]
}

interface Seen {
  beganAt: number
  readonly failures: Failure[]
}

/**
 * Reads a journal without the definition. What that would say is left out: nodes that have not begun, and the very first ones until
 * something has come of them, because their beginning is not recorded.
 */
export function accountOf(saga: StoredSaga): Account {
  const { createdAt, deadlineMs, journal, status } = saga
  const state = emptyState(createdAt + (deadlineMs ?? Infinity))
  const seen = new Map<string, Seen>()
  for (const { at, entries } of journal)
    for (const entry of entries) {
      if ('path' in entry) {
        if (!seen.has(entry.path)) {
          seen.set(entry.path, { beganAt: createdAt, failures: [] })
          if (!BEGINS.has(entry.type))
            applyEntry(state, { type: 'started', path: entry.path }, createdAt, UNKNOWN_NODES)
        }
        note(seen.get(entry.path)!, entry, at, state)
      }
      if (entry.type === 'migrated') for (const path of entry.dropped) seen.delete(path)
      applyEntry(state, entry, at, UNKNOWN_NODES)
    }
  if (journal.length > 0) state.status = status
  const nodes = [...seen].map(([path, { beganAt, failures }]): NodeTrace => {
    const node = state.nodes.get(path)
    const blocked = node !== undefined && isBlocked(node, state)
    return {
      path,
      status: node?.status ?? 'pending',
      attempt: node?.attempt ?? 0,
      beganAt,
      changedAt: node?.changedAt ?? beganAt,
      nextAt: node && UNDER_WAY.has(node.status) && node.at > node.changedAt ? node.at : undefined,
      value: node?.value,
      failures,
      blocked,
    }
  })
  return { state, nodes }
}

const BEGINS: ReadonlySet<string> = new Set(['started', 'waiting'])
const UNDER_WAY: ReadonlySet<string> = new Set(['running', 'waiting', 'compensating'])
const UNKNOWN_NODES: ReadonlyMap<string, SagaNode> = new Map()

/** To be called before `entry` is applied. */
function note(seen: Seen, entry: JournalEntry & { readonly path: string }, at: number, state: SagaState): void {
  const node = state.nodes.get(entry.path)
  const failed = { at, attempt: node?.attempt ?? 1 }
  const during = node?.status === 'compensating' ? 'compensate' : 'run'
  switch (entry.type) {
    case 'started':
    case 'waiting':
      seen.beganAt = at
      return
    case 'retrying':
    case 'failed':
      seen.failures.push({ ...failed, of: during, error: entry.error, maybe: entry.maybe && during === 'run' })
      return
    case 'stuck':
      seen.failures.push({ ...failed, of: 'compensate', error: entry.error, maybe: false })
      return
    case 'interrupted':
      seen.failures.push({ ...failed, of: during, error: undefined, maybe: during === 'run' })
      return
    default:
  }
}

/** A level of the definition as far as paths tell of it: nodes in sequence, or the branches of a block. */
export interface Level {
  /** As declared. */
  readonly name: string
  /** What stands at this very path: `undefined` of a block and a branch. */
  readonly node: NodeTrace | undefined
  readonly below: readonly Level[]
}

/** The nodes as a tree: within a sequence in the order in which they first appear. Blocks and branches are told by the paths. */
export function levelsOf(nodes: readonly NodeTrace[]): readonly Level[] {
  interface Growing {
    readonly name: string
    node: NodeTrace | undefined
    readonly below: Map<string, Growing>
  }
  const root: Growing = { name: '', node: undefined, below: new Map() }
  for (const node of nodes) {
    let at = root
    for (const part of node.path.split('/')) {
      const name = part.replaceAll('~1', '/').replaceAll('~0', '~')
      const next = at.below.get(part) ?? { name, node: undefined, below: new Map<string, Growing>() }
      at.below.set(part, next)
      at = next
    }
    at.node = node
  }
  const fixed = ({ name, node, below }: Growing): Level => ({ name, node, below: [...below.values()].map(fixed) })
  return fixed(root).below
}
