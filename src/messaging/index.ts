export type { DeadLetter, DeadLetters, RecordedFailure } from './dead-letters.js'
export { BacklogFullError, UnroutedError } from './errors.js'
export type { BusSubscription, DeliveryContext, EventBus, RedeliveryOptions, SubscribeOptions } from './event-bus.js'
export type { EventBusOptions } from './event-bus-options.js'
export type { Inbox } from './inbox.js'
export { MemoryInbox, type MemoryInboxOptions } from './memory-inbox.js'
export type { DeliveryEvent, GroupStats, MemoryEventBusEvents } from './memory-events.js'
export { MemoryEventBus, type MemoryEventBusOptions } from './memory.js'
export {
  causedBy,
  type Message,
  type MessageHeaders,
  type MessageOf,
  type OutgoingMessage,
  type OutgoingMessageOf,
} from './message.js'
