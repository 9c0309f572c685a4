import { sqlLiteral } from './postgres-schema.js'

/*
 * Numbers drawn from a sequence become visible in the order of commits, not in their own. Who reads up to the highest it sees
 * skips those that commit late. So writers hold a mark while they write, and readers ask up to where all is settled.
 */

/** The sequence's oid: the class of its advisory locks. It is its own, whatever else the database holds. @param sequence quoted */
export const lockClass = (sequence: string): string => `${sqlLiteral(sequence)}::regclass::oid`

const LAST = 'case when is_called then last_value else 0 end'

/** The number drawn last, 0 before the first. */
export const lastDrawn = (sequence: string): string => `select ${LAST} from ${sequence}`

/**
 * Marks this transaction as one that will draw: a shared lock, which never waits, whose key is the number drawn last so far. All
 * that it draws is above; what ends the transaction drops the mark. A column of a select from the sequence, in a function that has
 * declared `c`, the class, as bigint.
 */
export const MARK_WRITER = `pg_advisory_xact_lock_shared((case when c > 2147483647 then c - 4294967296 else c end)::int,
    ((${LAST}) & 2147483647)::int)`

/**
 * The lowest mark held; null: none. The keys are the low 31 bits of numbers; marks are never 2^30 apart.
 *
 * Up to where a sequence is settled: (1) the number drawn last; then (2) the lowest mark held; the lower of both. A number at or below
 * both was drawn before (1), so its writer's mark, which is lower, was there by then; as (2) does not see it, the writer has ended,
 * and PostgreSQL shows a commit before it drops the locks. A statement that starts after this one sees it.
 * @param last the variable that holds (1)
 */
export const lowestMark = (last: string, sequence: string): string => `
    select min(${last} - (((${last} - l.objid::bigint + 1073741824) & 2147483647) - 1073741824)) from pg_locks l
    where l.locktype = 'advisory' and l.objsubid = 2 and l.classid = ${lockClass(sequence)}
      and l.database = (select d.oid from pg_database d where d.datname = current_database())`

/** A function that says up to where the sequence is settled: see {@link lowestMark}. */
export const settledFunction = (name: string, sequence: string): string => `
create function ${name}() returns bigint language plpgsql as $holdfast$
declare
  v_last constant bigint := (${lastDrawn(sequence)});
begin
  return least(v_last, (${lowestMark('v_last', sequence)}));
end $holdfast$`
