import type { StoredSaga } from './store.js'

/** A saga as it was taken. */
export interface Taken {
  /** As the store had it when it was claimed. */
  readonly saga: StoredSaga
  /** The bodies that its last owner had started may have run. */
  readonly expired: boolean
  /** Monotonic milliseconds of this process at which the lease ends. */
  readonly leaseUntil: number
  /** What to add to this process's monotonic clock to get the store's, at most. */
  readonly clockOffset: number
}
