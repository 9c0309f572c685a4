import { jsonCodec } from '../kernel/codec.js'
import type { SagaBranch, SagaNode } from './definition.js'
import type { SagaState } from './journal.js'
import { touched } from './structure.js'

/**
 * What nodes gave, by name. Each value is read from its stored text when it is first looked at, into a copy of the reader's
 * own: a body can't change what others see, and sees the same before and after a crash.
 */
export function resultsOf(state: SagaState, nodes: Iterable<SagaNode>): Record<string, unknown> {
  const results: Record<string, unknown> = {}
  for (const node of nodes) {
    if (node.kind === 'parallel') {
      if (node.branches.some((branch) => touched(state, branch.nodes)))
        put(results, node.name, () => branchResults(state, node.branches, resultsOf))
    } else if (node.kind !== 'sleep') {
      const at = state.nodes.get(node.path)
      const text = at?.value
      if (text !== undefined) put(results, node.name, () => jsonCodec.decode(text))
      else if (at?.status === 'skipped') put(results, node.name, () => undefined)
    }
  }
  return results
}

/** As {@link resultsOf}, with every value read already. */
export function plainResultsOf(state: SagaState, nodes: Iterable<SagaNode>): Record<string, unknown> {
  const results = resultsOf(state, nodes)
  for (const node of nodes) {
    if (node.kind === 'parallel' && Object.hasOwn(results, node.name))
      put(results, node.name, () => branchResults(state, node.branches, plainResultsOf))
    void results[node.name]
  }
  return results
}

function branchResults(
  state: SagaState,
  branches: readonly SagaBranch[],
  read: typeof resultsOf,
): Record<string, unknown> {
  const results: Record<string, unknown> = {}
  for (const { name, nodes } of branches) put(results, name, () => read(state, nodes))
  for (const { name } of branches) void results[name]
  return results
}

/** Also under `__proto__`, which an assignment would not take for a name. */
function put(target: object, name: string, read: () => unknown): void {
  Object.defineProperty(target, name, {
    enumerable: true,
    configurable: true,
    get() {
      const value = read()
      Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true })
      return value
    },
  })
}

/** For each node the nodes whose results its body sees: those before it in its own scope and in the scopes around. */
export function visibleNodes(nodes: readonly SagaNode[]): Map<string, readonly SagaNode[]> {
  const visible = new Map<string, readonly SagaNode[]>()
  const walk = (scope: readonly SagaNode[], outer: readonly SagaNode[]): void => {
    for (const [i, node] of scope.entries()) {
      const seen = [...outer, ...scope.slice(0, i)]
      visible.set(node.path, seen)
      if (node.kind === 'parallel') for (const branch of node.branches) walk(branch.nodes, seen)
    }
  }
  walk(nodes, [])
  return visible
}
