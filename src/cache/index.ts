export { cached, type CachedOptions } from './cached.js'
export { CacheManager, type Expiry, type Wrapped } from './manager.js'
export { MemoryCacheStore, type MemoryCacheStoreOptions } from './memory.js'
export { MemoryCacheBackplane } from './memory-backplane.js'
export type { CacheBackplane, OnInvalidation } from './backplane.js'
export type { ManyLoader } from './bulk.js'
export type { CacheEvents, CacheStats } from './events.js'
export type { Ack } from './journal.js'
export type { CacheManagerOptions, EntryOptions, L1Options, LoadContext, Loader, StaleValue } from './options.js'
export type { CacheStore, Invalidation, CacheLease, StoredEntry } from './store.js'
export {
  ClosedError,
  CorruptDataError,
  InvalidOptionError,
  InvalidPayloadError,
  TimeoutError,
  isHoldfastError,
} from '../kernel/errors.js'
export type { Clock } from '../kernel/clock.js'
export { jsonCodec, type Codec } from '../kernel/codec.js'
export type { Unsubscribe } from '../kernel/emitter.js'
export type { Random } from '../kernel/random.js'
