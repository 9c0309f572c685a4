import type { CacheBackplane, OnInvalidation } from './backplane.js'
import type { Invalidation } from './store.js'

/** Tells the managers of this process of each other's changes: the backplane beside a `MemoryCacheStore`. */
export class MemoryCacheBackplane implements CacheBackplane {
  readonly #listeners = new Set<OnInvalidation>()

  async publish(seq: number, what: Invalidation, origin: string, epoch?: string): Promise<void> {
    for (const listener of this.#listeners) listener(seq, what, origin, epoch)
  }

  async subscribe(onMessage: OnInvalidation): Promise<void> {
    this.#listeners.add(onMessage)
  }

  /** Forgets all who listen. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear()
  }
}
