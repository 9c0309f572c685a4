import { checkMethods } from '../kernel/check.js'
import type { CacheManager, Wrapped } from './manager.js'
import type { EntryOptions } from './options.js'

/** What {@link cached} needs to know, and how its entries are kept. */
export interface CachedOptions<A extends readonly unknown[]> extends EntryOptions {
  /** Where results are kept. */
  readonly cache: CacheManager
  /** Names the method in the cache: no two may share one. */
  readonly name: string
  /** The key of a call, for arguments that have none of their own. @defaultValue made of all arguments, by type and content */
  readonly key?: ((...args: A) => string) | undefined
}

/**
 * Caches a method by its arguments: a decorator, for TypeScript 5 and whatever else speaks the standard. `this` is passed on and
 * is no part of the key: all instances share the results. See `CacheManager.wrap`, which does the work; the method has
 * `invalidate` too.
 * @throws InvalidOptionError when an option is of the wrong kind: when the class is defined.
 */
export function cached<A extends readonly unknown[]>({ cache, name, ...options }: CachedOptions<A>) {
  checkMethods('cache', cache, ['wrap'])
  return <This, R>(
    method: (this: This, ...args: A) => Promise<R>,
    _context?: ClassMethodDecoratorContext<This>,
  ): ((this: This, ...args: A) => Promise<R>) & Pick<Wrapped<A, R>, 'invalidate'> =>
    cache.wrap<A, R>(name, method, options)
}
