import type { Watch } from './fences.js'
import type { Loader, Plan } from './options.js'
import type { Budget } from './remote.js'

/** An old value that may stand in for a load. */
export interface Stale {
  readonly value: unknown
  /** Monotonic milliseconds at which it was loaded or set. */
  readonly storedAt: number
  readonly tags: readonly string[]
  readonly etag?: string | undefined
  /** Monotonic time until which it may serve; `Infinity` when only the store knows. */
  readonly until: number
}

/** One call's wish for a value. */
export interface Request {
  /** The full name, and the caller's own. */
  readonly key: string
  readonly name: string
  readonly load: Loader<unknown>
  readonly plan: Plan
  /** All tags known beforehand, as full names, without duplicates. */
  readonly tags: readonly string[]
  /** The full name of a tag. */
  readonly tagName: (tag: string) => string
  /** No stored value will do. */
  readonly fresh: boolean
  readonly signal: AbortSignal | undefined
  /** Told when somebody else's load is waited for. */
  readonly parked?: (() => void) | undefined
  /** It began anew often enough: it loads now, though the value may not be stored. */
  readonly hurried?: boolean | undefined
  /** Whether a key that its load left out is an answer, as it is for a load of many. */
  readonly many?: boolean | undefined
}

/** One load of one key, from the look into the second level to the stored value. All who wait for it share it. */
export class Flight {
  readonly watch: Watch
  readonly request: Request
  /** How many invalidations there had been when it began. */
  readonly changes: number
  /** Begun ahead of time or by `fresh`: no stored value will do. */
  readonly forced: boolean
  /** What is left of the time that it may wait for the second level. */
  readonly budget: Budget
  /** Monotonic milliseconds. */
  readonly startedAt: number
  /** Settles with the value, or what the load threw. */
  promise!: Promise<unknown>
  /** Resolves when {@link stale} is known. */
  readonly looked: Promise<void>
  stale: Stale | undefined
  /** All tags known so far. */
  tags: readonly string[]
  /** The loader runs, so that the value will be a new one. */
  loading = false
  /** What it brought depends on something that was changed meanwhile: for those who asked before the change only. */
  outdated = false
  /** The lease under which it loads, until it is given back. */
  token: string | undefined
  /** The store's number at which the lease was granted. */
  stamp = 0
  waiters = 0
  /** Somebody was served otherwise and counts on the load all the same. */
  background = false
  readonly controller = new AbortController()
  lookedUp!: () => void
  #staleGone: boolean | undefined

  constructor(begun: Pick<Flight, 'watch' | 'request' | 'changes' | 'forced' | 'budget' | 'startedAt'>) {
    this.watch = begun.watch
    this.request = begun.request
    this.changes = begun.changes
    this.forced = begun.forced
    this.budget = begun.budget
    this.startedAt = begun.startedAt
    this.tags = begun.request.tags
    this.looked = new Promise((resolve) => {
      this.lookedUp = resolve
    })
  }

  /** The old value if it may serve at `now`. */
  fallback(now: number): Stale | undefined {
    const { stale } = this
    if (!stale || now >= stale.until) return undefined
    return (this.#staleGone ?? this.watch.gone(stale.tags)) ? undefined : stale
  }

  /** To be called once, when it has settled: remembers what the watch can't tell any more. */
  end(): void {
    this.outdated = this.watch.outdated(this.tags)
    if (this.stale) this.#staleGone = this.watch.gone(this.stale.tags)
    this.watch.end()
  }
}
