import type { Random } from '../kernel/random.js'
import { everyNode, type SagaDefinition, type SagaNode, type StepNode } from './definition.js'
import {
  applyEntry,
  emptyState,
  type JournalEntry,
  type KindsByPath,
  type NodeState,
  type PastDefinition,
  type RecordedError,
  type SagaFailure,
  type SagaState,
  type StoredEvent,
} from './journal.js'
import { operate } from './operators.js'
import { recordError } from './recorded-error.js'
import { delayBefore, mayRetry } from './retry.js'
import type { InboxMessage, StoredSaga } from './store.js'
import { touched, isDone } from './structure.js'

/** What happened to a saga. Signals, cancels and operators' orders come through its inbox. */
export type SagaInput =
  | {
      readonly type: 'succeeded'
      readonly path: string
      readonly value: string
      readonly emitted: readonly StoredEvent[]
    }
  | {
      readonly type: 'failed'
      readonly path: string
      readonly error: unknown
      /** It may have had its effect. */
      readonly maybe: boolean
      /** Another attempt would be no use. */
      readonly final: boolean
    }
  /** Its last owner vanished. */
  | { readonly type: 'interrupted' }
  /** The first `count` events of the outbox are published. */
  | { readonly type: 'published'; readonly count: number }

/** The world at one moment, as far as a saga can see it. */
export interface Moment {
  /** Epoch milliseconds, by the store's clock. */
  readonly now: number
  /** Paths whose body is running here. */
  readonly live: Pick<ReadonlySet<string>, 'has'>
  /** Messages not consumed yet, in the order they came. */
  readonly inbox: readonly InboxMessage[]
  /** For backoffs. */
  readonly random: Random
}

/** What follows, to be stored in one write. */
export interface SagaDecision {
  /** In the order in which they hold; empty: nothing happened. */
  readonly entries: readonly JournalEntry[]
  /** Numbers of the inbox messages that were used up. */
  readonly consumed: readonly number[]
}

/** How far a part of the definition is. `blocked`: it waits for an operator. */
type Progress = 'done' | 'active' | 'waiting' | 'blocked'

const NOBODY: Pick<ReadonlySet<string>, 'has'> = { has: () => false }

/** The rules of one definition: from what the journal says and what happened to what is to be recorded. Knows no store and no clock. */
export class SagaMachine {
  readonly nodes: ReadonlyMap<string, SagaNode>
  readonly pivot: StepNode | undefined

  constructor(readonly definition: SagaDefinition) {
    this.nodes = new Map([...everyNode(definition.nodes)].map((node) => [node.path, node]))
    this.pivot = definition.nodes.find((node): node is StepNode => node.kind === 'pivot')
  }

  /** A saga just created: what its first nodes do follows from the definition alone and is not recorded. */
  begin(createdAt: number, deadlineMs: number | null): SagaState {
    const state = emptyState(createdAt + (deadlineMs ?? Infinity))
    this.#begin(state, createdAt)
    return state
  }

  /** A saga as its journal tells it: what was written under earlier definitions is read by what they were. */
  load({ createdAt, deadlineMs, journal, status }: StoredSaga): SagaState {
    const state = emptyState(createdAt + (deadlineMs ?? Infinity))
    const [first, ...pasts] = pastsOf(journal)
    let nodes: KindsByPath = first ? kindsOf(first) : this.nodes
    if (first) for (const entry of first.began) applyEntry(state, entry, createdAt, nodes)
    else this.#begin(state, createdAt)
    for (const { at, entries } of journal)
      for (const entry of entries) {
        applyEntry(state, entry, at, nodes)
        if (entry.type !== 'migrated') continue
        const past = pasts.shift()
        nodes = past ? kindsOf(past) : this.nodes
      }
    if (journal.length > 0) state.status = status
    return state
  }

