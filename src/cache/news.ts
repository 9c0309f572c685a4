import type { Clock } from '../kernel/clock.js'
import { isInvalidation } from './answers.js'
import type { CacheBackplane, OnInvalidation } from './backplane.js'
import type { Invalidation } from './store.js'

/** Milliseconds until a subscription that failed is tried again. */
const TRY_AGAIN_MS = 1_000

/** The name of no epoch. */
const UNKNOWN = ''

/** What one manager tells others over a backplane, and hears from them. Nothing here fails: what gets lost is found out otherwise. */
export class News {
  #closed = false
  readonly #ear: Ear = {}
  #cancel = (): void => {}

  /** @param origin names this manager */
  constructor(
    private readonly backplane: CacheBackplane,
    private readonly origin: string,
    private readonly clock: Clock,
    private readonly failed: (operation: string, error: unknown) => void,
  ) {}

  /** @param epoch `undefined`: it is not known, so that others act on the change but do not count it */
  tell(seq: number, what: Invalidation, epoch: string | undefined): void {
    // In an async function, so that a backplane that throws fails like one that rejects.
    const publish = async (): Promise<void> => this.backplane.publish(seq, what, this.origin, epoch ?? UNKNOWN)
    publish().catch((error: unknown) => this.failed('publish', error))
  }

  /** @param hear told of each change; one of our own may be news too, if the client sent it twice or its answer was lost */
  listen(hear: (seq: number, what: Invalidation, epoch: string | undefined, isOwn: boolean) => void): void {
    this.#ear.hear = (seq, what, origin, epoch) => {
      if (Number.isSafeInteger(seq) && isInvalidation(what)) hear(seq, what, epoch, origin === this.origin)
    }
    this.#subscribe(listenerOf(this.#ear))
  }

  #subscribe(onMessage: OnInvalidation): void {
    const subscribe = async (): Promise<void> => this.backplane.subscribe(onMessage)
    subscribe().catch((error: unknown) => {
      if (this.#closed) return
      this.failed('subscribe', error)
      this.#cancel = this.clock.setTimer(() => this.#subscribe(onMessage), TRY_AGAIN_MS)
    })
  }

  close(): void {
    this.#closed = true
    this.#ear.hear = undefined
    this.#cancel()
  }
}

/** All that a backplane, which forgets nobody, holds of a manager: nothing more once it is closed. */
interface Ear {
  hear?: OnInvalidation | undefined
}

const listenerOf =
  (ear: Ear): OnInvalidation =>
  (...message) =>
    ear.hear?.(...message)
