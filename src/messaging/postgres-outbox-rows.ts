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
  readonly pos: number
  readonly batch: number
  readonly partition: number
  /** How long it has been committed. */
  readonly lagMs: number
}

export function placeOf(commit: string): CommitPlace {
  const [pos, batch, partition, lagMs] = commit.split(' ').map(Number) as [number, number, number, number]
  return { pos, batch, partition, lagMs }
}