  /** This definition as what is written under it can be read by. */
  asPast({ createdAt, deadlineMs, journal, hash, version }: StoredSaga): PastDefinition {
    const { entries } = this.#begin(emptyState(createdAt + (deadlineMs ?? Infinity)), createdAt)
    const began = pastsOf(journal).length === 0 ? entries : []
    const kinds = [...this.nodes].filter(([, { kind }]) => kind === 'pivot' || kind === 'transaction')
    return { version, hash, began, kinds: Object.fromEntries(kinds.map(([path, { kind }]) => [path, kind])) }
  }

  /** What follows from `inputs`, the inbox and the time; `state` has moved on by it. The same for the same arguments. */
  decide(state: SagaState, inputs: readonly SagaInput[], moment: Moment): SagaDecision {
    const turn = new Turn(this, state, moment)
    for (const input of inputs) turn.take(input)
    for (const message of moment.inbox) {
      if (message.kind === 'signal') continue
      turn.advance() // so that an order finds the saga where its time and those before left it
      operate(turn, message)
    }
    turn.advance()
    return turn
  }

  #begin(state: SagaState, createdAt: number): SagaDecision {
    return this.decide(state, [], { now: createdAt, live: NOBODY, inbox: [], random: () => 0 })
  }

  /** Whether a signal could move it on. */
  waitsForSignal(state: SagaState): boolean {
    for (const [path, { status }] of state.nodes)
      if (status === 'waiting' && this.nodes.get(path)?.kind === 'wait') return true
    return false
  }

  /** Epoch milliseconds at which time alone moves the saga on; `Infinity`: never. */
  dueAt(state: SagaState, { live }: Pick<Moment, 'live'>): number {
    if (state.status === 'completed' || state.status === 'compensated' || state.status === 'parked') return Infinity
    const forward = state.direction === 'forward'
    let due = mayTurn(state) ? state.deadlineAt : Infinity
    for (const [path, node] of state.nodes) {
      const timed =
        node.status === 'compensating' || (forward && (node.status === 'running' || node.status === 'waiting'))
      if (timed && node.at < due && !live.has(path)) due = node.at
    }
    return due
  }
}

/** The definitions it has left, in their order. */
function pastsOf(journal: StoredSaga['journal']): PastDefinition[] {
  const pasts: PastDefinition[] = []
  // loops, for it is asked at each claim, and records may be many
  for (const { entries } of journal) for (const entry of entries) if (entry.type === 'migrated') pasts.push(entry.was)
  return pasts
}

const kindsOf = ({ kinds }: PastDefinition): KindsByPath =>
  new Map(Object.entries(kinds).map(([path, kind]) => [path, { kind }]))

/** Whether a deadline or a cancel would turn it back. */
export const mayTurn = ({ direction, pivoted, late }: SagaState): boolean =>
  direction === 'forward' && !pivoted && !late

/** Whether the body of the node that is `at` is to run now, if it does not already. */
export const isToRun = ({ direction }: SagaState, { status, at }: NodeState, now: number): boolean =>
  (status === 'compensating' || (status === 'running' && direction === 'forward')) && at <= now

/** One decision in the making. */
export class Turn implements SagaDecision {
  readonly entries: JournalEntry[] = []
  readonly consumed: number[] = []

  constructor(
    readonly machine: SagaMachine,
    readonly state: SagaState,
    readonly moment: Moment,
  ) {}

  write(entry: JournalEntry): void {
    this.entries.push(entry)
    applyEntry(this.state, entry, this.moment.now, this.machine.nodes)
  }

  take(input: SagaInput): void {
    const { state } = this
    switch (input.type) {
      case 'published':
        return this.write({ type: 'published', count: input.count })
      case 'interrupted':
        for (const [path, { status, at, delayMs = 0 }] of state.nodes) {
          const { now } = this.moment
          // later than it can have been planned: the store's clock was set back, and nobody knows whether it began
          const isOdd = at > now + delayMs
          if ((status === 'running' || status === 'compensating') && (at <= now || isOdd))
            this.write({ type: 'interrupted', path })
        }
        return
      case 'succeeded': {
        const type = state.nodes.get(input.path)?.status === 'compensating' ? 'compensated' : 'done'
        const emitted = input.emitted.length > 0 ? { emitted: input.emitted } : {}
        if (type === 'done') return this.write({ type, path: input.path, value: input.value, ...emitted })
        return this.write({ type, path: input.path, ...emitted })
      }
      case 'failed': {
        const node = this.machine.nodes.get(input.path) as StepNode
        const at = state.nodes.get(input.path)
        if (at?.status === 'compensating') this.#compensationFailed(node, at, input)
        else if (at?.status === 'running') this.#runFailed(node, at, input)
      }
    }
  }

