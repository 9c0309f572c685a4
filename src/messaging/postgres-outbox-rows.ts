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

/** A row of a page; `nth` is null where no message of its commit is left. */
export interface PageRow extends SqlRow {
  readonly commit: string
  readonly nth: number | null
}

/** What the messages of one commit share. */
export interface CommitPlace {
  /** As the row has it. */
  readonly text: string
  readonly pos: number
  readonly batch: number
  readonly partition: number
  /** When, by the server's clock: a server that has forgotten one gives its other numbers to another. */
  readonly at: number
  /** How long it has been committed. */
  readonly lagMs: number
}

export function placeOf(text: string): CommitPlace {
  const [pos, batch, partition, lagMs, at] = text.split(' ').map(Number) as [number, number, number, number, number]
  return { text, pos, batch, partition, lagMs, at }
}
