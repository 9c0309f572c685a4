export type { DeadLetter, DeadLetters, Failure } from './dead-letters.js'
export { BacklogFullError, UnroutedError } from './errors.js'
export type { BusSubscription, DeliveryContext, EventBus, RedeliveryOptions, SubscribeOptions } from './event-bus.js'
export {
  causedBy,
  type Message,
  type MessageHeaders,
  type MessageOf,
  type OutgoingMessage,
  type OutgoingMessageOf,
} from './message.js'
