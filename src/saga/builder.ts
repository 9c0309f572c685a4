import {
  checkFunction,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  checkPositive,
  checkString,
  invalid,
} from '../kernel/check.js'
import { isUncertainError } from '../kernel/errors.js'
import { checkSchema, type StandardSchema } from '../kernel/schema.js'
import { exponential } from '../resilience/backoff.js'
import type { CompensateBody, CompensateContext, InTransaction, RunBody, RunContext } from './body.js'
import {
  escapeName,
  structureHash,
  type RetryPlan,
  type SagaDefinition,
  type SagaNode,
  type SagaRetry,
  type StepNode,
} from './definition.js'
import { SagaMachine } from './machine.js'
import type { SagaSignal } from './signal.js'

/** What {@link saga} is told besides the name. */
export interface SagaOptions<Input> {
  /** Integer ≥ 1. A changed structure needs another. */
  readonly version: number
  /** Milliseconds from its beginning after which the saga compensates, unless its pivot is done or under way. > 0. @defaultValue none */
  readonly deadlineMs?: number | undefined
  /** Validator of the input, applied by `run`; what it gives back is what is stored. @defaultValue none */
  readonly input?: StandardSchema<Input> | undefined
  /**
   * What follows when a compensation fails for good. `'park'`: earlier ones wait for an operator. `'continue'`: the others are still
   * compensated, then the saga is parked. @defaultValue 'park'
   */
  readonly onCompensationFailure?: 'park' | 'continue' | undefined
}

/** The one step that decides: before it the saga can be undone, after it only finished. */
export interface PivotOptions<Input, Results, Result> {
  /**
   * Does the work. May run more than once: pass `key` on to whatever it calls. What it gives and emits may be 16,777,216 characters of JSON
   * together: with more it fails for good, and its outcome is unknown.
   */
  readonly run: (context: RunContext<Input, Results>) => Result | PromiseLike<Result>
  /** @defaultValue one attempt */
  readonly retry?: SagaRetry | undefined
  /** Milliseconds one attempt of `run` may take; then its outcome is unknown. > 0. @defaultValue none */
  readonly timeoutMs?: number | undefined
  /**
   * Whether what `run` threw leaves it open whether the effect happened.
   * @defaultValue errors of the `UncertainError` family: `TimeoutError`, `StoreError`, …
   */
  readonly uncertain?: ((error: unknown) => boolean) | undefined
}

/** A step that can be undone. */
export interface StepOptions<Input, Results, Result> extends PivotOptions<Input, Results, Result> {
  /** Undoes the work, also when it is unknown whether it happened. May run more than once. @defaultValue nothing to undo */
  readonly compensate?: ((context: CompensateContext<Input, Results, NoInfer<Result>>) => unknown) | undefined
  /** @defaultValue `{ attempts: 5, backoff: exponential({ initialMs: 200 }) }` */
  readonly compensateRetry?: SagaRetry | undefined
  /** Milliseconds one attempt of `compensate` may take; then it counts as failed. > 0. @defaultValue none */
  readonly compensateTimeoutMs?: number | undefined
}

/**
 * A step whose work is done in the database that the saga is stored in, in one transaction with the record of its end: exactly
 * once. Of an attempt that fails, takes too long or dies with its process nothing is left, so its outcome is never unknown.
 */
export interface TransactionOptions<Input, Results, Result> {
  /**
   * Does the work, through `tx` alone. Other news of the saga waits for its end (a deadline or cancel aborts `signal`), and others
   * wait for its locks: keep it short, and give it a `timeoutMs`.
   */
  readonly run: (context: RunContext<Input, Results> & InTransaction) => Result | PromiseLike<Result>
  /** Undoes the work, in a transaction as well. @defaultValue nothing to undo */
  readonly compensate?:
    | ((context: CompensateContext<Input, Results, NoInfer<Result>> & InTransaction) => unknown)
    | undefined
  /** @defaultValue one attempt */
  readonly retry?: SagaRetry | undefined
  /** Milliseconds one attempt of `run` may take; then it is rolled back. > 0. @defaultValue none */
  readonly timeoutMs?: number | undefined
  /** @defaultValue `{ attempts: 5, backoff: exponential({ initialMs: 200 }) }` */
  readonly compensateRetry?: SagaRetry | undefined
  /** Milliseconds one attempt of `compensate` may take; then it is rolled back and counts as failed. > 0. @defaultValue none */
  readonly compensateTimeoutMs?: number | undefined
}

/** `N` unless a node in sight has that name already. */
export type FreshName<N extends string, Taken> = string extends N ? N : N extends keyof Taken ? never : N

/** A definition without its nodes. */
type Head<Input> = Omit<SagaDefinition<Input, never>, 'nodes' | 'hash'>

/** Bounds of a parallel block. */
export interface ParallelOptions {
  /**
   * How many branches may be under way at once. Integer ≥ 1. In a block that comes first in its saga, one that holds branches back is
   * part of the structure. @defaultValue all
   */
  readonly limit?: number | undefined
}

