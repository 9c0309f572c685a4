import type pg from 'pg'
import { onTestFinished } from 'vitest'
import type { Event, Projection, Subscription } from '../../src/event-sourcing/index.js'
import { PostgresProjector, type PostgresEventStore } from '../../src/event-sourcing/postgres.js'
import type { SqlDatabase, SqlQueryable } from '../../src/kernel/postgres.js'
import { openStore } from './database.js'

export type Counted = Event<'e', number>
export const e = (data: number): Counted => ({ type: 'e', data })
export type Totals = Projection<Counted, SqlQueryable>

/** How often each number was seen, and in all; revision 2 counts double and has a column more. */
export function totals(
  revision: number,
  options: Partial<Totals> & { fails?(n: number): boolean; outbox?: string } = {},
) {
  const sent: number[] = []
  const projection: Totals = {
    name: 'totals',
    revision,
    on: ['e'],
    async setup({ tx, name }) {
      await tx.query(
        `create table ${name('totals')} (n int primary key, times int ${revision > 1 ? ', note text' : ''})`,
      )
      await tx.query(`create table ${name('grand')} (total int)`)
      await tx.query(`insert into ${name('grand')} values (0)`)
    },
    async project(events, { tx, name, replaying }) {
      const numbers = events.map(({ data }) => data)
      const poison = numbers.find((n) => options.fails?.(n))
      if (poison !== undefined) await tx.query('select 1/0')
      await tx.query(
        `insert into ${name('totals')} as t (n, times) select n, count(*) * ${revision} from unnest($1::int[]) n group by n
         on conflict (n) do update set times = t.times + excluded.times`,
        [numbers],
      )
      await tx.query(`update ${name('grand')} set total = total + $1`, [numbers.length * revision])
      if (!replaying) sent.push(...numbers)
      if (!replaying && options.outbox)
        await tx.query(`insert into ${options.outbox} select n, ${revision} from unnest($1::int[]) n`, [numbers])
    },
    ...options,
  }
  return { projection, sent }
}

/** A log in a fresh schema, and a projector whose read model is in `db`. */
export async function openTotals(pool: pg.Pool, db: SqlDatabase = pool) {
  const { store: any, schema } = await openStore(pool)
  const store = any as unknown as PostgresEventStore<Counted>
  const projector = new PostgresProjector(store, db, { schema })
  await projector.migrate()
  const started: Subscription[] = []
  onTestFinished(async () => void (await Promise.all(started.map((subscription) => subscription.stop()))))
  await db.query(`create table "${schema}".sent (n int, revision int)`)
  const keep = <S extends Subscription>(subscription: S): S => {
    started.push(subscription)
    return subscription
  }
  let next = 0
  const append = async (count: number): Promise<number> => {
    const { position } = await store.append(
      `s${next}`,
      Array.from({ length: count }, () => e(next++)),
    )
    return position
  }
  const read = async (view = 'totals') =>
    (await db.query(`select * from "${schema}".${view} order by 1`)).rows as Record<string, unknown>[]
  const numbers = (to = next): number[] => Array.from({ length: to }, (_, i) => i)
  const times = (n: number, to = next) => numbers(to).map((i) => ({ n: i, times: n }))
  return { store, schema, projector, keep, append, read, numbers, times }
}
