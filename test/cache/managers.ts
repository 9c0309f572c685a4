import { CacheManager, MemoryCacheStore, type CacheManagerOptions } from '../../src/cache/index.js'
import { ManualClock } from '../../src/testing/index.js'

/** A promise that is kept from outside. */
export const gate = <T>() => {
  let open!: (value: T) => void
  let fail!: (error: unknown) => void
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve
    fail = reject
  })
  return { promise, open, fail }
}

/** A manager of anything. */
export type Cached = CacheManager<Record<string, any>>

/** One manager on its own. */
export const setup = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  return { clock, cache: new CacheManager<Record<string, any>>({ clock, ...options }) }
}

/** Several on one store. */
export const cluster = (options: CacheManagerOptions = {}) => {
  const clock = new ManualClock()
  const store = new MemoryCacheStore({ clock })
  const manager = () => new CacheManager<Record<string, any>>({ clock, l2: store, ...options })
  return { clock, store, a: manager(), b: manager(), manager }
}

/** Gives these values in turn, and the last one ever after. */
export const loader = <T>(...values: T[]) => {
  const load = Object.assign(async () => values[Math.min(load.calls++, values.length - 1)] as T, { calls: 0 })
  return load
}
