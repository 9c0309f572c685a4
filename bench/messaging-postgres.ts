// The outbox's relay and the inbox beside the statements that they cannot do without. Ratios count, not figures.
//   npx tsx bench/messaging-postgres.ts
import { Redis } from 'ioredis'
import pg from 'pg'
import { PostgresInbox, PostgresOutbox } from '../src/messaging/postgres.js'
import { Servers } from '../scripts/servers.mjs'

const servers = new Servers()
const [postgres, redisServer] = await Promise.all([servers.postgres(), servers.redis()])
const pool = new pg.Pool({ connectionString: postgres.url, max: 8 })
const redis = new Redis(redisServer.url)
const COUNT = 20_000
const median = (all: number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1]!
const perSecond = async (count: number, work: () => Promise<unknown>): Promise<number> => {
  const began = performance.now()
  await work()
  return (count / (performance.now() - began)) * 1_000
}

const xadd = async (all: readonly { readonly id: string; readonly text: string }[]): Promise<void> => {
  const line = redis.pipeline()
  for (const { id, text } of all) line.xadd('bench', 'MAXLEN', '~', 1_000, '*', 'id', id, 'text', text)
  await line.exec()
}
const outbox = new PostgresOutbox(pool, { schema: 'bench' })
const inbox = new PostgresInbox(pool, { schema: 'bench' })
await outbox.migrate()
await inbox.migrate()
await pool.query(
  'create table raw_outbox (no bigint generated always as identity primary key, id text, type text, key text, text text)',
)
await pool.query('create table raw_inbox (grp text, id text, primary key (grp, id))')
await pool.query('create table effects (id text)')

const message = (i: number) => ({
  id: `message-${i}`,
  type: 'OrderPlaced',
  key: `order-${i % 1_000}`,
  data: { orderId: `order-${i}`, cents: i },
})
const BATCH = 500

async function rawRelay(): Promise<number> {
  await pool.query(
    `insert into raw_outbox (id, type, key, text) select 'message-' || i, 'OrderPlaced', 'order-' || (i % 1000), $2 from generate_series(1, $1) i`,
    [COUNT, JSON.stringify({ data: message(1).data, headers: {} })],
  )
  return perSecond(COUNT, async () => {
    for (;;) {
      const { rows } = await pool.query({
        name: 'read',
        text: 'select * from raw_outbox order by no limit $1',
        values: [BATCH],
      })
      if (rows.length === 0) return
      await xadd(rows)
      await pool.query({
        name: 'del',
        text: 'delete from raw_outbox where no = any ($1)',
        values: [rows.map((row) => row.no)],
      })
    }
  })
}

async function relay(): Promise<number> {
  // one transaction a message, as most are: written beforehand
  for (let i = 0; i < COUNT; i += 1_000)
    await pool.query(`do $$ begin for i in ${i}..${i + 999} loop
      perform bench.outbox_put(array['message-' || i], array['OrderPlaced'], array['order-' || (i % 1000)], array[0]::float8[],
        array['${JSON.stringify({ data: message(1).data, headers: {} })}']);
      commit; end loop; end $$`)
  let seen = 0
  let end = (): void => {}
  const all = new Promise<void>((resolve) => (end = resolve))
  return perSecond(COUNT, async () => {
    const running = outbox.relay({
      publish: async (messages) => {
        const list = [messages].flat()
        await xadd(list.map(({ id, data, headers }) => ({ id: id!, text: JSON.stringify({ data, headers }) })))
        if ((seen += list.length) === COUNT) end()
      },
    })
    await all
    await running.close()
  })
}

let next = 0
const ids = (n: number): string[] => Array.from({ length: n }, () => `id-${next++}`)
const rawInbox = (): Promise<number> =>
  perSecond(COUNT, async () => {
    for (let i = 0; i < COUNT; i += 100) {
      await pool.query({
        name: 'inbox',
        text: `with fresh as (insert into raw_inbox select 'g', unnest($1::text[]) on conflict do nothing returning id) insert into effects select id from fresh`,
        values: [ids(100)],
      })
    }
  })
const inboxBatches = (): Promise<number> =>
  perSecond(COUNT, async () => {
    for (let i = 0; i < COUNT; i += 100)
      await inbox.onceEach('g', ids(100), async (tx, fresh) => {
        await tx.query('insert into effects select unnest($1::text[])', [fresh as string[]])
      })
  })
const FEW = 2_000
const fourStatements = (): Promise<number> =>
  perSecond(FEW, async () => {
    const client = await pool.connect()
    for (const id of ids(FEW)) {
      await client.query('begin')
      await client.query(`insert into raw_inbox values ('g', $1) on conflict do nothing returning id`, [id])
      await client.query('insert into effects values ($1)', [id])
      await client.query('commit')
    }
    client.release()
  })
const inboxOnce = (): Promise<number> =>
  perSecond(FEW, async () => {
    for (const id of ids(FEW))
      await inbox.once('g', id, async (tx) => void (await tx.query('insert into effects values ($1)', [id])))
  })

for (const [name, floor, ours] of [
  ['relay to Redis, batches of 500', rawRelay, relay],
  ['inbox, batches of 100', rawInbox, inboxBatches],
  ['inbox, one by one', fourStatements, inboxOnce],
] as const) {
  const figures: [number, number][] = []
  for (let round = 0; round < 5; round++) figures.push([await floor(), await ours()])
  const ratio = median(figures.map(([a, b]) => b / a))
  console.log(
    `${name}: floor ${Math.round(median(figures.map(([a]) => a)))}/s, holdfast ${Math.round(median(figures.map(([, b]) => b)))}/s, ratio ${ratio.toFixed(2)}`,
  )
}
await pool.end()
await redis.quit()
await servers.stop()
