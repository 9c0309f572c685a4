import { readFileSync } from 'node:fs'

// Reads a long stream whole and folds it, in a process that has nothing else in it, and tells the most memory that it has held, in bytes,
// and how many events came. Plain JavaScript: the compiler of the other files would be most of what is measured.

const [name, url, stream, length] = process.argv.slice(2)
const count = (n) => n + 1

const readers = {
  nothing: async (pg) => {
    await new pg.Pool({ connectionString: url, max: 1 }).query('select 1')
    return Number(length)
  },
  objects: async (pg) => {
    const pool = new pg.Pool({ connectionString: url, max: 1 })
    const text = 'select * from events where stream = $1 order by version'
    return (await pool.query(text, [stream])).rows.reduce(count, 0)
  },
  cursor: async (pg) => {
    const client = new pg.Client(url)
    await client.connect()
    await client.query('begin')
    await client.query(`declare c cursor for select * from events where stream = '${stream}' order by version`)
    let n = 0
    for (;;) {
      const { rows } = await client.query('fetch 1000 from c')
      if (rows.length === 0) return n
      n = rows.reduce(count, n)
    }
  },
  holdfast: async (pg) => {
    const { Repository } = await import('../dist/event-sourcing/index.js')
    const { PostgresEventStore } = await import('../dist/event-sourcing/postgres.js')
    const store = new PostgresEventStore(new pg.Pool({ connectionString: url, max: 1 }))
    const counter = { initial: () => 0, decide: () => [], evolve: count }
    const [category, id] = stream.split('-')
    return (await new Repository(store, counter, { category }).load(id)).state
  },
  emmett: async () => {
    const { getPostgreSQLEventStore } = await import('@event-driven-io/emmett-postgresql')
    const store = getPostgreSQLEventStore(url)
    return (await store.aggregateStream(stream, { evolve: count, initialState: () => 0 })).state
  },
}

const { default: pg } = await import('pg')
const start = performance.now()
const events = await readers[name](pg)
const ms = performance.now() - start
// What resourceUsage tells is, on Linux, also that of the process that has started this one.
const [, kilobytes] =
  process.platform === 'linux' ? /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) : []
const bytes = Number(kilobytes ?? process.resourceUsage().maxRSS) * 1_024
process.send({ events, ms, bytes }, () => process.exit(0))
