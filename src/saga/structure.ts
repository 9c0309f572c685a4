import type { SagaNode } from './definition.js'
import type { SagaState } from './journal.js'

/** Whether every node of a sequence is done or skipped. */
export function isDone(state: SagaState, nodes: readonly SagaNode[]): boolean {
  return nodes.every((node) => {
    if (node.kind === 'parallel') return node.branches.every((branch) => isDone(state, branch.nodes))
    const status = state.nodes.get(node.path)?.status
    return status === 'done' || status === 'skipped'
  })
}

/** Whether any node of a sequence has begun. */
export function touched(state: SagaState, nodes: readonly SagaNode[]): boolean {
  return nodes.some((node) =>
    node.kind === 'parallel' ? node.branches.some((b) => touched(state, b.nodes)) : state.nodes.has(node.path),
  )
}
