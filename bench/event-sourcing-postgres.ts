import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import { gapSafety } from './event-sourcing-postgres-gaps.js'
import {
  CASTORE,
  data,
  EMMETT,
  event,
  insert,
  open,
  orders,
  OURS,
  pushed,
  type Stores,
} from './event-sourcing-postgres-stores.js'
import { sequential, type Candidate, type Comparison } from './harness.js'

const RAW = 'pg, prepared INSERT (floor)'

let streams = 0
const fresh = (): string => `order-${streams++}`

const insertOne = (raw: pg.Pool, stream: string): Promise<unknown> =>
  raw.query({
    name: 'insert-one',
    text: `insert into events (stream, version, type, data, id) values ($1, 1, $2, $3, $4)`,
    values: [stream, event.type, JSON.stringify(data), randomUUID()],
  })

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

/** Appends, on a PostgreSQL that waits for the disk. */
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
    ...(await gapSafety(stores)),
  ]
}
