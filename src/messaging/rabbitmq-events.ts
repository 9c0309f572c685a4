import type { MemoryEventBusEvents } from './memory-events.js'

/** What a `RabbitMqEventBus` tells its listeners: what every bus does, and how its connection is. */
export interface RabbitMqEventBusEvents extends MemoryEventBusEvents {
  /** A connection was lost, or could not be made; it is tried again while anybody needs it. */
  readonly disconnected: { readonly error: unknown }
  /**
   * The broker does not let the group take messages, or what has failed could not be put away for later. It is tried again, with growing
   * waits. A lost connection is not told of here.
   */
  readonly error: { readonly group: string; readonly error: unknown }
}
