import { checkFunction, checkString } from '../kernel/check.js'
import { systemClock } from '../kernel/clock.js'
import { InvalidOptionError } from '../kernel/errors.js'
import type { Checkpoints } from './checkpoints.js'
import { Delivery } from './delivery.js'
import type { Event, Recorded } from './event.js'
import { firstPosition } from './from.js'
import { Pages } from './pages.js'
import { checkPartitions, countName, PartitionedSubscription } from './partitions.js'
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
  options: SubscriptionOptions<E> = {},
): Subscription {
  checkString('name', name)
  checkFunction('handler', handler)
  const { batch = 100, query, partitions, from = 'start', clock = systemClock, leaseMs = 10_000 } = options
  const start = (part: string, picks?: (event: Recorded<E>) => boolean): Runner<E, Tx> =>
    new Runner(
      {
        store,
        name: part,
        admitted: picks !== undefined,
        begin: async () => {
          if (!picks && (await checkpoints.position(countName(name))) !== undefined)
            throw new InvalidOptionError(`partitions: subscription ${name} has run in partitions, and can't without`)
        },
        course: ({ epoch, position, signal }) => {
          const pages = new Pages<E>(store, batch, query, picks)
          return new Delivery(pages, { checkpoints, name: part, epoch, signal }, handler, position)
        },
      },
      checkpoints,
      options,
    )
  if (!partitions) return start(name)
  const { count } = checkPartitions(partitions)
  return new PartitionedSubscription({
    name,
    checkpoints,
    count,
    clock,
    leaseMs,
    head: async () => (await store.readPage({ limit: 1, query })).head,
    first: (signal) => firstPosition(store, from, signal),
    start: (part, has) => start(part, (event) => has(partitions.by(event))),
  })
}
