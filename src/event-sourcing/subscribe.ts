import { checkFunction, checkString } from '../kernel/check.js'
import type { Checkpoints } from './checkpoints.js'
import { Delivery } from './delivery.js'
import type { Event } from './event.js'
import { Pages } from './pages.js'
import { Runner } from './runner.js'
import type { EventStore } from './store.js'
import type { Handler, Subscription, SubscriptionOptions } from './subscription.js'

/**
 * Handles every event of the log, in order of position, from a checkpoint on, and starts at once. Of all that run under
 * one `name`, in whatever process, one works at a time; another takes over when it stops or dies. Where the checkpoints
 * have a transaction (`context.tx`), what a handler writes in it happens exactly once; anything else at least once: it
 * may be repeated after a crash, or when a paused owner wakes up beside its successor.
 * @throws InvalidOptionError when an option is out of its range.
 */
export function subscribe<E extends Event, Tx>(
  store: EventStore<E>,
  checkpoints: Checkpoints<Tx>,
  name: string,
  handler: Handler<E, Tx>,
  options: SubscriptionOptions = {},
): Subscription {
  checkString('name', name)
  checkFunction('handler', handler)
  const { batch = 100, query } = options
  return new Runner(
    {
      store,
      name,
      course: ({ epoch, position, signal }) =>
        new Delivery(new Pages(store, batch, query), { checkpoints, name, epoch, signal }, handler, position),
    },
    checkpoints,
    options,
  )
}
