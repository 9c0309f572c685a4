export { InvalidPayloadError, NotFoundError, StoreError, isHoldfastError } from '../kernel/errors.js'
export { constant, exponential } from '../resilience/backoff.js'
export type {
  BodyContext,
  CompensateBody,
  CompensateContext,
  EmittedEvent,
  InTransaction,
  RunBody,
  RunContext,
  SagaTransaction,
} from './body.js'
export {
  SagaBuilder,
  saga,
  type ParallelOptions,
  type PivotOptions,
  type SagaOptions,
  type StepOptions,
  type TransactionOptions,
  type WaitOptions,
} from './builder.js'
export type {
  ParallelNode,
  RetryPlan,
  SagaBranch,
  SagaDefinition,
  SagaNode,
  SagaRetry,
  SleepNode,
  StepNode,
  WaitNode,
} from './definition.js'
export { SagaConflictError, SagaDefinitionDriftError, SagaMigrationError, type MigrationRefusal } from './errors.js'
export type {
  HistoryEntry,
  JournalEntry,
  JournalRecord,
  NodeStatus,
  PastDefinition,
  RecordedError,
  SagaFailure,
  SagaStatus,
  StoredEvent,
} from './journal.js'
export { MemorySagaStore, type MemorySagaStoreOptions } from './memory.js'
export { toMermaid } from './mermaid.js'
export type { MigrateOptions } from './migrate.js'
export { SagaOrchestrator } from './orchestrator.js'
export type { Operator, SagaEvents, SagaHandle, SagaOrchestratorOptions } from './orchestrator-options.js'
export { signal, type SagaSignal } from './signal.js'
export type {
  ClaimRequest,
  ClaimedSaga,
  Claims,
  Created,
  DefinitionKey,
  Delivered,
  Fenced,
  InboxMessage,
  Lease,
  Moved,
  NewMessage,
  NewSaga,
  Renewed,
  SagaMove,
  SagaQuery,
  SagaStore,
  SagaSummary,
  SagaWake,
  StoredSaga,
  Transition,
} from './store.js'
export type { NodeView, SagaOutcome, SagaView } from './view.js'
