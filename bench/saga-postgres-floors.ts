import type pg from 'pg'
import { freshId, order, STEPS, type RunOne } from './saga-orders.js'

const TABLES = `
  create table sagas (id text primary key, epoch int not null, input text not null, records int not null default 0,
    status smallint not null default 0, wake_at float8 not null) with (fillfactor = 70);
  create index on sagas (wake_at) where wake_at < 'Infinity';
  create table records (id text, position int, record text not null, primary key (id, position))`

/** Of `$1` sagas created, and of the records of sagas whose epoch is still the writer's. */
const CREATE = `insert into sagas (id, epoch, input, wake_at)
  select id, 1, input, extract(epoch from clock_timestamp()) * 1000 + 10000 from unnest($1::text[], $2::text[]) as s (id, input)`
const COMMIT = `with moved as (
    update sagas s set records = t.position + 1, status = t.status,
      wake_at = case when t.status = 0 then extract(epoch from clock_timestamp()) * 1000 + 10000 else 'Infinity' end
    from unnest($1::text[], $2::int[], $3::int[], $4::smallint[], $5::text[]) as t (id, epoch, position, status, record)
    where s.id = t.id and s.epoch = t.epoch and s.records = t.position
    returning t.id, t.position, t.record
  ), written as (insert into records select * from moved)
  select id from moved`

interface Write {
  readonly id: string
  readonly position: number
  readonly record: string
}

interface Journal {
  create(sagas: readonly string[]): Promise<unknown>
  /** @returns ids of those that were written */
  commit(writes: readonly Write[]): Promise<readonly string[]>
}

async function journalOn(pool: pg.Pool): Promise<Journal> {
  await pool.query(TABLES)
  const input = JSON.stringify(order)
  return {
    create: (ids) => pool.query({ name: 'create', text: CREATE, values: [ids, ids.map(() => input)] }),
    commit: async (writes) => {
      const values = [
        writes.map(({ id }) => id),
        writes.map(() => 1),
        writes.map(({ position }) => position),
        writes.map(({ position }) => (position === STEPS - 1 ? 1 : 0)),
        writes.map(({ record }) => record),
      ]
      const { rows } = await pool.query<{ id: string }>({ name: 'commit', text: COMMIT, values })
      return rows.map(({ id }) => id)
    },
  }
}

/** One saga: it is created, and each step's end is written before the next begins. */
const one =
  (create: (id: string) => Promise<unknown>, commit: (write: Write) => Promise<boolean>): RunOne =>
  async () => {
    const id = freshId()
    await create(id)
    for (let position = 0; position < STEPS; position++) {
      const result = await Promise.resolve({ step: position })
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const ok = await commit({ id, position, record: JSON.stringify({ at: Date.now(), path: 'step', result }) })
      if (!ok) throw new Error('fenced')
    }
  }

/** A statement for each write of each saga. */
export async function bareJournal(pool: pg.Pool): Promise<RunOne> {
  const journal = await journalOn(pool)
  return one(
    (id) => journal.create([id]),
    async (write) => (await journal.commit([write])).length === 1,
  )
}

/** A statement for all that waits, two under way at a time. */
export async function groupCommit(pool: pg.Pool): Promise<RunOne> {
  const journal = await journalOn(pool)
  return one(
    grouped(async (ids: readonly string[]) => {
      await journal.create(ids)
      return ids
    }),
    grouped(async (writes: readonly Write[]) => {
      const written = new Set(await journal.commit(writes))
      return writes.map(({ id }) => written.has(id))
    }),
  )
}

function grouped<T, R>(write: (all: readonly T[]) => Promise<readonly R[]>): (one: T) => Promise<R> {
  let waiting: { readonly one: T; readonly resolve: (answer: R) => void; readonly reject: (error: unknown) => void }[] =
    []
  let underWay = 0
  const flush = (): void => {
    if (underWay === 2 || waiting.length === 0) return
    const batch = waiting
    waiting = []
    underWay++
    write(batch.map(({ one: each }) => each))
      .then((answers) => batch.forEach(({ resolve }, i) => resolve(answers[i]!)))
      .catch((error: unknown) => batch.forEach(({ reject }) => reject(error)))
      .finally(() => {
        underWay--
        flush()
      })
  }
  return (each) =>
    new Promise((resolve, reject) => {
      waiting.push({ one: each, resolve, reject })
      if (waiting.length === 1) queueMicrotask(flush)
    })
}
