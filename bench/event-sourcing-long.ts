import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { ownTypes } from './pg-types.js'
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql'
import { Repository } from 'holdfast/event-sourcing'
import { PostgresEventStore, PostgresSnapshots } from 'holdfast/event-sourcing/postgres'
import { counter, EMMETT, event, insert, OURS, type Stores } from './event-sourcing-postgres-stores.js'
import { quantile, sequential, type Candidate, type Comparison, type Survey } from './harness.js'

const LENGTH = 100_000
const LONG = LENGTH.toLocaleString('en-US')
const CATEGORY = 'longer'
const ID = '1'
const STREAM = `${CATEGORY}-${ID}`
const PROCESSES = 5
const MOST_MB = 120
const SNAPSHOT_MS = 2

/** What reads it, as the worker knows them, and as they are called here. */
const READERS = {
  nothing: 'pg, connected (floor)',
  objects: 'pg, rows as objects',
  cursor: 'pg, cursor of 1,000 rows',
  holdfast: OURS,
  emmett: EMMETT,
}
type Reader = keyof typeof READERS

interface Read {
  readonly events: number
  readonly ms: number
  readonly bytes: number
}

/** The stream, in each database. */
interface Long {
  readonly urls: { readonly raw: string; readonly ours: string; readonly emmett: string }
  readonly ours: pg.Pool
}
/** It takes a while: made only for who wants it, once. */
type Making = () => Promise<Long>

async function make({ database, raw }: Stores): Promise<Long> {
  const urls = {
    raw: raw.options.connectionString ?? '',
    ours: await database('long'),
    emmett: await database('long_emmett'),
  }
  const ours = new pg.Pool({ connectionString: urls.ours, max: 4, types: ownTypes })
  const store = new PostgresEventStore(ours)
  await store.migrate()
  const emmett = getPostgreSQLEventStore(urls.emmett)
  await emmett.schema.migrate()
  const many = Array.from({ length: 1_000 }, () => event)
  await insert(raw, STREAM, LENGTH)
  for (let i = 0; i < LENGTH; i += many.length) {
    // oxlint-disable no-await-in-loop -- one after the other
    await store.append(STREAM, many)
    await emmett.appendToStream(STREAM, many)
    // oxlint-enable no-await-in-loop
  }
  await Promise.all([raw, ours].map((pool) => pool.query('analyze')))
  return { urls, ours }
}

function memory(long: Making): Survey {
  const read = async (reader: Reader): Promise<Read> => {
    const { urls } = await long()
    const url = reader === 'holdfast' ? urls.ours : reader === 'emmett' ? urls.emmett : urls.raw
    const child = fork('bench/event-sourcing-long-worker.mjs', [reader, url, STREAM, `${LENGTH}`], {
      execArgv: [],
      env: {},
    })
    const [told] = (await once(child, 'message')) as [Read]
    if (told.events !== LENGTH) throw new Error(`${reader} has read ${told.events} events`)
    return told
  }
  const survey = async (): ReturnType<Survey['survey']> => {
    const reads = new Map<Reader, Read[]>()
    for (let i = 0; i < PROCESSES; i++) {
      for (const reader of Object.keys(READERS) as Reader[]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        reads.set(reader, [...(reads.get(reader) ?? []), await read(reader)])
      }
    }
    const median = (reader: Reader, of: (one: Read) => number): number =>
      quantile((reads.get(reader) ?? []).map(of), 0.5)
    const mb = (reader: Reader): number => median(reader, ({ bytes }) => bytes / 2 ** 20)
    return {
      rows: [...reads.keys()].map((reader) => [
        READERS[reader],
        mb(reader).toFixed(0),
        reader === 'nothing'
          ? ''
          : Math.round(median(reader, ({ ms }) => LENGTH / (ms / 1_000))).toLocaleString('en-US'),
      ]),
      targets: [
        {
          goal: `holdfast in at most ${MOST_MB} MiB`,
          isMet: mb('holdfast') <= MOST_MB,
          shown: `${mb('holdfast').toFixed(0)} MiB`,
        },
      ],
    }
  }
  return {
    title: `Repository on PostgreSQL, a stream of ${LONG} events read and folded, each in a process of its own`,
    columns: ['most memory, MiB', 'events per second'],
    survey,
  }
}

