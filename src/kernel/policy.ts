import { isRejectedError, withoutStack, type RejectedError } from './errors.js'
import { onAbort } from './signal.js'

/** What a user's function is given when a policy runs it. */
export interface OperationContext {
  /** Aborts when the work should stop: the caller's signal, a timeout, a lost hedge. Made when first read. */
  readonly signal: AbortSignal
  /** Which try this is, from 1. */
  readonly attempt: number
}

/** A user's function under a policy. May return a plain value or throw at once: both count as if it were async. */
export type Operation<T> = (context: OperationContext) => T | PromiseLike<T>

/** How one call is made. */
export interface ExecuteOptions {
  /**
   * Aborting it before the operation starts, while the call waits for its turn or between tries ends the call at once with
   * `signal.reason`. A running operation learns of it from its context and decides how it ends.
   */
  readonly signal?: AbortSignal | undefined
}

/** How a call ended that does not throw for refusals. */
export type Attempt<T> = AttemptDone<T> | AttemptRefused

/** The function ran. */
export interface AttemptDone<T> {
  /** It was not refused. */
  readonly ok: true
  /** What it returned. */
  readonly value: T
}

/** The function did not run. */
export interface AttemptRefused {
  /** It was refused. */
  readonly ok: false
  /** Why, and when another try may pass. */
  readonly error: RejectedError
}

/** What `attempt` returns for a refusal. An error costs more than the whole refusal: it is made when it is read. */
export class Refusal {
  readonly ok = false
  #error: RejectedError | undefined
  readonly #make: () => RejectedError

  constructor(make: () => RejectedError) {
    this.#make = make
  }

  get error(): RejectedError {
    return (this.#error ??= withoutStack(this.#make))
  }
}

/** A rule around a call. Policies are combined with `compose` (`holdfast/resilience`). */
export interface Policy {
  /** Runs `operation` under this policy. What it throws comes out as the same object. */
  execute<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T>
  /** As {@link execute}, but a refusal (`RejectedError`: the function did not run) is returned, not thrown. */
  attempt<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<Attempt<T>>
  /** `fn` under this policy. `this` is passed on. */
  wrap<A extends unknown[], T>(fn: (...args: A) => T | PromiseLike<T>): (...args: A) => Promise<T>
}

/** The `execute` of a policy, from which the rest follows. */
export type Execute = Policy['execute']

/** A policy without state of its own, from its `execute`. */
export function policyOf(execute: Execute): Policy {
  return {
    execute,
    attempt: (operation, options) => attemptOf(execute(operation, options)),
    wrap: (fn) => wrapWith(execute, fn),
  }
}

/** Turns a rejection by a `RejectedError` into a value. */
export async function attemptOf<T>(result: Promise<T>): Promise<Attempt<T>> {
  try {
    return { ok: true, value: await result }
  } catch (error) {
    if (isRejectedError(error)) return { ok: false, error }
    throw error
  }
}

/** Starts `operation`; what it throws at once, or returns as a plain value, is in the promise too. */
export function started<T>(operation: Operation<T>, context: OperationContext): Promise<Awaited<T>> {
  try {
    return Promise.resolve(operation(context))
  } catch (error) {
    return Promise.reject(error)
  }
}

/** `fn` under `execute`, with its own `this` and arguments. */
export function wrapWith<A extends unknown[], T, R>(
  execute: (operation: Operation<T>) => Promise<R>,
  fn: (...args: A) => T | PromiseLike<T>,
): (...args: A) => Promise<R> {
  return function (this: unknown, ...args: A) {
    return execute(() => fn.apply(this, args))
  }
}

/**
 * The context of one run of an operation, and the options of the policy inside it. Its signal is made when somebody reads
 * it, because making one costs more than all the rest of a call; the library itself asks {@link aborted} and
 * {@link onAbort}, which need none. Who makes a context calls {@link release} when the run has settled.
 */
export class CallContext implements OperationContext {
  #parent: AbortSignal | CallContext | undefined
  #ending: Ending | undefined // made by the first that listens, reads the signal or aborts: most calls see none of it

