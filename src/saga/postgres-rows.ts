import { fromSqlText, toSqlKey, type SqlRow } from '../kernel/postgres.js'
import { SAGA_STATUSES, type JournalRecord } from './journal.js'
import type { DefinitionKey, InboxMessage, SagaSummary, StoredSaga } from './store.js'
import { parseStored } from './stored.js'

/** What an index knows a definition by. */
export const kindOf = ({ name, version }: Omit<DefinitionKey, 'hash'>): string => toSqlKey(`${version} ${name}`)

/** A saga as the statement `read` gives it. @throws CorruptDataError */
export function sagaOf(row: SqlRow): StoredSaga {
  const id = fromSqlText((row['id'] ?? row['key']) as string)
  return {
    id,
    name: fromSqlText(row['name'] as string),
    version: Number(row['version']),
    hash: row['hash'] as string,
    input: row['input'] as string,
    deadlineMs: row['deadline_ms'] === null ? null : Number(row['deadline_ms']),
    status: SAGA_STATUSES[Number(row['status'])]!,
    createdAt: Number(row['created_at']),
    updatedAt: Number(row['updated_at']),
    epoch: Number(row['epoch']),
    lastMessage: Number(row['last_message']),
    journal: parseStored<JournalRecord[]>(id, 'journal', `[${(row['journal'] ?? '') as string}]`),
    inbox: parseStored<[number, InboxMessage['kind'], string, string][]>(
      id,
      'inbox',
      (row['inbox'] ?? '[]') as string,
    ).map(([number, kind, name, payload]) => ({ number, kind, name: fromSqlText(name), payload })),
  }
}

/** A line of a list. */
export const summaryOf = (row: SqlRow): SagaSummary => ({
  id: fromSqlText(row['id'] as string),
  name: fromSqlText(row['name'] as string),
  version: Number(row['version']),
  status: SAGA_STATUSES[Number(row['status'])]!,
  createdAt: Number(row['created_at']),
  updatedAt: Number(row['updated_at']),
})