const CACHED = 'holdfast, cache'
const SNAPSHOT = 'holdfast, snapshot'

/** What loads the state of the stream, that is known already: from memory, or from a snapshot. */
async function loads(db: pg.Pool): Promise<Record<typeof CACHED | typeof SNAPSHOT, () => Promise<unknown>>> {
  const store = new PostgresEventStore(db)
  const cached = new Repository(store, counter, { category: CATEGORY, cache: { max: 10 } })
  await cached.load(ID)
  const snapshot = { store: new PostgresSnapshots(db), every: 1_000, revision: 1 }
  const restored = new Repository(store, counter, { category: CATEGORY, snapshot })
  await restored.load(ID)
  // oxlint-disable-next-line no-await-in-loop -- it is written beside
  while (!(await snapshot.store.get(STREAM, snapshot.revision))) await sleep(10)
  return { [CACHED]: () => cached.load(ID), [SNAPSHOT]: () => restored.load(ID) }
}

/** How long it takes when the state is known. */
function times({ raw }: Stores, long: Making): Comparison {
  const last = {
    name: 'last',
    text: 'select * from events where stream = $1 and version >= $2 order by version limit 2000',
    values: [STREAM, LENGTH],
  }
  let making: ReturnType<typeof loads> | undefined
  const load = (name: typeof CACHED | typeof SNAPSHOT): Candidate => ({
    name,
    batch: async (n) => sequential((await (making ??= long().then(({ ours }) => loads(ours))))[name])(n),
  })
  return {
    title: `Repository on PostgreSQL, a stream of ${LONG} events whose state is known`,
    callers: 1,
    candidates: [
      {
        name: 'pg, prepared SELECT of the last event (floor)',
        batch: async (n) => {
          await long()
          await sequential(() => raw.query(last))(n)
        },
      },
      load(CACHED),
      load(SNAPSHOT),
    ],
    targets: [{ candidate: SNAPSHOT, ns: SNAPSHOT_MS * 1e6 }],
  }
}

interface Statement {
  readonly text: string
  readonly values: unknown[]
}

/** What is asked of the server when the state is known. */
function statements(long: Making): Survey {
  const survey = async (): ReturnType<Survey['survey']> => {
    const { ours } = await long()
    let asked: Statement[] = []
    let answered = 0
    const watched = new Proxy(ours, {
      get: (pool, property) => {
        if (property !== 'query') return Reflect.get(pool, property) as unknown
        return async (...args: [Statement] | [text: string, values: unknown[]]) => {
          const [query, values = []] = args
          asked.push(typeof query === 'string' ? { text: query, values } : query)
          const result = await pool.query(...(args as [pg.QueryConfig]))
          answered += result.rows.length
          return result
        }
      },
    })
    const rows: string[][] = []
    let shown = ''
    for (const [name, load] of Object.entries(await loads(watched))) {
      // oxlint-disable no-await-in-loop -- one after the other
      asked = []
      answered = 0
      await load()
      const [count, all] = [asked.length, answered]
      const plans = await Promise.all(asked.map(({ text, values }) => ours.query(`explain ${text}`, values)))
      const plan = JSON.stringify(plans.map(({ rows: lines }) => lines))
      const isIndexed = /Index Scan using es_events\w* on es_events/.test(plan) && !/Seq Scan on es_events/.test(plan)
      // oxlint-enable no-await-in-loop
      const cells = [`${count}`, `${all}`, isIndexed ? 'yes' : 'no']
      rows.push([name, ...cells])
      if (name === CACHED) shown = `${count} with ${all} rows, ${isIndexed ? 'by an index' : 'not by an index'}`
    }
    return {
      rows,
      targets: [
        {
          goal: 'with its cache, one statement for one row by an index',
          isMet: shown === '1 with 1 rows, by an index',
          shown,
        },
      ],
    }
  }
  return {
    title: `Repository on PostgreSQL, what is asked of a stream of ${LONG} events whose state is known`,
    columns: ['statements', 'rows', 'events by an index'],
    survey,
  }
}

/** A long stream: read whole by a process that does nothing else, and read when its state is known. */
export function longStream(stores: Stores): readonly (Comparison | Survey)[] {
  let making: Promise<Long> | undefined
  const long = (): Promise<Long> => (making ??= make(stores))
  return [memory(long), times(stores, long), statements(long)]
}