/** Bounds of a wait. */
export interface WaitOptions {
  /** Milliseconds after which the wait fails for good, as a step does. > 0. @defaultValue none */
  readonly timeoutMs?: number | undefined
}

/** What a branch gives: the results of its own nodes. */
export type BranchResults<B> = B extends SagaBuilder<infer _Input, infer _Outer, infer Own, 'branch'> ? Own : never

/** Branches as they are declared: each takes an empty branch and adds nodes to it. */
export type Branches<Input, Seen> = Record<
  string,
  (branch: SagaBuilder<Input, Seen, unknown, 'branch'>) => SagaBuilder<Input, Seen, unknown, 'branch'>
>

/** `Own` with the result of one more node. */
type With<Own, N extends string, Result> = Own & { readonly [K in N]: Result }

/**
 * Nodes in sequence: a whole saga, or one branch of a parallel block. Each call gives a new builder and leaves the old one as it is.
 * Every method but `build` throws InvalidOptionError when an option is wrong or the name is taken in this or an outer scope.
 */
export class SagaBuilder<Input, Outer, Own, Where extends 'saga' | 'branch' = 'saga'> {
  /** @internal carries the types */
  declare readonly types?: { input: Input; outer: Outer; own: Own; where: Where }

  /** @internal */
  constructor(
    private readonly options: Head<Input>,
    /** @internal */ readonly nodes: readonly SagaNode[],
    private readonly at: readonly string[],
    private readonly taken: ReadonlySet<string>,
  ) {}

  /** Adds a step. Its result is what `run` gives. */
  step<N extends string, Result>(
    name: FreshName<N, Outer & Own>,
    options: StepOptions<Input, Outer & Own, Result>,
  ): SagaBuilder<Input, Outer, With<Own, N, Awaited<Result>>, Where> {
    return this.#with(stepNode('step', name, this.#pathOf(name), options))
  }

  /** Adds a step that commits together with the record of its end. Needs a store with transactions: `PostgresSagaStore`, `MemorySagaStore`. */
  transaction<N extends string, Result>(
    name: FreshName<N, Outer & Own>,
    options: TransactionOptions<Input, Outer & Own, Result>,
  ): SagaBuilder<Input, Outer, With<Own, N, Awaited<Result>>, Where> {
    return this.#with(stepNode('transaction', name, this.#pathOf(name), options))
  }

  /**
   * Adds branches that run side by side. Their results stand in one object, by branch. When one fails for good, the others are
   * stopped, and each is undone in reverse.
   * @throws InvalidOptionError also when there is no branch.
   */
  parallel<N extends string, B extends Branches<Input, Outer & Own>>(
    name: FreshName<N, Outer & Own>,
    branches: B,
    options: ParallelOptions = {},
  ): SagaBuilder<Input, Outer, With<Own, N, { readonly [K in keyof B]: BranchResults<ReturnType<B[K]>> }>, Where> {
    const path = this.#pathOf(name)
    const built = Object.entries(checkObject('branches', branches)).map(([branch, build]) => {
      const at = [...this.at, name, checkString('branch', branch)]
      checkFunction(`branches.${branch}`, build)
      const empty = new SagaBuilder<Input, Outer & Own, unknown, 'branch'>(this.options, [], at, this.taken)
      const { nodes } = checkObject(`branches.${branch} result`, build(empty))
      // a branch that did not go on from the one it was given would have paths that belong elsewhere
      if (!nodes?.every((node) => node.path.startsWith(`${pathOf(at)}/`)))
        invalid(`branches.${branch}`, 'a function that adds nodes to the branch it is given', build)
      return { name: branch, path: pathOf(at), nodes }
    })
    if (built.length === 0) invalid('branches', 'at least one branch', branches)
    const { limit: most } = checkObject('options', options)
    const limit = most === undefined ? Infinity : checkInteger('limit', most, 1)
    return this.#with({ kind: 'parallel', name, path, branches: built, limit })
  }

  /** Waits for a signal, which may have come before. Its result is the payload. No process is held meanwhile. */
  waitFor<N extends string, Payload>(
    name: FreshName<N, Outer & Own>,
    signal: SagaSignal<Payload>,
    options: WaitOptions = {},
  ): SagaBuilder<Input, Outer, With<Own, N, Payload>, Where> {
    checkString('signal.name', checkObject('signal', signal).name)
    const timeoutMs = limitOf('timeoutMs', checkObject('options', options).timeoutMs)
    return this.#with({ kind: 'wait', name, path: this.#pathOf(name), signal, timeoutMs })
  }

  /** Pauses for `ms` milliseconds, ≥ 0. Has no result. */
  sleep<N extends string>(name: FreshName<N, Outer & Own>, ms: number): this {
    return this.#with({ kind: 'sleep', name, path: this.#pathOf(name), ms: checkNumber('ms', ms, 0, MAX_MS) })
  }