  /** Brings the saga as far as it gets without anything else happening. */
  advance(): void {
    const { state, machine } = this
    if (state.status === 'completed' || state.status === 'compensated') return
    const { nodes } = machine.definition
    if (state.direction === 'forward') {
      if (state.deadlineAt <= this.moment.now && !state.late && !isDone(state, nodes)) this.#deadlinePassed()
      if (state.direction === 'forward') state.status = FORWARD[this.#forward(nodes)]
    }
    // not an else: going forward may have ended in turning back
    if (this.#isBack()) state.status = BACK[this.#unwind(nodes)]
  }

  /** The saga goes back from here on. */
  turn(failure: SagaFailure): void {
    this.write({ type: 'turned', failure })
  }

  /** Whether the pivot has begun and nobody knows how it ends: neither way is safe. */
  pivotUndecided(): boolean {
    const { pivot } = this.machine
    const at = pivot && this.state.nodes.get(pivot.path)
    if (!at) return false
    return at.status === 'unknown' || (at.status === 'running' && (at.maybe || this.moment.live.has(pivot.path)))
  }

  /** The oldest signal of this name that nothing has consumed. */
  signalNamed(name: string): InboxMessage | undefined {
    return this.moment.inbox.find((m) => m.kind === 'signal' && m.name === name && !this.consumed.includes(m.number))
  }

  #isBack(): boolean {
    return this.state.direction === 'back'
  }

  #deadlinePassed(): void {
    const reason = `did not end before its deadline`
    if (this.state.pivoted || this.pivotUndecided()) this.write({ type: 'late', kind: 'deadline', reason })
    else this.turn({ kind: 'deadline', error: { name: 'DeadlinePassed', message: reason } })
  }

  #runFailed(node: StepNode, at: NodeState, { error, maybe, final }: SagaInput & { type: 'failed' }): void {
    const { state } = this
    const { path } = node
    const recorded = recordError(error)
    // a pivot that failed for certain after somebody asked to stop: there is the way back
    const stop = node.kind === 'pivot' && state.late !== undefined && !maybe && !at.maybe
    if (!this.#isBack() && !final && !stop && mayRetry(node.retry, at.failures + 1, error))
      return this.#retry(node, at, error, recorded, maybe)
    this.write({ type: 'failed', path, error: recorded, maybe })
    if (this.#isBack() || state.pivoted || this.pivotUndecided()) return
    if (stop && state.late) {
      const { kind, reason } = state.late
      this.turn({ kind, error: { name: kind === 'deadline' ? 'DeadlinePassed' : 'Cancelled', message: reason } })
    } else this.turn({ kind: 'failed', path, error: recorded })
  }

  #compensationFailed(node: StepNode, at: NodeState, { error, final }: SagaInput & { type: 'failed' }): void {
    const recorded = recordError(error)
    if (!final && mayRetry(node.compensateRetry, at.failures + 1, error)) this.#retry(node, at, error, recorded, false)
    else this.write({ type: 'stuck', path: node.path, error: recorded })
  }

