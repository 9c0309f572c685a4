import type { Clock } from '../kernel/clock.js'
import type { Random } from '../kernel/random.js'
import type { EventBus } from '../messaging/event-bus.js'
import type { Grouped } from './grouped.js'
import type { JournalEntry } from './journal.js'
import type { SagaRun } from './run.js'
import type { Fenced, SagaStore, Transition } from './store.js'

/** What all runs of an orchestrator share. */
export interface RunHost {
  readonly store: SagaStore
  /** Commits what all sagas write, what comes together in one call. */
  readonly writes: Grouped<Transition, Fenced>
  readonly clock: Clock
  readonly random: Random
  readonly leaseMs: number
  readonly graceMs: number
  readonly bus: Pick<EventBus, 'publish'> | undefined
  /** These facts are stored. */
  recorded(run: SagaRun, entries: readonly JournalEntry[], statusChanged: boolean): void
  /** The run has ended: it let its saga go, or lost it. */
  dropped(run: SagaRun, lost: boolean): void
  failed(doing: 'commit' | 'publish' | 'read' | 'run', error: unknown): void
}
