import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { Redis } from 'ioredis'
import { expect, inject, onTestFinished, test } from 'vitest'
import type { EventStore, Recorded } from '../../src/event-sourcing/index.js'
import { RedisEventStore } from '../../src/event-sourcing/redis.js'
import { systemClock } from '../../src/kernel/clock.js'
import { randomId } from '../../src/kernel/random.js'
import { seededRandom } from '../../src/testing/index.js'
import { bundle } from '../support/bundle.js'
import { begin, openPool, openStore } from './database.js'
import type { Writing } from './log-writer.js'

/*
 * Processes that write without end, some of them in slow transactions that are rolled back or lose their connection, and one of
 * which is killed every second, beside transactions that have nothing to do with the log. Several readers follow page by page and must
 * get every event once and in order; one that is naive runs too and loses some, so that the experiment can fail.
 *
 * LOST_EVENT_SECONDS=600 npx vitest run --project integration test/event-sourcing/no-lost-event
 */

const SECONDS = Number(process.env['LOST_EVENT_SECONDS'] ?? 2.5)
const WRITERS = 3
const READERS = 3
const TIMEOUT_MS = (SECONDS + 60) * 1_000

const pool = openPool({ max: 40 })
const worker = await bundle('test/event-sourcing/log-writer.ts')

/** Starts writers and, for some seconds, kills one of them every second or so. @returns how many were killed */
async function chaos(writing: Omit<Writing, 'writer' | 'seed'>): Promise<number> {
  const random = seededRandom(1)
  let seed = 0
  let killed = 0
  const start = (writer: number): ChildProcess => {
    const child = fork(worker)
    child.send({ ...writing, writer, seed: seed++ } satisfies Writing)
    return child
  }
  const writers = Array.from({ length: WRITERS }, (_, i) => start(i))
  onTestFinished(() => writers.forEach((child) => child.kill('SIGKILL')))
  await Promise.all(writers.map((child) => once(child, 'message'))) // they have begun
  const untilMs = systemClock.now() + SECONDS * 1_000
  while (systemClock.now() < untilMs) {
    await systemClock.sleep(500 + random() * 1_000)
    const victim = Math.floor(random() * WRITERS)
    writers[victim]?.kill('SIGKILL')
    killed++
    if (systemClock.now() < untilMs) writers[victim] = start(victim)
  }
  const gone = writers.map(async (child) => {
    if (child.exitCode === null && child.signalCode === null) await new Promise((done) => child.once('exit', done))
  })
  writers.forEach((child) => child.kill('SIGKILL'))
  await Promise.all(gone)
  return killed
}

/** Reads the log page by page until it is told to end, and then to its head. */
async function follow(store: EventStore, limit: number, isOver: () => boolean): Promise<Recorded[]> {
  const seen: Recorded[] = []
  for (let after = 0; ;) {
    const over = isOver()
    const { events, next, head } = await store.readPage({ after, limit })
    seen.push(...events)
    after = next
    if (over && next === head) return seen
    if (events.length === 0) await systemClock.sleep(2)
  }
}

const places = (events: readonly Recorded[]): string[] =>
  events.map(({ position, streamId, version }) => `${position}: ${streamId}@${version}`)

/** What every reader must have seen, and each stream without a gap. */
function check(seen: readonly Recorded[][], all: readonly string[]): void {
  for (const events of seen) {
    const got = places(events)
    const differs = all.findIndex((place, i) => place !== got[i]) // `toEqual` takes minutes for a million
    expect(got.slice(differs, differs + 3)).toEqual(all.slice(differs, differs + 3))
    expect(got).toHaveLength(all.length)
  }
  const versions = new Map<string, number>()
  for (const { streamId, version } of seen[0] as Recorded[]) {
    expect(version).toBe((versions.get(streamId) ?? 0) + 1)
    versions.set(streamId, version)
  }
}

