import { nameOf, textOf } from '../kernel/redis-names.js'
import type { SagaStatus } from './journal.js'
import type { InboxMessage, NewMessage, SagaSummary, StoredSaga } from './store.js'
import { parseStored } from './stored.js'

/*
 * Redis orders names by their bytes. Those of UTF-8 go as UTF-16 code units do up to D7FF; each unit above is written as one mark behind all of
 * these, and its digits.
 */
const MARK = '\ue000'

/** An id as a name: in the same order as ids are, by their UTF-16 code units. */
export const keyOf = (id: string): string =>
  id.replace(/[\ud800-\uffff]/g, (unit) => MARK + unit.charCodeAt(0).toString(16))

/** What {@link keyOf} was given. */
export const idOf = (key: string): string =>
  key.replace(/\ue000([0-9a-f]{4})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)))

/** A message as it is stored. */
export const messageText = ({ kind, name, payload }: NewMessage): string => JSON.stringify([kind, name, payload])

/** The field of a dedupe id. */
export const dedupeField = (dedupeId: string): string => `u${nameOf(dedupeId)}`

/** A saga as scripts give it: fields and values in turn; `undefined`: there is none. @throws CorruptDataError */
export function sagaOf(id: string, reply: readonly string[]): StoredSaga | undefined {
  if (reply.length === 0) return undefined
  const fields = new Map<string, string>()
  const records: [position: number, text: string][] = []
  const inbox: InboxMessage[] = []
  for (let i = 0; i < reply.length; i += 2) {
    const [field, value] = [reply[i]!, reply[i + 1]!]
    if (field.startsWith('j:')) records.push([Number(field.slice(2)), value])
    else if (field.startsWith('i:')) {
      type Stored = [InboxMessage['kind'], string, string]
      const [kind, name, payload] = parseStored<Stored>(id, 'inbox', value)
      inbox.push({ kind, name, payload, number: Number(field.slice(2)) })
    } else fields.set(field, value)
  }
  const of = (field: string): string => fields.get(field) ?? ''
  const journal = records.toSorted(([a], [b]) => a - b).map(([, text]) => text)
  return {
    id,
    name: textOf(of('name')),
    version: Number(of('version')),
    hash: of('hash'),
    input: of('input'),
    deadlineMs: of('deadline') === '' ? null : Number(of('deadline')),
    status: of('status') as SagaStatus,
    createdAt: Number(of('created')),
    updatedAt: Number(of('updated')),
    epoch: Number(of('epoch')),
    journal: parseStored(id, 'journal', `[${journal.join(',')}]`),
    inbox: inbox.toSorted((a, b) => a.number - b.number),
    lastMessage: Number(of('messages')),
  }
}

/** A line of a list, as the script gives it. */
export function summaryOf(line: readonly string[]): SagaSummary {
  const [key = '', name = '', version, status, created, updated] = line
  return {
    id: idOf(key),
    name: textOf(name),
    version: Number(version),
    status: status as SagaStatus,
    createdAt: Number(created),
    updatedAt: Number(updated),
  }
}
