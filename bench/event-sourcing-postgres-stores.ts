import { randomUUID } from 'node:crypto'
import pg from 'pg'
// Before emmett, which changes the parsers of every pg in the process: ours and the raw client keep those that pg comes with.
import { ownTypes } from './pg-types.js'
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql'
import { PostgresEventStorageAdapter } from '@castore/event-storage-adapter-postgres'
import { PostgresEventStore } from 'holdfast/event-sourcing/postgres'
import { Servers } from '../scripts/servers.mjs'

export const data = {
  orderId: 'order-1',
  userId: 'user-1',
  cents: 1_999,
  items: [{ sku: 'tea', quantity: 2 }],
  note: 'x'.repeat(90),
}
export const event = { type: 'OrderPlaced', data }

export const OURS = 'holdfast'
export const EMMETT = 'emmett 0.42'
export const CASTORE = 'castore 2.4'

export interface Stores {
  /** Address of a new database. */
  readonly database: (name: string) => Promise<string>
  readonly raw: pg.Pool
  readonly ours: PostgresEventStore
  readonly emmett: ReturnType<typeof getPostgreSQLEventStore>
  readonly castore: PostgresEventStorageAdapter
}

/** A server that waits for the disk at each commit, with a database for each candidate. */
export async function open(): Promise<Stores> {
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

export const insert = (raw: pg.Pool, stream: string, count: number): Promise<unknown> => {
  const ids = Array.from({ length: count }, () => randomUUID())
  return raw.query({
    name: 'insert',
    text: `insert into events (stream, version, type, data, id)
      select $1, n, $2, d::jsonb, i from unnest($3::int[], $4::text[], $5::uuid[]) as e (n, d, i)`,
    values: [stream, event.type, ids.map((_, i) => i + 1), ids.map(() => JSON.stringify(data)), ids],
  })
}
/** What castore takes. */
export const pushed = (aggregateId: string, version: number) => ({
  aggregateId,
  version,
  type: event.type,
  payload: data,
})
export const orders = { eventStoreId: 'orders' }

export type Placed = typeof event
/** Counts the events of a stream. */
export const counter = {
  initial: () => 0,
  decide: (): Placed => event,
  evolve: (n: number) => n + 1,
}
