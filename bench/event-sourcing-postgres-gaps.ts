import pg from 'pg'
import { ownTypes } from './pg-types.js'
import { PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import { event, type Stores } from './event-sourcing-postgres-stores.js'
import { sequential, type Candidate, type Comparison } from './harness.js'

const WITHOUT = 'holdfast without its mark (floor)'
const WITH = 'holdfast'
const SELECT = 'pg, prepared SELECT 1 (floor)'
const POLL = 'holdfast, a page at the head'
const POLL_AMONG = 'holdfast, the same while 16 transactions that have appended are open'

/** How a writer marks itself for the readers of the log: alone, and in the functions for several appends. */
const MARKS = {
  es_append_one: /,\s*pg_advisory_xact_lock_shared\(\(case\b[^;]*(?=;)/,
  es_append_many: /if coalesce\(current_setting\('holdfast\.mark_[^]*?end if;/,
}

/** The store's own functions, but that readers can't tell any more which positions are still being written. */
async function withoutMarks(pool: pg.Pool): Promise<void> {
  for (const [name, mark] of Object.entries(MARKS)) {
    const { rows } = await pool.query(
      `select pg_get_functiondef(p.oid) as source from pg_proc p where p.proname = $1 and p.pronamespace = 'holdfast'::regnamespace`,
      [name],
    )
    const { source } = rows[0] as { source: string }
    if (!mark.test(source)) throw new Error(`${name} does not mark its transaction as it did`)
    await pool.query(source.replace(mark, ''))
  }
}

let streams = 0
const TOGETHER = 64

/** `count` appends in one step, by a store that has no others under way: what travels together is always the same. */
function steps(pool: pg.Pool, callers: number, count: number): Candidate['batch'] {
  const free = Array.from({ length: callers }, () => new PostgresEventStore(pool))
  return sequential(async () => {
    const store = free.pop() as PostgresEventStore
    await Promise.all(Array.from({ length: count }, () => store.append(`order-${streams++}`, [event])))
    free.push(store)
  })
}

/** What it costs that no reader passes by an event that is still being written. */
export async function gapSafety({ database }: Stores): Promise<readonly Comparison[]> {
  const open = async (name: string): Promise<{ pool: pg.Pool; store: PostgresEventStore }> => {
    const pool = new pg.Pool({ connectionString: await database(name), max: 20, types: ownTypes })
    const store = new PostgresEventStore(pool)
    await store.migrate()
    return { pool, store }
  }
  const marked = await open('gaps')
  const unmarked = await open('gaps_without')
  await withoutMarks(unmarked.pool)
  const appending = (what: string, callers: number, count: number): Comparison => ({
    title: `Event store on PostgreSQL, what gap safety costs, ${what}`,
    callers,
    candidates: [
      { name: WITHOUT, batch: steps(unmarked.pool, callers, count) },
      { name: WITH, batch: steps(marked.pool, callers, count) },
    ],
    targets: [{ candidate: WITH, than: WITHOUT, rate: 0.85 }],
  })
  const read = await open('gaps_read')
  const among = await open('gaps_among')
  const { position } = await read.store.append('order-1', [event])
  await among.store.append('order-1', [event])
  for (let i = 0; i < 16; i++) {
    const tx = await among.pool.connect()
    await tx.query('begin')
    await among.store.append(`open-${i}`, [event], { tx })
  }
  const select = { name: 'one', text: 'select 1' }
  return [
    appending('an append at a time', 1, 1),
    appending('16 appends at once, each by itself', 16, 1),
    appending(`${TOGETHER} appends in one step, two of them at once`, 2, TOGETHER),
    {
      title: 'Event store on PostgreSQL, what gap safety costs, a poll that finds nothing',
      callers: 1,
      candidates: [
        { name: SELECT, batch: sequential(() => read.pool.query(select)) },
        { name: POLL, batch: sequential(() => read.store.readPage({ after: position })) },
        { name: POLL_AMONG, batch: sequential(() => among.store.readPage({ after: position })) },
      ],
      targets: [{ candidate: POLL, than: SELECT, moreNs: 150_000 }],
    },
  ]
}
