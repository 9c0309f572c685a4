import { expect, onTestFinished } from 'vitest'
import {
  MemoryCheckpoints,
  MemoryEventStore,
  subscribe,
  type Checkpoints,
  type Event,
  type Handler,
  type Subscription,
  type SubscriptionOptions,
} from '../../src/event-sourcing/index.js'
import { ManualClock } from '../../src/testing/index.js'

export const e = (data: unknown, type = 'e', tags: string[] = []): Event => ({ type, data, tags })

/** A log in memory with its clock, and subscriptions to it that end with the test and leave no timer behind. */
export function open() {
  const clock = new ManualClock()
  const store = new MemoryEventStore({ clock })
  const checkpoints = new MemoryCheckpoints({ clock })
  const started: Subscription[] = []
  onTestFinished(async () => {
    const stopped = Promise.all(started.map((subscription) => subscription.stop()))
    await clock.advance(60_000)
    await stopped
    expect(clock.pendingTimers).toBe(0) // nothing is left behind
  })
  const start = (
    handler: Handler<Event>,
    options: SubscriptionOptions = {},
    cp: Checkpoints = checkpoints,
  ): Subscription => {
    const subscription = subscribe(store, cp, 'n', handler, { clock, ...options })
    started.push(subscription)
    return subscription
  }
  const append = async (...data: unknown[]) =>
    (
      await store.append(
        's',
        data.map((d) => e(d)),
      )
    ).position
  return { clock, store, checkpoints, start, append }
}
