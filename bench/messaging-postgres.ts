import pg from 'pg'
import { PostgresInbox, PostgresOutbox } from 'holdfast/messaging/postgres'
import { sequential, type Candidate, type Comparison, type Survey } from './harness.js'
import { consumed, type Way } from './messaging-consumed.js'
import { Counter, data, message, OURS, text, TYPE } from './messaging-kit.js'
import { databases, poolOn } from './saga-postgres-stores.js'

const BATCH = 100
const CALLERS = 16

let ids = 0
const freshId = (): string => `message-${ids++}`
const effect = { name: 'effect', text: 'insert into effects select id, $2 from unnest($1::text[]) as id' }

const TABLES = `
  create table effects (id text, data text);
  create table seen (grp text, id text, at timestamptz not null default now(), primary key (grp, id));
  create table outgoing (no bigserial primary key, id text, type text, data text)`

async function inTransaction(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<unknown>): Promise<void> {
  const client = await pool.connect()
  await client.query('begin')
  await work(client)
  await client.query('commit')
  client.release()
}

/** Of messages that may have been handled, those that have not, and their effect, in one transaction. */
const byHand = (pool: pg.Pool, count: number): Candidate['batch'] =>
  sequential(() =>
    inTransaction(pool, async (client) => {
      const { rows } = await client.query<{ id: string }>({
        name: 'seen',
        text: `insert into seen (grp, id) select 'g', id from unnest($1::text[]) as id on conflict do nothing returning id`,
        values: [Array.from({ length: count }, freshId)],
      })
      await client.query({ ...effect, values: [rows.map(({ id }) => id), text] })
    }),
  )

async function inboxes(pool: pg.Pool): Promise<readonly Comparison[]> {
  const inbox = new PostgresInbox(pool)
  await inbox.migrate()
  const [four, batch] = ['pg, four statements (floor)', `pg, ${BATCH} in a transaction (floor)`]
  return [
    {
      title: `Inbox on PostgreSQL, one message at a time, ${CALLERS} at once`,
      callers: CALLERS,
      candidates: [
        { name: four, batch: byHand(pool, 1) },
        {
          name: OURS,
          batch: sequential(() => {
            const id = freshId()
            return inbox.once('g', id, async (tx) => void (await tx.query(effect.text, [[id], text])))
          }),
        },
      ],
      targets: [{ candidate: OURS, than: four, rate: 0.8 }],
    },
    {
      title: `Inbox on PostgreSQL, batches of ${BATCH}`,
      callers: 2,
      candidates: [
        { name: batch, batch: byHand(pool, BATCH) },
        {
          name: OURS,
          batch: sequential(() =>
            inbox.onceEach('g', Array.from({ length: BATCH }, freshId), async (tx, fresh) => {
              await tx.query(effect.text, [fresh, text])
            }),
          ),
        },
      ],
      targets: [{ candidate: OURS, than: batch, rate: 0.6 }],
    },
  ]
}

const RELAYED = 5_000
const WAITS = 1

/** What takes what is relayed: as long as a broker in the same rack takes to confirm. */
const broker = (counter: Counter) => ({
  publish: async (messages: object | readonly object[]): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, WAITS))
    for (const _ of Array.isArray(messages) ? messages : [messages]) counter.add()
  },
})

/** Pages of rows, published, then deleted. */
const relayByHand = (pool: pg.Pool): Way => ({
  name: 'pg, pages of 500 published and deleted (floor)',
  fill: (count) =>
    pool.query(`insert into outgoing (id, type, data) select 'm-' || i, $2, $3 from generate_series(1, $1::int) as i`, [
      ...[count, TYPE, text],
    ]),
  take: async (count) => {
    const counter = new Counter()
    const { publish } = broker(counter)
    for (let taken = 0; taken < count;) {
      // oxlint-disable no-await-in-loop -- one page after the other
      const { rows } = await pool.query<{ no: string; data: string }>({
        name: 'page',
        text: 'select * from outgoing order by no limit 500',
      })
      await publish(rows.map((row) => ({ ...row, data: JSON.parse(row.data) as unknown })))
      await pool.query({
        name: 'done',
        text: 'delete from outgoing where no = any ($1::bigint[])',
        values: [rows.map(({ no }) => no)],
      })
      // oxlint-enable no-await-in-loop
      taken += rows.length
    }
    return async () => {}
  },
})

async function relayOfOurs(pool: pg.Pool): Promise<Way> {
  const outbox = new PostgresOutbox(pool)
  await outbox.migrate()
  return {
    name: OURS,
    fill: (count) =>
      inTransaction(pool, (client) =>
        outbox.put(
          client,
          Array.from({ length: count }, (_, i) => ({ ...message, key: `order-${i % 100}`, data })),
        ),
      ),
    take: async (count) => {
      const counter = new Counter()
      const relay = outbox.relay(broker(counter))
      await counter.until(count)
      return () => relay.close()
    },
  }
}

/** What is written in the transaction of its cause or its effect, on a PostgreSQL that waits for the disk. */
export async function messagingPostgres(): Promise<readonly (Comparison | Survey)[]> {
  const database = await databases()
  const pool = poolOn(await database('messages'))
  await pool.query(TABLES)
  return [
    ...(await inboxes(pool)),
    consumed(
      `Outbox on PostgreSQL, ${RELAYED.toLocaleString('en-US')} messages relayed to a bus that takes ${WAITS} ms`,
      RELAYED,
      async () => [relayByHand(pool), await relayOfOurs(pool)],
      0.8,
    ),
  ]
}
