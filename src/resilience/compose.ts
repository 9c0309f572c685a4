import { checkObject, invalid } from '../kernel/check.js'
import type { FallbackOf, FallbackPolicy } from './fallback.js'
import {
  contextInside,
  policyOf,
  started,
  wrapWith,
  type ExecuteOptions,
  type Operation,
  type Policy,
} from '../kernel/policy.js'

/** What `compose` makes: a `Policy`, or with a fallback among them one that may also end with its value. */
export type Composed<P extends readonly unknown[]> = [FallbackOf<P[number]>] extends [never]
  ? Policy
  : FallbackPolicy<FallbackOf<P[number]>>

/**
 * One policy from several, the first outermost: `compose(retry(), breaker, timeout(1_000))` tries again around the circuit, and
 * each try has its own time. Takes any {@link Policy}, also another `compose(…)`. The operation sees the context of the
 * innermost, which aborts when any of them does; `attempt` is that of the nearest `retry`. Without policies it only runs the operation.
 * @throws InvalidOptionError for what is no policy, `undefined` too: a rule that is left out by mistake should not go unnoticed.
 */
export function compose<P extends readonly (Policy | FallbackPolicy<unknown>)[]>(...policies: P): Composed<P> {
  for (const [i, policy] of policies.entries()) {
    if (typeof checkObject(`policies[${i}]`, policy).execute !== 'function')
      invalid(`policies[${i}]`, 'a policy', policy)
  }
  const [outermost, ...inner] = policies as readonly unknown[] as readonly Policy[] // what comes out is typed by `Composed`
  if (!outermost)
    return policyOf((operation, options) => {
      const context = contextInside(options)
      return context.aborted
        ? Promise.reject(context.reason)
        : started(operation, context).finally(() => context.release())
    })

  // Each policy gets the context of the one around it as its options, so that a signal nobody reads is never made.
  const last = inner.length - 1
  const runInside = <T>(from: number, operation: Operation<T>): Operation<T> =>
    from > last ? operation : (context) => inner[from]!.execute(runInside(from + 1, operation), context)

  const execute = <T>(operation: Operation<T>, options?: ExecuteOptions): Promise<T> =>
    outermost.execute(runInside(0, operation), options)
  return {
    execute,
    attempt: (operation, options) => outermost.attempt(runInside(0, operation), options),
    wrap: (fn) => wrapWith(execute, fn),
  } satisfies Policy
}
