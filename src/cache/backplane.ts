import type { Invalidation } from './store.js'

/**
 * What a manager does with a message.
 * @param origin names the manager that made the change
 * @param epoch of the store's numbers; left out, it counts as the present one
 */
export type OnInvalidation = (seq: number, what: Invalidation, origin: string, epoch?: string) => void

/**
 * Tells managers on the same store of each other's changes, at once. It may lose messages, repeat them and change their order:
 * managers find out by the numbers what they missed, within `maxStalenessMs`. A backplane serves one store.
 */
export interface CacheBackplane extends AsyncDisposable {
  /** Tells all who subscribed of change number `seq`. Does nothing where the store itself tells them. */
  publish(seq: number, what: Invalidation, origin: string, epoch?: string): Promise<void>
  /** Calls `onMessage` for each change from now on, its own too. Resolves when it listens; what fails is tried again later. */
  subscribe(onMessage: OnInvalidation): Promise<void>
}