  /**
   * Adds the step after which the saga only goes forward: what fails later waits for an operator. Not in a branch, once per saga.
   * Its own outcome being unknown after the last attempt also waits for an operator.
   */
  pivot<N extends string, Result>(
    this: SagaBuilder<Input, Outer, Own>,
    name: FreshName<N, Outer & Own>,
    options: PivotOptions<Input, Outer & Own, Result>,
  ): SagaBuilder<Input, Outer, With<Own, N, Awaited<Result>>> {
    if (this.at.length > 0) invalid('pivot', 'a place outside of parallel branches', this.at.join('/'))
    if (this.nodes.some((n) => n.kind === 'pivot')) invalid('pivot', 'one pivot per saga', name)
    return this.#with(stepNode('pivot', name, this.#pathOf(name), options))
  }

  /** The finished definition. @throws InvalidOptionError when it has no node. */
  build(this: SagaBuilder<Input, Outer, Own>): SagaDefinition<Input, Own> {
    if (this.nodes.length === 0) invalid(`saga ${this.options.name}`, 'at least one node', 'none')
    const definition = { ...this.options, nodes: this.nodes, hash: '' }
    const begun = new SagaMachine(definition).begin(0, null).nodes.keys()
    return { ...definition, hash: structureHash(this.nodes, begun) }
  }

  #pathOf(name: string): string {
    checkString('name', name)
    if (this.taken.has(name)) invalid('name', 'a name that no node in sight has', name)
    return pathOf([...this.at, name])
  }

  /** A copy with one more node; what it is called on gives it its type. */
  #with<Next>(node: SagaNode): Next {
    const taken = new Set(this.taken).add(node.name)
    return new SagaBuilder<Input, Outer, Own, Where>(this.options, [...this.nodes, node], this.at, taken) as Next
  }
}

/**
 * Begins the declaration of a saga: `saga<{ orderId: string }>('place-order', { version: 1 }).step(…).build()`.
 * @param name not empty; with the version it is what stored sagas are matched by
 * @throws InvalidOptionError when an option is wrong.
 */
export function saga<Input>(name: string, options: SagaOptions<Input>): SagaBuilder<Input, unknown, unknown> {
  const { version, deadlineMs, input, onCompensationFailure = 'park' } = checkObject('options', options)
  const checked = {
    name: checkString('name', name),
    version: checkInteger('version', version, 1),
    deadlineMs: limitOf('deadlineMs', deadlineMs),
    input: input === undefined ? undefined : checkSchema('input', input),
    onCompensationFailure: checkOneOf('onCompensationFailure', onCompensationFailure, ['park', 'continue']),
  }
  return new SagaBuilder(checked, [], [], new Set())
}

/** Longest time that may be asked for: a hundred thousand days, so that every sum is still a date. */
const MAX_MS = 8.64e12

const pathOf = (names: readonly string[]): string => names.map(escapeName).join('/')

const limitOf = (option: string, ms: number | undefined): number =>
  ms === undefined || ms === Infinity ? Infinity : Math.min(checkPositive(option, ms), MAX_MS)

const never = (): boolean => false

const DEFAULT_BACKOFF = exponential({ initialMs: 200 })

function retryPlan(option: string, retry: SagaRetry): RetryPlan {
  const { attempts, backoff = DEFAULT_BACKOFF, when = () => true } = checkObject(option, retry)
  return {
    attempts: checkInteger(`${option}.attempts`, attempts, 1),
    backoff: checkFunction(`${option}.backoff`, backoff),
    when: checkFunction(`${option}.when`, when),
  }
}

function stepNode<Input, Results, Result>(
  kind: StepNode['kind'],
  name: string,
  path: string,
  options: StepOptions<Input, Results, Result> | TransactionOptions<Input, Results, Result>,
): StepNode {
  const {
    run,
    compensate,
    retry = { attempts: 1 },
    compensateRetry = { attempts: 5 },
    uncertain = isUncertainError,
    timeoutMs,
    compensateTimeoutMs,
  } = checkObject('options', options) as StepOptions<Input, Results, Result>
  if (compensate !== undefined) checkFunction('compensate', compensate)
  if (kind === 'pivot' && compensate !== undefined) invalid('compensate', 'none on a pivot', compensate)
  return {
    kind,
    name,
    path,
    run: checkFunction('run', run) as RunBody, // the builder has checked what it is given
    compensate: compensate as CompensateBody | undefined,
    retry: retryPlan('retry', retry),
    compensateRetry: retryPlan('compensateRetry', compensateRetry),
    timeoutMs: limitOf('timeoutMs', timeoutMs),
    compensateTimeoutMs: limitOf('compensateTimeoutMs', compensateTimeoutMs),
    uncertain: checkFunction('uncertain', kind === 'transaction' ? never : uncertain),
  }
}