  readonly #abortable: boolean

  /**
   * @param parent what the caller may abort: this run's signal follows it, and never the other way round
   * @param abortable whether its maker may call {@link abort}; if not, those inside it need not listen for that
   */
  constructor(
    parent: AbortSignal | CallContext | undefined,
    readonly attempt: number = 1,
    abortable: boolean = true,
  ) {
    this.#parent = parent
    this.#abortable = abortable
  }

  /** A signal of this run alone: listeners that an operation leaves on it never pile up on the caller's. */
  get signal(): AbortSignal {
    const ending = this.#end()
    if (!ending.controller) {
      ending.controller = new AbortController()
      if (this.aborted) ending.controller.abort(this.reason)
      else this.#link(ending)
    }
    return ending.controller.signal
  }

  /** Whether this run should stop. Makes no signal. */
  get aborted(): boolean {
    return this.#ending?.came || (this.#parent !== undefined && this.#parent.aborted)
  }

  /** Why this run should stop: what came first. */
  get reason(): unknown {
    return this.#ending?.came ? this.#ending.reason : this.#parent?.reason
  }

  /** Whether anything around this run can still abort it. */
  get followsOthers(): boolean {
    const parent = this.#parent
    return parent instanceof CallContext ? parent.#abortable || parent.followsOthers : parent !== undefined
  }

  /** Calls `fn` once when this run should stop (not if it should already). Makes no signal. @returns forgets `fn` */
  onAbort(fn: () => void): () => void {
    const ending = this.#end()
    const waiting = (ending.waiting ??= new Set())
    const entry = (): void => fn() // an entry of its own, so that the same function may wait twice
    waiting.add(entry)
    this.#link(ending)
    return () => void waiting.delete(entry)
  }

  /** Aborts this run alone. The first reason stays. */
  abort(reason: unknown): void {
    if (!this.aborted) this.#end().come(reason)
  }

  /** Lets go of the parent for good. */
  release(): void {
    this.#ending?.release()
    if (!this.aborted) this.#parent = undefined
  }

  #end(): Ending {
    return (this.#ending ??= new Ending())
  }

  #link(ending: Ending): void {
    const parent = this.#parent
    if (!parent || ending.unlink || !this.followsOthers) return
    const come = (): void => ending.come(parent.reason)
    ending.unlink = parent instanceof CallContext ? parent.onAbort(come) : onAbort(parent, come)
  }
}

/** What is to happen when a run should stop, and whether it has come to that. */
class Ending {
  came = false
  reason: unknown
  controller: AbortController | undefined
  waiting: Set<() => void> | undefined
  unlink: (() => void) | undefined

  release(): void {
    this.unlink?.()
    this.unlink = nothing
  }

  come(reason: unknown): void {
    this.came = true
    this.reason = reason
    this.release()
    this.controller?.abort(reason)
    const { waiting } = this
    this.waiting = undefined
    for (const fn of waiting ?? []) fn()
  }
}

const nothing = (): void => {}

/**
 * The context for a call made with `options`: the one of the policy around, if there is one (whoever made it releases it),
 * else a new one. Neither is for the policy to abort.
 */
export function contextOf(options: ExecuteOptions | undefined): CallContext {
  return options instanceof CallContext ? options : contextFrom(options, undefined, false)
}

/** A new context that `options` can abort, and the policy that makes it. @param attempt stands there; else that of the policy around, else 1 */
export function contextInside(options: ExecuteOptions | undefined, attempt?: number): CallContext {
  return contextFrom(options, attempt, true)
}

function contextFrom(
  options: ExecuteOptions | undefined,
  attempt: number | undefined,
  abortable: boolean,
): CallContext {
  if (!options) return new CallContext(undefined, attempt, abortable)
  const { attempt: inherited } = options as Partial<OperationContext>
  // A context of another copy of this package is read as plain options: slower, never wrong. `signal: null` is what `fetch` takes too.
  const parent = options instanceof CallContext ? options : (options.signal ?? undefined)
  return new CallContext(parent, attempt ?? inherited, abortable)
}