  #retry({ path, ...node }: StepNode, at: NodeState, error: unknown, recorded: RecordedError, maybe: boolean): void {
    const plan = at.status === 'compensating' ? node.compensateRetry : node.retry
    const { now, random } = this.moment
    const delayMs = delayBefore(plan, at.failures + 1, error, { previousMs: at.delayMs, random })
    this.write({ type: 'retrying', path, error: recorded, maybe, at: now + delayMs, delayMs })
  }

  #forward(nodes: readonly SagaNode[]): Progress {
    for (const node of nodes) {
      const progress = this.#visit(node)
      if (progress !== 'done') return progress
    }
    return 'done'
  }

  #visit(node: SagaNode): Progress {
    if (node.kind === 'parallel') return this.#visitBranches(node)
    const at = this.state.nodes.get(node.path)
    if (at?.status === 'done' || at?.status === 'skipped') return 'done'
    if (at?.status === 'failed' || at?.status === 'unknown') return 'blocked'
    if (node.kind === 'wait' || node.kind === 'sleep') return this.#visitPause(node, at)
    if (!at) this.write({ type: 'started', path: node.path })
    return 'active'
  }

  #visitPause(node: SagaNode & { kind: 'wait' | 'sleep' }, at: NodeState | undefined): Progress {
    const { path } = node
    const { now } = this.moment
    if (!at) {
      const until = now + (node.kind === 'sleep' ? node.ms : node.timeoutMs)
      this.write({ type: 'waiting', path, until: until === Infinity ? null : until })
    }
    const message = node.kind === 'wait' ? this.signalNamed(node.signal.name) : undefined
    if (message) {
      this.consumed.push(message.number)
      this.write({ type: 'done', path, value: message.payload })
      return 'done'
    }
    if (this.state.nodes.get(path)!.at > now) return 'waiting'
    if (node.kind === 'sleep') {
      this.write({ type: 'done', path, value: 'null' })
      return 'done'
    }
    const error = { name: 'SignalTimeout', message: `no signal '${node.signal.name}' within ${node.timeoutMs} ms` }
    this.write({ type: 'failed', path, error, maybe: false })
    if (!this.state.pivoted) this.turn({ kind: 'timed-out', path, error })
    return 'blocked'
  }

  #visitBranches({ branches, limit }: SagaNode & { kind: 'parallel' }): Progress {
    let slots = limit
    const found = new Set<Progress>()
    for (const { nodes } of branches) {
      if (slots <= 0 && !touched(this.state, nodes)) continue // those that have the slots decide what the block does
      const progress = this.#forward(nodes)
      if (this.#isBack()) return 'blocked'
      if (progress === 'done') continue
      slots--
      found.add(progress)
    }
    return (['active', 'waiting', 'blocked'] as const).find((p) => found.has(p)) ?? 'done'
  }

  #unwind(nodes: readonly SagaNode[]): Progress {
    let blocked = false
    for (const node of nodes.toReversed()) {
      const progress = node.kind === 'parallel' ? this.#unwindBranches(node.branches) : this.#undo(node)
      if (progress === 'active') return 'active'
      if (progress === 'done') continue
      if (this.machine.definition.onCompensationFailure === 'park') return 'blocked'
      blocked = true
    }
    return blocked ? 'blocked' : 'done'
  }

  #unwindBranches(branches: readonly { readonly nodes: readonly SagaNode[] }[]): Progress {
    const found = new Set(branches.map(({ nodes }) => this.#unwind(nodes)))
    return found.has('active') ? 'active' : found.has('blocked') ? 'blocked' : 'done'
  }

  #undo(node: Exclude<SagaNode, { kind: 'parallel' }>): Progress {
    const { path } = node
    const status = this.state.nodes.get(path)?.status
    if (status === 'running' || status === 'waiting') {
      if (this.moment.live.has(path)) return 'active' // it is being stopped, and says how it ended
      this.write({ type: 'abandoned', path })
      return this.#undo(node)
    }
    if (status === 'compensating') return 'active'
    if (status === 'stuck') return 'blocked'
    const undoable = 'compensate' in node && node.compensate !== undefined
    if (!undoable || (status !== 'done' && status !== 'unknown')) return 'done'
    this.write({ type: 'compensating', path })
    return 'active'
  }
}

const FORWARD = { done: 'completed', active: 'running', waiting: 'waiting', blocked: 'parked' } as const
const BACK = { done: 'compensated', active: 'compensating', waiting: 'compensating', blocked: 'parked' } as const
