import { isRejectedError, type RejectedError } from './errors.js'
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
  /** Aborting it ends the call with `signal.reason`, also while it waits for its turn or between tries. */
  readonly signal?: AbortSignal | undefined
}

/** How a call ended that does not throw for refusals. */
export type Attempt<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: RejectedError }

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

/** `fn` under `execute`, with its own `this` and arguments. */
export function wrapWith<A extends unknown[], T>(
  execute: Execute,
  fn: (...args: A) => T | PromiseLike<T>,
): (...args: A) => Promise<T> {
  return function (this: unknown, ...args: A) {
    return execute<T>(() => fn.apply(this, args))
  }
}

/**
 * The context of one run of an operation. Its signal is made when somebody reads it, because making one costs more than all
 * the rest of a call. Without a {@link abort} of its own, the caller's signal is handed through as it is.
 */
export class CallContext implements OperationContext {
  #controller: AbortController | undefined
  #forget: (() => void) | undefined
  #aborted = false
  #reason: unknown

  /**
   * @param parent the caller's signal
   * @param own whether this run can be aborted by the policy alone, so that it needs a signal of its own
   */
  constructor(
    readonly parent: AbortSignal | undefined,
    readonly attempt: number = 1,
    private readonly own: boolean = false,
  ) {}

  get signal(): AbortSignal {
    if (this.parent && !this.own) return this.parent
    if (!this.#controller) {
      const controller = (this.#controller = new AbortController())
      if (this.#aborted) controller.abort(this.#reason)
      else if (this.parent?.aborted) controller.abort(this.parent.reason)
      else if (this.parent) {
        const parent = this.parent
        this.#forget = onAbort(parent, () => controller.abort(parent.reason))
      }
    }
    return this.#controller.signal
  }

  /** Aborts this run's signal. Only with `own`; the first reason stays. */
  abort(reason: unknown): void {
    if (this.#aborted) return
    this.#aborted = true
    this.#reason = reason
    this.#controller?.abort(reason)
    this.release()
  }

  /** Lets go of the caller's signal: to be called when the run has settled. */
  release(): void {
    this.#forget?.()
    this.#forget = undefined
  }
}
