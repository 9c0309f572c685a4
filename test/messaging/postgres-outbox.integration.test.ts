import { openPool } from './database.js'
import { outboxLaws } from './outbox-laws.js'

const pool = openPool()
outboxLaws('PostgresOutbox', () => pool)
