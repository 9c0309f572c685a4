import type { MemoryEventBusEvents } from './memory-events.js'

/** What a `RedisEventBus` tells its listeners. */
export interface RedisEventBusEvents extends MemoryEventBusEvents {
  /** Redis failed, or what stands there can't be read. What was to be done is tried again. */
  readonly error: { readonly group: string; readonly error: unknown }
  /**
   * The group's `'lease'` of this process ran out, or somebody has meddled with its stream: what ran here is handed to others
   * again. Or the `'group'` itself is no longer in Redis, and is made again: with it go the messages that it held.
   */
  readonly lost: { readonly group: string; readonly what: 'lease' | 'group' }
}
