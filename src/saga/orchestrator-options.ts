import type { Clock } from '../kernel/clock.js'
import type { Random } from '../kernel/random.js'
import type { EventBus } from '../messaging/event-bus.js'
import type { SagaDefinition } from './definition.js'
import type { NodeStatus } from './journal.js'
import type { SagaStore } from './store.js'
import type { SagaOutcome } from './view.js'
import type { WorkerEvents } from './worker.js'

/** Options of a `SagaOrchestrator`. */
export interface SagaOrchestratorOptions {
  /** Where sagas live; shared with other orchestrators. */
  readonly store: SagaStore
  /** Definitions it can run. Several versions of a name may stand side by side. @defaultValue none: it only creates sagas */
  readonly sagas?: readonly SagaDefinition[] | undefined
  /**
   * Milliseconds after which a saga whose process vanished is taken over by another. It is renewed after a third of it. > 0.
   * @defaultValue 10_000
   */
  readonly leaseMs?: number | undefined
  /** How many sagas it may be busy with at once; those that wait for long do not count. Integer ≥ 1. @defaultValue 64 */
  readonly concurrency?: number | undefined
  /** Milliseconds that a body has to settle: once its `signal` has aborted, and at `close()`. ≥ 0. @defaultValue 5_000 */
  readonly graceMs?: number | undefined
  /** How often a store that can't tell of changes is asked, in milliseconds; also the wait after a claim that failed. > 0. @defaultValue 1_000 */
  readonly pollMs?: number | undefined
  /** Where emitted events go. Needed as soon as a body emits; then by every orchestrator of the store. @defaultValue none */
  readonly bus?: Pick<EventBus, 'publish'> | undefined
  /** @defaultValue the process clock */
  readonly clock?: Clock | undefined
  /** @defaultValue the process's generator */
  readonly random?: Random | undefined
}

/** Who gives an order: a name, or a name and why. Kept in the saga's history. */
export type Operator = string | { readonly who: string; readonly why?: string | undefined }

/** Events of an orchestrator. All of them speak of what is stored already. */
export interface SagaEvents extends WorkerEvents {
  /** A node went on. `attempt` is the one under way or planned. */
  node: {
    readonly id: string
    readonly name: string
    readonly path: string
    readonly status: NodeStatus
    readonly attempt: number
  }
  /** A saga that ran here ended, or is parked. */
  settled: { readonly id: string; readonly name: string; readonly status: 'completed' | 'compensated' | 'parked' }
}

/** A saga that was begun. */
export interface SagaHandle<Results> {
  /** The id given to `run`. */
  readonly id: string
  /**
   * Waits until the saga has ended or is parked, wherever it runs. A signal that aborts ends the waiting, not the saga.
   * The waiting keeps the process alive while another one runs the saga; while this one does, its bodies and timers do.
   * @throws NotFoundError when the store no longer keeps it; ClosedError when the orchestrator is closed meanwhile; StoreError.
   */
  settled(options?: { readonly signal?: AbortSignal | undefined }): Promise<SagaOutcome<Results>>
}
