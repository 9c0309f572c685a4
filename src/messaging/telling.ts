import type { Delivery } from './backlog.js'
import type { DeadLetter } from './dead-letters.js'
import type { MemoryEventBusEvents } from './memory-events.js'
import type { Outcome } from './subscription.js'

type Told = 'handled' | 'failed' | 'deadLetter'

/** What every bus's emitter can do. */
export interface Teller {
  has(name: Told): boolean
  emit<K extends Told>(name: K, event: MemoryEventBusEvents[K]): void
}

/** Tells listeners how a delivery ended, but for its death. @internal */
export function tellOutcome(
  events: Teller,
  about: { readonly group: string; readonly attempt: number; readonly durationMs: number },
  { message: { id, type } }: Delivery,
  outcome: Outcome,
): void {
  if (outcome.kind === 'done') {
    if (events.has('handled')) events.emit('handled', { ...about, id, type })
  } else if (events.has('failed')) {
    const retryInMs = outcome.kind === 'retry' ? outcome.afterMs : undefined
    events.emit('failed', { ...about, id, type, error: outcome.error, retryInMs })
  }
}

/** Tells listeners that a message was given up. @internal */
export function tellDeath(
  events: Teller,
  group: string,
  { message: { id, type }, attempts }: Delivery,
  { reason, error }: { readonly reason: DeadLetter['reason']; readonly error: unknown },
): void {
  if (events.has('deadLetter')) events.emit('deadLetter', { group, id, type, reason, attempts, error })
}
