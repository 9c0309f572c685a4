import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
// Before emmett, which changes the parsers of every pg in the process: ours and the raw client keep those that pg comes with.
import { ownTypes } from './pg-types.js'
import { getPostgreSQLEventStore, postgreSQLEventStoreConsumer } from '@event-driven-io/emmett-postgresql'
import { PostgresEventStorageAdapter } from '@castore/event-storage-adapter-postgres'
import { Repository } from 'holdfast/event-sourcing'
import { PostgresEventStore, PostgresProjector } from 'holdfast/event-sourcing/postgres'
import { Servers } from '../scripts/servers.mjs'
import { sequential, type Candidate, type Comparison } from './harness.js'

const data = {
  orderId: 'order-1',
  userId: 'user-1',
  cents: 1_999,
  items: [{ sku: 'tea', quantity: 2 }],
  note: 'x'.repeat(90),
}
const event = { type: 'OrderPlaced', data }

const RAW = 'pg, prepared INSERT (floor)'
const OURS = 'holdfast'
const EMMETT = 'emmett 0.42'
const CASTORE = 'castore 2.4'

interface Stores {
  /** Address of a new database. */
  readonly database: (name: string) => Promise<string>
  readonly raw: pg.Pool
  readonly ours: PostgresEventStore
  readonly emmett: ReturnType<typeof getPostgreSQLEventStore>
  readonly castore: PostgresEventStorageAdapter
}

/** A server that waits for the disk at each commit, with a database for each candidate. */
async function open(): Promise<Stores> {
  const { url } = await new Servers().postgres({ fsync: 'on' })
  const admin = new pg.Client(url)
  await admin.connect()
  const database = async (name: string): Promise<string> => {
    await admin.query(`create database ${name}`)
    return url.replace(/postgres$/, name)
  }
  const pool = async (name: string): Promise<pg.Pool> =>
    new pg.Pool({ connectionString: await database(name), max: 16, types: ownTypes })
  const raw = await pool('raw')
  await raw.query(`create table events (pos bigserial primary key, stream text not null, version int not null,
    type text not null, data jsonb not null, id uuid not null, at timestamptz not null default now(), unique (stream, version))`)
  const ours = new PostgresEventStore(await pool('ours'))
  await ours.migrate()
  const emmett = getPostgreSQLEventStore(await database('emmett'))
  await emmett.schema.migrate()
  const connectionString = await database('castore')
  await PostgresEventStorageAdapter.createEventTable({
    connectionString,
    tableName: 'events',
    aggregateId: { type: 'VARCHAR', length: 64 },
  })
  return {
    database,
    raw,
    ours,
    emmett,
    castore: new PostgresEventStorageAdapter({ connectionString, tableName: 'events' }),
  }
}

let streams = 0
const fresh = (): string => `order-${streams++}`

const insert = (raw: pg.Pool, stream: string, count: number): Promise<unknown> => {
  const ids = Array.from({ length: count }, () => randomUUID())
  return raw.query({
    name: 'insert',
    text: `insert into events (stream, version, type, data, id)
      select $1, n, $2, d::jsonb, i from unnest($3::int[], $4::text[], $5::uuid[]) as e (n, d, i)`,
    values: [stream, event.type, ids.map((_, i) => i + 1), ids.map(() => JSON.stringify(data)), ids],
  })
}
const insertOne = (raw: pg.Pool, stream: string): Promise<unknown> =>
  raw.query({
    name: 'insert-one',
    text: `insert into events (stream, version, type, data, id) values ($1, 1, $2, $3, $4)`,
    values: [stream, event.type, JSON.stringify(data), randomUUID()],
  })

const pushed = (aggregateId: string, version: number) => ({ aggregateId, version, type: event.type, payload: data })
const orders = { eventStoreId: 'orders' }

function appends({ raw, ours, emmett, castore }: Stores): Candidate[] {
  return [
    { name: RAW, batch: sequential(() => insertOne(raw, fresh())) },
    { name: OURS, batch: sequential(() => ours.append(fresh(), [event])) },
    { name: EMMETT, batch: sequential(() => emmett.appendToStream(fresh(), [event])) },
    { name: CASTORE, batch: sequential(() => castore.pushEvent(pushed(fresh(), 1), orders)) },
  ]
}

function tens({ raw, ours, emmett }: Stores): Candidate[] {
  const ten = Array.from({ length: 10 }, () => event)
  return [
    { name: 'pg, prepared INSERT of 10 rows (floor)', batch: sequential(() => insert(raw, fresh(), 10)) },
    { name: OURS, batch: sequential(() => ours.append(fresh(), ten)) },
    { name: EMMETT, batch: sequential(() => emmett.appendToStream(fresh(), ten)) },
  ]
}

const BULK = 1_000
const COPY = 'pg, COPY (floor)'

