import type { Comparison, Survey } from './harness.js'

/** Loaded one at a time: a peer's global state must not touch the next suite. */
export const suites: Record<string, () => Promise<readonly (Comparison | Survey)[]>> = {
  resilience: async () => (await import('./resilience.js')).resilience(),
  'rate-limit': async () => (await import('./rate-limit.js')).rateLimit(),
  'rate-limit-redis': async () => (await import('./rate-limit-redis.js')).rateLimitRedis(),
  cache: async () => (await import('./cache.js')).cache(),
  'cache-heap': async () => (await import('./cache-heap.js')).cacheHeap(),
  'cache-hits': async () => (await import('./cache-hits.js')).cacheHits(),
  'cache-redis': async () => (await import('./cache-redis.js')).cacheRedis(),
  'cache-stampede': async () => (await import('./cache-stampede.js')).cacheStampede(),
  'cache-faults': async () => (await import('./cache-faults.js')).cacheFaults(),
  'event-sourcing': async () => (await import('./event-sourcing.js')).eventSourcing(),
  'event-sourcing-postgres': async () => (await import('./event-sourcing-postgres.js')).eventSourcingPostgres(),
  'event-sourcing-postgres-streams': async () =>
    (await import('./event-sourcing-postgres-streams.js')).eventSourcingPostgresStreams(),
  'event-sourcing-postgres-readers': async () =>
    (await import('./event-sourcing-postgres-readers.js')).eventSourcingPostgresReaders(),
  'event-sourcing-redis': async () => (await import('./event-sourcing-redis.js')).eventSourcingRedis(),
  saga: async () => (await import('./saga.js')).saga(),
  'saga-postgres': async () => (await import('./saga-postgres.js')).sagaPostgres(),
  'saga-redis': async () => (await import('./saga-redis.js')).sagaRedis(),
  'messaging-redis': async () => (await import('./messaging-redis.js')).messagingRedis(),
  'messaging-rabbitmq': async () => (await import('./messaging-rabbitmq.js')).messagingRabbitMq(),
  'messaging-postgres': async () => (await import('./messaging-postgres.js')).messagingPostgres(),
}
