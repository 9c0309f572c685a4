import pg from 'pg'
import { ownTypes } from './pg-types.js'
import { getPostgreSQLEventStore, postgreSQLEventStoreConsumer } from '@event-driven-io/emmett-postgresql'
import { PostgresEventStore, PostgresProjector } from 'holdfast/event-sourcing/postgres'
import { delay } from './event-sourcing-delay.js'
import { EMMETT, event, open, OURS, type Stores } from './event-sourcing-postgres-stores.js'
import { sequential, type Candidate, type Comparison, type Survey } from './harness.js'

const BEHIND = 4_000
/** Ours has so many times more before it, and its time is shared among them: it would be over before it has begun. */
const TIMES = 10

/** A read model that has the whole log before it, counts the events, and keeps its place in the same transaction. */
async function catchUp({ database }: Stores): Promise<Candidate[]> {
  const many = Array.from({ length: BEHIND / 4 }, () => event)
  const pool = new pg.Pool({ connectionString: await database('ours_behind'), max: 4, types: ownTypes })
  const ours = new PostgresEventStore(pool)
  const projector = new PostgresProjector(ours, pool)
  await ours.migrate()
  await projector.migrate()
  const connectionString = await database('emmett_behind')
  const emmett = getPostgreSQLEventStore(connectionString)
  await emmett.schema.migrate()
  for (let i = 0; i < 4; i++) {
    for (let j = 0; j < TIMES; j++) await ours.append(`s-${i}`, many)
    await emmett.appendToStream(`s-${i}`, many)
  }
  await pool.query('analyze') // as the server does by itself within a minute
  const { head } = await ours.readPage({ limit: 1 })
  let runs = 0
  let calls = 0
  return [
    {
      name: OURS,
      batch: sequential(async () => {
        if (calls++ % TIMES > 0) return
        const table = `counts_${runs++}`
        const running = projector.run({
          name: table,
          on: [event.type],
          setup: async ({ tx, name }) => void (await tx.query(`create table ${name(table)} (n int)`)),
          project: async (events, { tx, name }) =>
            void (await tx.query(`insert into ${name(table)} values ($1)`, [events.length])),
        })
        await running.reached(head)
        await running.stop()
      }),
    },
    {
      name: EMMETT,
      batch: sequential(async () => {
        let seen = 0
        const consumer = postgreSQLEventStoreConsumer({ connectionString })
        consumer.reactor({
          processorId: `count-${runs++}`,
          eachMessage: () => void seen++,
          stopAfter: () => seen === BEHIND,
        })
        await consumer.start()
        await consumer.close()
      }),
    },
  ]
}

const DUE = 20_000
const BATCH = 1_000
const BY_HAND = 'pg, SQL by hand (floor)'
const OVER_OURS = 'the same over pages of holdfast'

interface Row {
  readonly pos: string
  readonly data: typeof event.data
}

/** One row per event, in one statement: the same for all. */
const listed = (
  tx: Pick<pg.ClientBase, 'query'>,
  table: string,
  rows: readonly { pos: number; data: typeof event.data }[],
) =>
  tx.query(`insert into ${table} select * from unnest($1::bigint[], $2::text[], $3::int[])`, [
    rows.map(({ pos }) => pos),
    rows.map(({ data }) => data.orderId),
    rows.map(({ data }) => data.cents),
  ])
const columns = '(pos bigint primary key, order_id text not null, cents int not null)'

/** A list of orders from the whole log: whole events, a page of them in each transaction, their rows, the checkpoint if it still is where it was. */
async function byHand({ database }: Stores): Promise<Candidate[]> {
  const pool = new pg.Pool({ connectionString: await database('ours_due'), max: 4, types: ownTypes })
  const ours = new PostgresEventStore(pool)
  const projector = new PostgresProjector(ours, pool)
  await ours.migrate()
  await projector.migrate()
  await pool.query('create table checkpoints (name text primary key, pos bigint not null)')
  const many = Array.from({ length: BATCH }, () => event)
  // oxlint-disable-next-line no-await-in-loop -- one after the other
  for (let i = 0; i < DUE; i += BATCH) await ours.append(`s-${(i / BATCH) % 4}`, many)
  await pool.query('analyze') // as the server does by itself within a minute
  const { head } = await ours.readPage({ limit: 1 })
  let runs = 0

  type Pages = (after: number) => Promise<readonly { pos: number; data: typeof event.data }[]>
  const run = async (page: Pages): Promise<void> => {
    const name = `by_hand_${runs++}`
    await pool.query(`create table ${name} ${columns}`)
    await pool.query('insert into checkpoints values ($1, 0)', [name])
    const client = await pool.connect()
    for (let at = 0; at < head;) {
      // oxlint-disable no-await-in-loop -- one after the other
      const rows = await page(at)
      const to = rows.at(-1)?.pos ?? head
      await client.query('begin')
      await listed(client, name, rows)
      const moved = await client.query('update checkpoints set pos = $2 where name = $1 and pos = $3', [name, to, at])
      if (moved.rowCount !== 1) throw new Error('somebody else was there')
      await client.query('commit')
      // oxlint-enable no-await-in-loop
      at = to
    }
    client.release()
    await pool.query(`drop table ${name}`)
  }
  const select = { name: 'page', text: 'select * from holdfast.es_events where pos > $1 order by pos limit $2' }
  return [
    {
      name: BY_HAND,
      batch: sequential(() =>
        run(async (after) => {
          const { rows } = await pool.query<Row>({ ...select, values: [after, BATCH] })
          return rows.map(({ pos, data }) => ({ pos: Number(pos), data }))
        }),
      ),
    },
    {
      name: OVER_OURS,
      batch: sequential(() =>
        run(async (after) => {
          const { events } = await ours.readPage<typeof event>({ after, limit: BATCH })
          return events.map(({ position, data }) => ({ pos: position, data }))
        }),
      ),
    },
    {
      name: OURS,
      batch: sequential(async () => {
        const table = `orders_${runs++}`
        const running = projector.run<typeof event>({
          name: table,
          on: [event.type],
          setup: async ({ tx, name }) => void (await tx.query(`create table ${name(table)} ${columns}`)),
          project: async (events, { tx, name }) =>
            void (await listed(
              tx,
              name(table),
              events.map(({ position, data }) => ({ pos: position, data })),
            )),
        })
        await running.reached(head)
        await running.stop()
        await pool.query(`drop table holdfast.${table}_v1 cascade`)
      }),
    },
  ]
}

/** What reads the log, on a PostgreSQL that waits for the disk. */
export async function eventSourcingPostgresReaders(): Promise<readonly (Comparison | Survey)[]> {
  const stores = await open()
  return [
    {
      title: `Projection on PostgreSQL, ${BEHIND.toLocaleString('en-US')} events behind`,
      callers: 1,
      candidates: await catchUp(stores),
      targets: [
        { candidate: OURS, than: EMMETT, rate: 40 },
        { candidate: OURS, ns: (BEHIND / 70_000) * 1e9 },
      ],
    },
    {
      title: `Projection on PostgreSQL, ${DUE.toLocaleString('en-US')} events behind, pages of ${BATCH.toLocaleString('en-US')}`,
      callers: 1,
      candidates: await byHand(stores),
      targets: [{ candidate: OURS, than: BY_HAND, times: 1.1 }],
    },
    delay(stores),
  ]
}
