import { jsonCodec } from '../kernel/codec.js'
import { exponential } from '../resilience/backoff.js'
import type { StoredEvent } from './journal.js'
import type { RunHost } from './run-host.js'

/** Waits between calls of a store or a bus that fails. */
export const AGAIN = exponential({ initialMs: 50, maxMs: 5_000 })

/** Publishes what a saga has emitted, as often as it takes. @returns `false`: given up, because `isOver` */
export async function publishStored(
  host: Pick<RunHost, 'bus' | 'clock' | 'random' | 'failed'>,
  sagaId: string,
  events: readonly StoredEvent[],
  isOver: () => boolean,
): Promise<boolean> {
  const { bus, clock, random } = host
  for (let tries = 1; !isOver(); tries++) {
    try {
      if (!bus) throw new Error(`saga '${sagaId}' has events to publish, but its orchestrator has no bus`)
      // oxlint-disable-next-line no-await-in-loop -- one try after the other
      await bus.publish(
        events.map((event) => ({
          ...event,
          data: jsonCodec.decode(event.data),
          occurredAt: new Date(event.occurredAt),
        })),
      )
      return true
    } catch (error) {
      host.failed('publish', error)
      // oxlint-disable-next-line no-await-in-loop
      await clock.sleep(AGAIN(tries, error, { previousMs: undefined, random }))
    }
  }
  return false
}
