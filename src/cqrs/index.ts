export type {
  Bus,
  BusMessage,
  BusTypes,
  BusHandler,
  BusContext,
  BusHandlerOptions,
  MessageChanges,
  Middleware,
  SendOptions,
} from './bus.js'
export { CommandBus } from './command-bus.js'
export { QueryBus, type QueryBusOptions, type QueryHandlerOptions, type QueryOptions } from './query-bus.js'
export { pollingReadModel, type PollingReadModelOptions, type ReadModel } from './read-model.js'
