import { toSqlKey, toSqlText } from '../kernel/postgres.js'
import { SAGA_STATUSES } from './journal.js'
import { kindOf } from './postgres-rows.js'
import type { NewSaga, SagaMove } from './store.js'
import type { Written } from './stored.js'

/** Parameters of the statement `create`. @param keys of `sagas` */
export const createParams = (sagas: readonly NewSaga[], keys: readonly string[]): unknown[] => [
  keys,
  sagas.map(({ id }, i) => (keys[i] === toSqlText(id) ? null : toSqlText(id))),
  sagas.map(kindOf),
  sagas.map(({ name }) => toSqlText(name)),
  numbers(sagas, ({ version }) => version),
  sagas.map(({ hash }) => hash),
  lines(sagas.map(({ input }) => input)),
  numbers(sagas, ({ deadlineMs }) => deadlineMs),
  numbers(sagas, ({ leaseMs }) => leaseMs),
]

/** Parameters of the statement `commit`. */
export function commitParams(batch: readonly Written[]): unknown[] {
  const consumed = batch.flatMap(({ transition }, i) => transition.consumed.map((number) => [i + 1, number] as const))
  return [
    batch.map(({ transition }) => toSqlKey(transition.id)),
    numbers(batch, ({ transition }) => transition.epoch),
    numbers(batch, ({ transition }) => transition.position),
    lines(batch.map(({ record }) => record)),
    numbers(batch, ({ transition }) => SAGA_STATUSES.indexOf(transition.status)),
    numbers(batch, ({ transition }) => transition.seen),
    numbers(batch, ({ transition: { next } }) => ('leaseMs' in next ? next.leaseMs : null)),
    numbers(batch, ({ transition: { next } }) => ('leaseMs' in next ? null : (next.dueAt ?? Infinity))),
    numbers(consumed, ([o]) => o),
    numbers(consumed, ([, number]) => number),
  ]
}

/** Parameters of the statement `move`. */
export const moveParams = ({ id, createdAt, epoch, position, to, entries, letGo }: SagaMove): unknown[] => [
  ...[toSqlKey(id), createdAt, epoch, position, kindOf(to), to.version, to.hash, entriesText(entries), letGo],
]

/** A record without its time, which the server writes before it: see {@link SagaMove.entries}. */
const entriesText = (entries: SagaMove['entries']): string => `,"entries":${JSON.stringify(entries)}}`

/** JSON texts, which are one line each: in an array `pg` would escape every quote once more, which takes longer than all the rest. */
const lines = (texts: readonly string[]): string => texts.join('\n')

/** A number of each as an array that PostgreSQL reads: `pg` would quote and escape every one as if it were text. */
const numbers = <T>(all: readonly T[], of: (one: T) => number | null): string =>
  `{${all.map((one) => of(one) ?? 'null').join()}}`
