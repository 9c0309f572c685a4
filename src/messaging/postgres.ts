export type { SqlListener, SqlNotification } from '../kernel/postgres-herald.js'
export { PostgresInbox, type PostgresInboxOptions } from './postgres-inbox.js'
export {
  PostgresOutbox,
  type ParkedMessage,
  type ParkedMessages,
  type PostgresOutboxOptions,
} from './postgres-outbox.js'
export type { OutboxRelay, OutboxRelayEvents, OutboxStats, RelayOptions } from './postgres-relay-options.js'
