import type { JournalEntry, NodeState, SagaState } from './journal.js'
import type { Turn } from './machine.js'
import type { InboxMessage } from './store.js'
import { isDone, touched } from './structure.js'
import { everyNode } from './definition.js'

/** What an operator's order, or a cancel, says besides its verb and path: plain JSON in the message's payload. */
export interface Order {
  readonly who: string
  readonly why?: string | undefined
  /** Of `resolve`: the result, as text of the codec. */
  readonly value?: string | undefined
}

/** Carries out an order from the inbox, if it fits where the saga stands, and keeps it in the history either way. */
export function operate(turn: Turn, message: InboxMessage): void {
  const { who, why, value } = JSON.parse(message.payload) as Order
  const verb = message.kind as Exclude<InboxMessage['kind'], 'signal'>
  const path = message.name
  const at = turn.moment.now
  const note = (applied: boolean): JournalEntry => ({
    type: 'operator',
    entry: { verb, who, at, applied, ...(why === undefined ? {} : { why }), ...(path === '' ? {} : { path }) },
  })
  turn.consumed.push(message.number)
  const act =
    verb === 'cancel'
      ? cancel(turn, why ?? 'cancelled')
      : verb === 'redrive'
        ? redrive(turn, path)
        : unblock(turn, verb, path, value)
  turn.write(note(act !== undefined))
  act?.()
}

/** What is to be done, or `undefined` when it does not fit. */
type Act = (() => void) | undefined

function cancel(turn: Turn, reason: string): Act {
  const { state } = turn
  if (state.direction === 'back' || state.status === 'completed' || state.status === 'compensated') return undefined
  const undecided = turn.pivotUndecided() && state.status !== 'parked' // of a parked one, an operator has decided now
  if (state.pivoted || undecided) {
    if (!state.late) turn.write({ type: 'late', kind: 'cancelled', reason })
    return undecided ? () => {} : undefined
  }
  return () => turn.turn({ kind: 'cancelled', error: { name: 'Cancelled', message: reason } })
}

function unblock(turn: Turn, verb: 'retry' | 'skip' | 'resolve', path: string, value = 'null'): Act {
  const { state } = turn
  const back = state.direction === 'back'
  const blocked = [...state.nodes].filter(([, node]) => isBlocked(node, state)).map(([at]) => at)
  if (blocked.length === 0) return undefined
  if (verb === 'retry') return () => blocked.forEach((at) => again(turn, at))
  if (!blocked.includes(path)) return undefined
  if (back) return () => turn.write({ type: 'compensated', path })
  return () => turn.write(verb === 'skip' ? { type: 'skipped', path } : { type: 'done', path, value })
}

/** Whether this node is one that an operator has to decide about: its saga is parked, or will be when its other branches have waited long enough. */
export const isBlocked = (node: NodeState, { status, direction }: Pick<SagaState, 'status' | 'direction'>): boolean => {
  if (status !== 'parked' && status !== 'waiting') return false
  return direction === 'back' ? node.status === 'stuck' : node.status === 'failed' || node.status === 'unknown'
}

function again(turn: Turn, path: string): void {
  const node = turn.machine.nodes.get(path)
  if (node?.kind !== 'wait') return turn.write({ type: 'again', path })
  const until = turn.moment.now + node.timeoutMs
  turn.write({ type: 'waiting', path, until: until === Infinity ? null : until })
}

function redrive(turn: Turn, from: string): Act {
  const { state, machine, moment } = turn
  if (state.status !== 'parked' && state.status !== 'compensated') return undefined
  const { nodes, deadlineMs } = machine.definition
  const index = nodes.findIndex((node) => node.path === from)
  const pivotIndex = nodes.findIndex((node) => node.kind === 'pivot')
  if (index < 0 || (state.pivoted && index <= pivotIndex)) return undefined
  if (!isDone(state, nodes.slice(0, index)) || !touched(state, nodes)) return undefined
  const paths = [...everyNode(nodes.slice(index))].map((node) => node.path).filter((path) => state.nodes.has(path))
  const deadlineAt = deadlineMs === Infinity ? null : moment.now + deadlineMs
  return () => {
    turn.write({ type: 'redriven', paths, deadlineAt })
    state.status = 'running'
  }
}
