import { fromSqlText, type SqlRow } from '../kernel/postgres.js'
import type { StoredMessage } from './stored-message.js'

/** A message as its row has it. @param at the column of the time it happened */
export const storedOf = (row: SqlRow, at: 'at' | 'occurred_at'): StoredMessage => ({
  id: fromSqlText(row['id'] as string),
  type: fromSqlText(row['type'] as string),
  ...(row['key'] === null ? {} : { key: fromSqlText(row['key'] as string) }),
  occurredAt: Number(row[at]),
  text: row['text'] as string,
})