test(
  'PostgreSQL: no event is lost, doubled or out of order, and no reader is held up by what does not concern it',
  { timeout: TIMEOUT_MS },
  async () => {
    const { store, schema } = await openStore(pool)
    const idle = await begin(pool) // open until the end: a write transaction of somebody else
    await idle.query(`create table "${schema}".idle (x int)`)
    // Two transactions whose order is certain: the naive reader has passed the first before it commits.
    const held = await begin(pool)
    await store.append('held', [{ type: 'e', data: 0 }], { tx: held })
    const letGo = systemClock.sleep(2_000).then(() => held.query('commit'))

    const state = { over: false }
    const naive = new Set<number>()
    const readNaively = async (): Promise<void> => {
      for (let after = 0; !state.over; await systemClock.sleep(2)) {
        const { rows } = await pool.query(`select pos from "${schema}".es_events where pos > $1 order by pos`, [after])
        for (const row of rows) naive.add(Number(row.pos))
        after = Number(rows.at(-1)?.pos ?? after)
      }
    }
    const readers = Array.from({ length: READERS }, (_, i) =>
      follow(store, [1_000, 50, 7][i] as number, () => state.over),
    )
    const readingNaively = readNaively()
    const killed = await chaos({ postgresUrl: inject('postgresUrl'), log: schema })
    await letGo
    await allGone(schema)
    state.over = true
    const [seen] = await Promise.all([Promise.all(readers), readingNaively])

    const { rows } = await pool.query(`select pos, stream, version from "${schema}".es_events order by pos`)
    check(
      seen,
      rows.map((row) => `${row.pos}: ${row.stream}@${row.version}`),
    )
    expect(rows.length).toBeGreaterThan(100)
    expect(killed).toBeGreaterThan(1)
    expect(rows.length - naive.size).toBeGreaterThan(0)
    console.log(
      `PostgreSQL: ${rows.length} events, ${killed} writers killed, lost by the naive reader: ${rows.length - naive.size}`,
    )
  },
)

/** The server ends what a killed process has begun, soon: until then its events may still come. */
async function allGone(schema: string): Promise<void> {
  const marks = `select count(*)::int as n from pg_locks where locktype = 'advisory' and objsubid = 2
    and classid = '"${schema}".es_pos'::regclass::oid`
  for (;;) {
    const { rows } = await pool.query(marks)
    if (rows[0].n === 0) return
    await systemClock.sleep(20)
  }
}

test('Redis: no event is lost, doubled or out of order', { timeout: TIMEOUT_MS }, async () => {
  const port = Number(new URL(inject('redisUrl')).port)
  const client = new Redis(port)
  const log = `lost-${randomId()}:`
  const store = new RedisEventStore(client, { namespace: log })
  onTestFinished(async () => {
    await client.quit()
  })
  const state = { over: false }
  /** Goes by time, as one does who has no positions: what comes within the same millisecond is lost. */
  const naive = new Set<number>()
  const readNaively = async (): Promise<void> => {
    for (let after = 0, last = 0; !state.over; await systemClock.sleep(2)) {
      const { events, next } = await store.readPage({ after, limit: 7 })
      for (const { recordedAt, position } of events) if (recordedAt.getTime() > last) naive.add(position)
      last = Math.max(last, ...events.map(({ recordedAt }) => recordedAt.getTime()))
      after = next
    }
  }
  const readers = Array.from({ length: READERS }, (_, i) =>
    follow(store, [1_000, 50, 7][i] as number, () => state.over),
  )
  const readingNaively = readNaively()
  await store.append(
    'burst',
    Array.from({ length: 100 }, () => ({ type: 'e', data: 0 })),
  ) // one millisecond, many pages
  const killed = await chaos({ redisPort: port, log })
  state.over = true
  const [seen] = await Promise.all([Promise.all(readers), readingNaively])
  const all: Recorded[] = []
  for await (const event of store.readAll()) all.push(event)
  check(seen, places(all))
  const { head } = await store.readPage({ limit: 1 })
  expect(all.every(({ position }, i) => position === i + 1)).toBe(true) // no gap
  expect(all).toHaveLength(head)
  expect(all.length).toBeGreaterThan(100)
  expect(killed).toBeGreaterThan(1)
  expect(all.length - naive.size).toBeGreaterThan(0)
  console.log(
    `Redis: ${all.length} events, ${killed} writers killed, lost by the naive reader: ${all.length - naive.size}`,
  )
})
