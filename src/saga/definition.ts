import { createHash } from 'node:crypto'
import type { StandardSchema } from '../kernel/schema.js'
import type { Backoff } from '../kernel/backoff.js'
import type { CompensateBody, RunBody } from './body.js'
import type { SagaSignal } from './signal.js'

/** How a body that failed is tried again. */
export interface SagaRetry {
  /** How many failures in all are borne before it counts as failed for good, the last included. Crashes are not failures. Integer ≥ 1. */
  readonly attempts: number
  /** Wait before the next attempt. @defaultValue `exponential({ initialMs: 200 })` */
  readonly backoff?: Backoff | undefined
  /** Whether this failure is worth another attempt. @defaultValue every one is */
  readonly when?: ((error: unknown) => boolean) | undefined
}

/** {@link SagaRetry} with its defaults filled in. */
export type RetryPlan = { readonly [K in keyof SagaRetry]-?: NonNullable<SagaRetry[K]> }

/** A step, a step in a transaction, or the pivot. */
export interface StepNode {
  /** Which kind of node it is. */
  readonly kind: 'step' | 'transaction' | 'pivot'
  /** As declared. */
  readonly name: string
  /** Where it stands, as a JSON Pointer of names. */
  readonly path: string
  /** What it does. */
  readonly run: RunBody
  /** What undoes it; `undefined`: nothing has to. */
  readonly compensate: CompensateBody | undefined
  /** How `run` is tried again. */
  readonly retry: RetryPlan
  /** How `compensate` is tried again. */
  readonly compensateRetry: RetryPlan
  /** Milliseconds one attempt may take; `Infinity`: any. */
  readonly timeoutMs: number
  /** Milliseconds one attempt to compensate may take; `Infinity`: any. */
  readonly compensateTimeoutMs: number
  /** Whether this error leaves it open whether the effect happened. */
  readonly uncertain: (error: unknown) => boolean
}

/** Branches side by side. */
export interface ParallelNode {
  /** Which kind of node it is. */
  readonly kind: 'parallel'
  /** As declared. */
  readonly name: string
  /** Where it stands, as a JSON Pointer of names. */
  readonly path: string
  /** In the order of their declaration; at least one. */
  readonly branches: readonly SagaBranch[]
  /** How many branches may be under way at once; `Infinity`: all. */
  readonly limit: number
}

/** One branch of a {@link ParallelNode}. */
export interface SagaBranch {
  /** As declared. */
  readonly name: string
  /** Where it stands, as a JSON Pointer of names. */
  readonly path: string
  /** In sequence. */
  readonly nodes: readonly SagaNode[]
}

/** A wait for a signal. */
export interface WaitNode {
  /** Which kind of node it is. */
  readonly kind: 'wait'
  /** As declared. */
  readonly name: string
  /** Where it stands, as a JSON Pointer of names. */
  readonly path: string
  /** What is waited for. */
  readonly signal: SagaSignal
  /** Milliseconds until it fails; `Infinity`: never. */
  readonly timeoutMs: number
}

/** A pause. */
export interface SleepNode {
  /** Which kind of node it is. */
  readonly kind: 'sleep'
  /** As declared. */
  readonly name: string
  /** Where it stands, as a JSON Pointer of names. */
  readonly path: string
  /** Milliseconds. */
  readonly ms: number
}

/** One node of a definition. Its path is its identity in the journal. */
export type SagaNode = StepNode | ParallelNode | WaitNode | SleepNode

declare const results: unique symbol

/** A saga as declared: a value, made by `saga(…).….build()`. The same one may be given to many orchestrators. */
export interface SagaDefinition<Input = unknown, Results = unknown> {
  /** What stored sagas are matched by, together with the version. */
  readonly name: string
  /** Integer ≥ 1. */
  readonly version: number
  /** Milliseconds from its beginning after which it compensates; `Infinity`: none. */
  readonly deadlineMs: number
  /** Validator of the input; `undefined`: none. */
  readonly input: StandardSchema<Input> | undefined
  /** Whether earlier compensations wait when one fails for good. */
  readonly onCompensationFailure: 'park' | 'continue'
  /** The top level, in sequence; at least one. */
  readonly nodes: readonly SagaNode[]
  /**
   * Names, kinds, order and nesting of all nodes, and which of them begin together with the saga, as 16 hexadecimal digits. Bodies, retries, times
   * and limits do not count, but for a limit that holds back branches of a block that comes first, and whether a pause that comes first is one of 0 ms.
   */
  readonly hash: string
  /** @internal carries `Results` */
  readonly [results]?: Results
}

/** `name` as part of a path, so that no name can look like two. Source: JSON Pointer, RFC 6901 §3. */
export const escapeName = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

/**
 * The hash of a structure: see {@link SagaDefinition.hash}.
 * @param begun paths of what begins together with the saga. It is recorded nowhere: after a crash it must follow from the definition.
 */
export function structureHash(nodes: readonly SagaNode[], begun: Iterable<string>): string {
  return createHash('sha256')
    .update(JSON.stringify([nodes.map(shapeOf), [...begun].toSorted()]))
    .digest('hex')
    .slice(0, 16)
}

function shapeOf(node: SagaNode): unknown {
  switch (node.kind) {
    case 'parallel': {
      const branches = node.branches.map((b) => [b.name, b.nodes.map(shapeOf)] as const)
      return ['parallel', node.name, branches.toSorted(([a], [b]) => (a < b ? -1 : 1))] // their order means nothing
    }
    case 'wait':
      return ['wait', node.name, node.signal.name]
    case 'step':
    case 'transaction':
    case 'pivot':
    case 'sleep':
      return [node.kind, node.name]
  }
}

/** Every node below `nodes`, parallel blocks included, from the top. */
export function* everyNode(nodes: readonly SagaNode[]): Generator<SagaNode> {
  for (const node of nodes) {
    yield node
    if (node.kind === 'parallel') for (const branch of node.branches) yield* everyNode(branch.nodes)
  }
}
