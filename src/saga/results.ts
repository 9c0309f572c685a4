import { jsonCodec } from '../kernel/codec.js'
import type { SagaBranch, SagaNode } from './definition.js'
import type { SagaState } from './journal.js'
import { isDone, touched } from './structure.js'

/**
 * What nodes gave, by name. Each value is read from its stored text when it is first looked at, into a copy of the reader's
 * own: a body can't change what others see, and sees the same before and after a crash.
 */
export const resultsOf = (state: SagaState, nodes: readonly SagaNode[]): Record<string, unknown> =>
  collect(state, nodes, putLazily)

/** As {@link resultsOf}, with every value read already. */
export const plainResultsOf = (state: SagaState, nodes: readonly SagaNode[]): Record<string, unknown> =>
  collect(state, nodes, putNow)

type Put = (target: Record<string, unknown>, name: string, read: () => unknown) => void

function collect(state: SagaState, nodes: readonly SagaNode[], put: Put): Record<string, unknown> {
  const results: Record<string, unknown> = {}
  for (const node of nodes) {
    if (node.kind === 'parallel') {
      // one that has nothing to do is done by itself
      if (touched(state, [node]) || isDone(state, [node]))
        put(results, node.name, () => ofBranches(state, node.branches, put))
    } else if (node.kind !== 'sleep') {
      const at = state.nodes.get(node.path)
      const text = at?.value
      if (text !== undefined) put(results, node.name, () => jsonCodec.decode(text))
      else if (at?.status === 'skipped') put(results, node.name, () => undefined)
    }
  }
  return results
}

function ofBranches(state: SagaState, branches: readonly SagaBranch[], put: Put): Record<string, unknown> {
  const results: Record<string, unknown> = {}
  for (const { name, nodes } of branches) putNow(results, name, () => collect(state, nodes, put))
  return results
}

const putNow: Put = (target, name, read) => {
  const value = read()
  // an assignment would not take this one for a name
  if (name === '__proto__') putValue(target, name, value)
  else target[name] = value
}

const putValue = (target: object, name: string, value: unknown): void => {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true })
}

const putLazily: Put = (target, name, read) => {
  Object.defineProperty(target, name, {
    enumerable: true,
    configurable: true,
    get() {
      const value = read()
      putValue(target, name, value)
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
