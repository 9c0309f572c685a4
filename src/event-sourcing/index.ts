export { Aggregate } from './aggregate.js'
export type { Decider } from './decider.js'
export type { Envelope, Event, Metadata, Recorded } from './event.js'
export { FencedError, StreamClosedError, TombstonedError, VersionConflictError } from './errors.js'
export { MemoryEventStore, type MemoryEventStoreOptions } from './memory.js'
export type { AggregateClass, Command, Decision } from './replay.js'
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
