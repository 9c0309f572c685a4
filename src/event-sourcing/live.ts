import { checkPositive } from '../kernel/check.js'
import { systemClock, type Clock } from '../kernel/clock.js'
import { onAbort } from '../kernel/signal.js'
import { Doorbell, Patience } from './doorbell.js'
import type { Event } from './event.js'
import type { EventStore } from './store.js'

/** How {@link live} watches. */
export interface LiveOptions {
  /** Longest time between two looks, in milliseconds, when no hint comes. > 0. @defaultValue 500 */
  readonly pollMs?: number | undefined
  /** Aborting it ends the iteration with its reason. */
  readonly signal?: AbortSignal | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
}

/**
 * The state of one stream, now and after every change, without end: leave the loop, or abort. A reader who is slow gets
 * the newest state, not each one in between.
 * @throws TombstonedError when the stream is tombstoned.
 */
export async function* live<E extends Event, S>(
  store: EventStore<E>,
  stream: string,
  fold: { readonly initial: S; readonly evolve: (state: S, event: E) => S },
  { pollMs = 500, signal, clock = systemClock }: LiveOptions = {},
): AsyncGenerator<{ readonly state: S; readonly version: number }, void, undefined> {
  const bell = new Doorbell(clock)
  const patience = new Patience(checkPositive('pollMs', pollMs))
  const stopListening = store.wake(bell.ring)
  const forget = signal && onAbort(signal, bell.ring)
  let state = fold.initial
  let version = 0
  try {
    for (let changed = true; ; changed = false) {
      signal?.throwIfAborted()
      bell.reset()
      for await (const event of store.read<E>(stream, { fromVersion: version + 1, signal })) {
        state = fold.evolve(state, event as unknown as E)
        version = event.version
        changed = true
      }
      if (changed) {
        patience.reset()
        yield { state, version }
      } else {
        await bell.wait(patience.next(), true)
      }
    }
  } finally {
    stopListening()
    forget?.()
  }
}
