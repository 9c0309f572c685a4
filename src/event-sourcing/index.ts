export { Aggregate } from './aggregate.js'
export type { Checkpoints, SubscriptionLease, Parked } from './checkpoints.js'
export type { Catalog, EventDef, Personal } from './catalog.js'
export { catalogued, type CatalogOptions } from './catalogued.js'
export { decide, type DecideOptions, type Fold } from './decide.js'
export type { Decider } from './decider.js'
export type { Envelope, Event, Metadata, Recorded } from './event.js'
export { FencedError, ShreddedError, StreamClosedError, TombstonedError, VersionConflictError } from './errors.js'
export { live, type LiveOptions } from './live.js'
export { MemoryCheckpoints, type MemoryCheckpointsOptions } from './memory-checkpoints.js'
export { MemorySnapshots } from './memory-snapshots.js'
export { MemoryProjector, type MemoryProjectorOptions } from './memory-projector.js'
export type { MemoryTable, MemoryTransaction } from './memory-tables.js'
export { MemoryEventStore, type MemoryEventStoreOptions } from './memory.js'
export type { Context, Projection, ProjectionOptions, Projector, Rebuild, RebuildProgress } from './projection.js'
export type { AggregateClass, Command, Decided } from './replay.js'
export {
  Repository,
  type At,
  type Handled,
  type HandleOptions,
  type Loaded,
  type RepositoryOptions,
} from './repository.js'
export type {
  Append,
  AppendCondition,
  Appended,
  AppendOptions,
  EventStore,
  ExpectedVersion,
  Page,
  PageOptions,
  Query,
  QueryItem,
  ReadAllOptions,
  ReadOptions,
  StreamInfo,
} from './store.js'
export type { Snapshot, SnapshotStore } from './snapshots.js'
export type { StateCacheOptions, SnapshotOptions } from './states.js'
export { MemorySubjectKeys, type SubjectKeys } from './subject-keys.js'
export { subscribe } from './subscribe.js'
export type {
  Handler,
  HandlerContext,
  Partitions,
  RetryRule,
  Subscription,
  SubscriptionEvents,
  SubscriptionOptions,
} from './subscription.js'
