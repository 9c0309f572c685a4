import type { SagaNode } from './definition.js'
import { SagaMigrationError, type MigrationRefusal } from './errors.js'
import type { JournalEntry, NodeState, SagaState } from './journal.js'
import type { SagaMachine } from './machine.js'
import type { StoredSaga } from './store.js'
import { isDone, touched } from './structure.js'

/** Who moves a saga, and what of the new definition counts as settled where the saga is past it. */
export interface MigrationWish {
  readonly who: string
  readonly why: string | undefined
  /** By path, the result of nodes that count as done, as text of the codec. */
  readonly done: ReadonlyMap<string, string>
  /** Paths of nodes that count as skipped. */
  readonly skipped: ReadonlySet<string>
}

/** What is to be written so that a saga goes on under another definition. */
export interface MigrationPlan {
  readonly entries: readonly JournalEntry[]
  /** It holds only if the saga was let go: then what had been planned has not begun. */
  readonly letGo: boolean
}

/** One way to move `saga`, or why there is none. */
type Attempt = { readonly entries: readonly JournalEntry[] } | { readonly refused: SagaMigrationError }

/**
 * Ways to move `saga` from the definition of `from` to that of `to`, the one that asks least first; the other is there only if the first
 * does not do. What has happened keeps its path, kind and order; nothing new may stand before it that is not settled.
 * @throws SagaMigrationError when neither does.
 */
export function planMigration(
  saga: StoredSaga,
  from: SagaMachine,
  { to, wish }: { readonly to: SagaMachine; readonly wish: MigrationWish },
): MigrationPlan & { readonly otherwise: SagaMigrationError | undefined } {
  const attempt = (unbegun: readonly string[]): Attempt => new Migration(saga, from, to).attempt(wish, unbegun)
  const plain = attempt([])
  if ('entries' in plain) return { entries: plain.entries, letGo: false, otherwise: undefined }
  const unbegun = unbegunOf(from.load(saga))
  const second = unbegun.length > 0 ? attempt(unbegun) : plain
  if ('refused' in second) throw second.refused
  return { entries: second.entries, letGo: true, otherwise: plain.refused }
}

/** Steps that are about to begin for the first time, if nobody owned the saga meanwhile. */
const unbegunOf = ({ direction, nodes }: SagaState): string[] =>
  direction === 'back' ? [] : [...nodes].filter(([, node]) => isUnbegun(node)).map(([path]) => path)

const isUnbegun = ({ status, attempt, failures, maybe }: NodeState): boolean =>
  status === 'running' && attempt === 1 && failures === 0 && !maybe

class Migration {
  readonly #state: SagaState
  readonly #settled: JournalEntry[] = []

  constructor(
    private readonly saga: StoredSaga,
    private readonly from: SagaMachine,
    private readonly to: SagaMachine,
  ) {
    this.#state = from.load(saga)
  }

  attempt({ who, why, done, skipped }: MigrationWish, unbegun: readonly string[]): Attempt {
    const { saga, from, to } = this
    const dropped = [...unbegun, ...this.#goneWaits()]
    for (const path of dropped) this.#state.nodes.delete(path)
    try {
      for (const [path, node] of this.#state.nodes) this.#checkNode(path, node)
      this.#checkOrder(from.definition.nodes, to.definition.nodes)
      if (this.#state.direction === 'forward') this.#checkPlace(to.definition.nodes, done, skipped)
    } catch (error) {
      if (error instanceof SagaMigrationError) return { refused: error }
      throw error
    }
    const { version, hash } = to.definition
    const moved: JournalEntry = {
      type: 'migrated',
      was: from.asPast(saga),
      to: { version, hash },
      dropped,
      who,
      ...(why === undefined ? {} : { why }),
    }
    return { entries: [moved, ...this.#settled] }
  }

  /** Waits and pauses leave nothing behind that would have to be undone: those that the new definition has not are forgotten. */
  #goneWaits(): string[] {
    return [...this.#state.nodes.keys()].filter((path) => {
      const [old, next] = [this.from.nodes.get(path), this.to.nodes.get(path)]
      if (old?.kind === 'sleep') return next?.kind !== 'sleep'
      return old?.kind === 'wait' && (next?.kind !== 'wait' || next.signal.name !== old.signal.name)
    })
  }

  #checkNode(path: string, { status }: NodeState): void {
    const [old, next] = [this.from.nodes.get(path), this.to.nodes.get(path)]
    if (!next) throw this.#refusal('missing', path, 'has begun, and is not there')
    if (next.kind !== old?.kind)
      throw this.#refusal('other-kind', path, `has begun as a ${String(old?.kind)}, and is a ${next.kind} there`)
    const mayBeUndone = !this.#state.pivoted && status !== 'failed' && status !== 'skipped' && status !== 'compensated'
    if (mayBeUndone && compensates(old) && !compensates(next))
      throw this.#refusal('no-compensation', path, 'may have to be undone, and has no compensation there')
  }

  /** What has begun stands in the same order, for it is undone in the reverse of it. */
  #checkOrder(before: readonly SagaNode[], after: readonly SagaNode[]): void {
    const begun = (nodes: readonly SagaNode[]): SagaNode[] => nodes.filter((node) => touched(this.#state, [node]))
    const [was, is] = [begun(before), begun(after)]
    for (const [i, node] of was.entries()) {
      const same = is[i]
      if (same?.name !== node.name)
        throw this.#refusal('other-order', node.path, 'has begun, and has another place there')
      if (node.kind !== 'parallel' || same.kind !== 'parallel') continue
      for (const branch of node.branches)
        this.#checkOrder(branch.nodes, same.branches.find(({ name }) => name === branch.name)?.nodes ?? [])
    }
  }

  /** Nothing that is still to be done stands before what has begun; what may count as settled is settled. */
  #checkPlace(nodes: readonly SagaNode[], done: MigrationWish['done'], skipped: MigrationWish['skipped']): void {
    const last = nodes.findLastIndex((node) => touched(this.#state, [node]))
    const next = nodes[last]
    if (!next) return
    for (const node of leavesOf(nodes.slice(0, last))) {
      const { path } = node
      if (isDone(this.#state, [node])) continue
      const value = done.get(path) ?? (skipped.has(path) ? null : undefined)
      if (value === undefined || this.#state.nodes.has(path))
        throw this.#refusal('stands-before', path, `is to be done, but stands before '${next.path}', which has begun`)
      const settled: JournalEntry = value === null ? { type: 'skipped', path } : { type: 'done', path, value }
      this.#settled.push({ type: 'started', path }, settled)
    }
    if (next.kind === 'parallel') for (const branch of next.branches) this.#checkPlace(branch.nodes, done, skipped)
  }

  #refusal(reason: MigrationRefusal, path: string, why: string): SagaMigrationError {
    const { id } = this.saga
    const { name, version } = this.to.definition
    return new SagaMigrationError(
      `saga '${id}' does not fit '${name}' version ${version}: '${path}' ${why}`,
      id,
      reason,
      path,
    )
  }
}

const compensates = (node: SagaNode | undefined): boolean =>
  node !== undefined && 'compensate' in node && node.compensate !== undefined

function* leavesOf(nodes: readonly SagaNode[]): Generator<SagaNode> {
  for (const node of nodes) {
    if (node.kind !== 'parallel') yield node
    else for (const branch of node.branches) yield* leavesOf(branch.nodes)
  }
}