/** As many events as fit into one statement, to one stream. */
function bulk({ raw, ours }: Stores): Candidate[] {
  const many = Array.from({ length: BULK }, () => event)
  return [
    {
      name: COPY,
      batch: sequential(async () => {
        const client = await raw.connect()
        const stream = fresh()
        const rows = many.map(
          (_, i) => `${stream}\t${i + 1}\t${event.type}\t${JSON.stringify(data)}\t${randomUUID()}\n`,
        )
        const copy = client.query(copyFrom('copy events (stream, version, type, data, id) from stdin'))
        await new Promise((resolve, reject) => copy.on('finish', resolve).on('error', reject).end(rows.join('')))
        client.release()
      }),
    },
    { name: 'pg, prepared INSERT of 1,000 rows', batch: sequential(() => insert(raw, fresh(), BULK)) },
    { name: OURS, batch: sequential(() => ours.append(fresh(), many)) },
  ]
}

type Placed = typeof event
const counter = {
  initial: () => 0,
  decide: (): Placed => event,
  evolve: (n: number) => n + 1,
}

/** Every command is a decision on the state that the one before has left. */
async function hot({ ours, emmett }: Stores): Promise<Candidate[]> {
  const repository = new Repository(ours, counter, { category: 'hot', cache: { max: 10 } })
  const { CommandHandler } = await import('@event-driven-io/emmett')
  const handle = CommandHandler<number, Placed>({
    evolve: counter.evolve,
    initialState: counter.initial,
    retry: { onVersionConflict: 1_000 },
  })
  await ours.append('hot-1', [event])
  return [
    { name: EMMETT, batch: sequential(() => handle(emmett, 'hot', () => event)) },
    { name: OURS, batch: sequential(() => repository.handle('1', () => event)) },
  ]
}

const LENGTH = 1_000

/** A stream read whole and folded. */
async function rehydrate({ raw, ours, emmett, castore }: Stores): Promise<Candidate[]> {
  const many = Array.from({ length: LENGTH }, () => event)
  await insert(raw, 'long', LENGTH)
  await ours.append('long-1', many)
  await emmett.appendToStream('long', many)
  for (let version = 1; version <= LENGTH; version++) await castore.pushEvent(pushed('long', version), orders)
  const repository = new Repository(ours, counter, { category: 'long' })
  const read = { name: 'read', text: 'select * from events where stream = $1 order by version', values: ['long'] }
  return [
    {
      name: 'pg, rows as objects (floor)',
      batch: sequential(async () => (await raw.query(read)).rows.reduce((n) => n + 1, 0)),
    },
    { name: OURS, batch: sequential(() => repository.load('1')) },
    {
      name: EMMETT,
      batch: sequential(() =>
        emmett.aggregateStream('long', { evolve: counter.evolve, initialState: counter.initial }),
      ),
    },
    {
      name: CASTORE,
      batch: sequential(async () => (await castore.getEvents('long', orders)).events.reduce((n) => n + 1, 0)),
    },
  ]
}

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

/** Appends, a stream with many writers, and reading, on a PostgreSQL that waits for the disk. */
export async function eventSourcingPostgres(): Promise<readonly Comparison[]> {
  const stores = await open()
  const of = (callers: number): Comparison => {
    const wanted: Record<number, [raw: number, emmett: number]> = {
      1: [0.9, 1.7],
      16: [1.5, 5],
      64: [2, 6],
      256: [4, 12],
    }
    const [than, emmett] = wanted[callers] as [number, number]
    return {
      title: `Event store on PostgreSQL, append to a new stream, ${callers} at once`,
      callers,
      candidates: appends(stores),
      targets: [
        { candidate: OURS, than: RAW, rate: than },
        { candidate: OURS, than: EMMETT, rate: emmett },
        ...(callers === 64 ? [{ candidate: OURS, than: CASTORE, rate: 3 }] : []),
      ],
    }
  }
  return [
    ...[1, 16, 64, 256].map(of),
    {
      title: 'Event store on PostgreSQL, append of 10 events, 16 at once',
      callers: 16,
      candidates: tens(stores),
      targets: [
        { candidate: OURS, than: 'pg, prepared INSERT of 10 rows (floor)', rate: 1 },
        { candidate: OURS, than: EMMETT, rate: 2.5 },
      ],
    },
    { title: 'Event store on PostgreSQL, append of 1,000 events', callers: 2, candidates: bulk(stores) },
    {
      title: 'Repository on PostgreSQL, one stream, 16 commands at once',
      callers: 16,
      candidates: await hot(stores),
      targets: [{ candidate: OURS, than: EMMETT, rate: 60 }],
    },
    {
      title: `Repository on PostgreSQL, a stream of ${LENGTH.toLocaleString('en-US')} events read and folded`,
      callers: 1,
      candidates: await rehydrate(stores),
      targets: [
        { candidate: OURS, than: 'pg, rows as objects (floor)', rate: 1.4 },
        { candidate: OURS, than: EMMETT, rate: 4 },
        { candidate: OURS, than: CASTORE, rate: 1.9 },
      ],
    },
    {
      title: `Projection on PostgreSQL, ${BEHIND.toLocaleString('en-US')} events behind`,
      callers: 1,
      candidates: await catchUp(stores),
      targets: [
        { candidate: OURS, than: EMMETT, rate: 40 },
        { candidate: OURS, ns: (BEHIND / 70_000) * 1e9 },
      ],
    },
  ]
}
