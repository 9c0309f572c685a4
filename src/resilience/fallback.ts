import { checkFunction, checkObject } from '../kernel/check.js'
import { familyOf } from '../kernel/errors.js'
import { attemptOf, contextOf, wrapWith, type Attempt, type ExecuteOptions, type Operation } from '../kernel/policy.js'

/** When to fall back. */
export interface FallbackOptions {
  /**
   * Whether `error` is replaced. What it throws comes out in its place.
   * @defaultValue every error but mistakes in the caller's code (`InvalidOptionError` and its family)
   */
  readonly fallbackOn?: ((error: unknown) => boolean) | undefined
}

/** A policy whose calls may end with a value of its own, of type `F`. `compose` takes it like the others. */
export interface FallbackPolicy<F> {
  /** Runs `operation`; the result is its own, or the fallback's. */
  execute<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T | F>
  /** As {@link execute}. Refusals fall back too, so that hardly any comes out. */
  attempt<T>(operation: Operation<T>, options?: ExecuteOptions): Promise<Attempt<T | F>>
  /** `fn` under this policy. `this` is passed on. */
  wrap<A extends unknown[], T>(fn: (...args: A) => T | PromiseLike<T>): (...args: A) => Promise<T | F>
  /** For the compiler alone: never there. */
  readonly '~fallback'?: { readonly value: F }
}

/** What calls under policy `P` may end with, besides the operation's own result. `never`: nothing. */
export type FallbackOf<P> = P extends unknown // for each of a union
  ? '~fallback' extends keyof P
    ? P extends { readonly '~fallback'?: { readonly value: infer F } }
      ? F
      : never
    : never
  : never

/**
 * Ends calls that fail with a value instead: the last one known, an empty list, "try later". Stands outermost, so that it sees
 * refusals, timeouts and the last error of a retry. A call that its caller has aborted ends with the reason, and never falls back.
 * @param value makes the value, or a promise of it, from the error; what it throws comes out
 * @throws InvalidOptionError when an argument is of the wrong kind.
 */
export function fallback<F>(
  value: (error: unknown) => F | PromiseLike<F>,
  options: FallbackOptions = {},
): FallbackPolicy<F> {
  checkFunction('value', value)
  const { fallbackOn = mayBeReplaced } = checkObject('options', options)
  checkFunction('fallbackOn', fallbackOn)

  const execute = async <T>(operation: Operation<T>, call?: ExecuteOptions): Promise<T | F> => {
    const context = contextOf(call)
    try {
      if (context.aborted) throw context.reason
      return await operation(context)
    } catch (error) {
      if (context.aborted || !fallbackOn(error)) throw error
      return await value(error)
    } finally {
      if (context !== call) context.release()
    }
  }
  return {
    execute,
    attempt: (operation, call) => attemptOf(execute(operation, call)),
    wrap: (fn) => wrapWith(execute, fn),
  }
}

const mayBeReplaced = (error: unknown): boolean => familyOf(error) !== 'invalid'
