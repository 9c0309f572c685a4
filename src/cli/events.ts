import { inspect, parseArgs } from 'node:util'
import { systemClock } from '../kernel/clock.js'
import { jsonCodec } from '../kernel/codec.js'
import { messageOf } from '../kernel/errors.js'
import { Doorbell } from '../event-sourcing/doorbell.js'
import { live, type EventStore, type Query, type ReadOptions, type Recorded } from '../event-sourcing/index.js'
import { openStore } from './stores.js'
import { printStates } from './states.js'
import { dateOf, fit, integerOf, quoted, UsageError, word, type Terminal } from './terminal.js'

export const EVENTS_HELP = `Usage: holdfast events [options] [stream]

Without a stream: the last events of the whole log. With one: its events.

  --database-url URL   PostgreSQL with the log (default: DATABASE_URL). Needs pg installed
  --schema NAME        schema of its tables (default: holdfast)
  --redis-url URL      Redis with the log, instead. Needs ioredis installed
  --namespace PREFIX   what its keys begin with (default: holdfast:{events}:)
  --limit N            at most so many events: the last ones, or the first after --after or --from (default: 20)
  --follow             then go on with what comes after them, until Ctrl-C
  --json               one JSON object per line; whole events

The whole log:
  --after POSITION     begin after this position
  --type TYPE          only events of this type (may be given several times: any of them)
  --tag TAG            only events with this tag (may be given several times: all of them)

One stream:
  --from VERSION, --to VERSION, --as-of DATE   inclusive bounds

Time travel: the state of a stream at several versions or moments, side by side; what differs from the column before is marked with *.
  --state MODULE#NAME  what makes the state: an aggregate class or a decider, exported by a module of yours
  --at LIST            versions or dates, separated by commas (default: the last two versions)

  holdfast events order-7 --state ./dist/order.js#Order --at 1,3,2026-01-31T12:00:00Z`

const OPTIONS = {
  'database-url': { type: 'string' },
  schema: { type: 'string' },
  'redis-url': { type: 'string' },
  namespace: { type: 'string' },
  limit: { type: 'string' },
  follow: { type: 'boolean' },
  json: { type: 'boolean' },
  after: { type: 'string' },
  type: { type: 'string', multiple: true },
  tag: { type: 'string', multiple: true },
  from: { type: 'string' },
  to: { type: 'string' },
  'as-of': { type: 'string' },
  state: { type: 'string' },
  at: { type: 'string' },
} as const

/** How long to wait for more when no hint comes. */
const POLL_MS = 500

type Values = ReturnType<typeof parse>['values']

const OF_LOG = ['after', 'type', 'tag'] as const
const OF_STREAM = ['from', 'to', 'as-of', 'state', 'at'] as const
/** What would be left aside, or go on past its bound. */
const APART = [
  ['state', ['from', 'to', 'as-of', 'limit', 'json', 'follow']],
  ['follow', ['to', 'as-of']],
] as const

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError(messageOf(error))
  }
}

/** Events for people. @throws UsageError when `args` can't be understood. */
export async function events(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parse(args)
  const [stream, ...more] = positionals
  if (more.length > 0) throw new UsageError(`one stream, not ${positionals.length}: ${positionals.join(' ')}`)
  const misplaced = (stream === undefined ? OF_STREAM : OF_LOG).find((option) => values[option] !== undefined)
  if (misplaced) throw new UsageError(`--${misplaced} goes ${stream === undefined ? 'with' : 'without'} a stream`)
  if (values.at !== undefined && values.state === undefined) throw new UsageError('--at goes with --state')
  for (const [option, others] of APART) {
    const other = values[option] !== undefined && others.find((each) => values[each] !== undefined)
    if (other) throw new UsageError(`--${other} goes without --${option}`)
  }
  const limit = integerOf('limit', values.limit, 1) ?? 20
  const readStream = boundsOf(values, limit)
  const readLog = { after: integerOf('after', values.after, 0), query: queryOf(values), limit }
  await using opened = await openStore(values, terminal)
  const { store } = opened
  if (stream === undefined) await printLog(store, readLog, values, terminal)
  else if (values.state !== undefined) await printStates(store, stream, values.state, values.at, terminal)
  else await printStream(store, stream, readStream, values, terminal)
}

function boundsOf(values: Values, limit: number): ReadOptions {
  const fromVersion = integerOf('from', values.from, 0)
  const toVersion = integerOf('to', values.to, 0)
  return { fromVersion, toVersion, asOf: dateOf('as-of', values['as-of']), limit }
}

function queryOf({ type: types, tag: tags }: Values): Query | undefined {
  return types || tags ? { items: [{ types, tags }] } : undefined
}

async function printStream(
  store: EventStore,
  stream: string,
  options: ReadOptions,
  values: Values,
  terminal: Terminal,
): Promise<void> {
  const { signal } = terminal
  const info = await store.info(stream)
  if (!info) throw new Error(`there is no stream ${JSON.stringify(stream)}`)
  const first = options.fromVersion !== undefined
  const found: Recorded[] = []
  for await (const event of store.read(stream, { ...options, direction: first ? 'forward' : 'backward', signal }))
    found.push(event)
  if (!first) found.reverse()
  for (const event of found) print(event, values, terminal)
  if (!values.follow) return
  let version = found.at(-1)?.version ?? Math.max(info.version, (options.fromVersion ?? 0) - 1)
  for await (const { version: newest } of live(store, stream, { initial: 0, evolve: (n) => n + 1 }, { signal })) {
    if (newest <= version) continue
    for await (const event of store.read(stream, { fromVersion: version + 1, signal })) {
      print(event, values, terminal)
      version = event.version
    }
  }
}

async function printLog(
  store: EventStore,
  { after, query, limit }: { after: number | undefined; query: Query | undefined; limit: number },
  values: Values,
  terminal: Terminal,
): Promise<void> {
  const { signal } = terminal
  let position = after ?? 0
  if (after === undefined) {
    const { events: last, head } = await lastOf(store, query, limit, signal)
    for (const event of last) print(event, values, terminal)
    position = head
  } else {
    const page = await store.readPage({ after, query, limit })
    for (const event of page.events) print(event, values, terminal)
    position = page.next
  }
  if (!values.follow) return
  const bell = new Doorbell(systemClock)
  store.wake(bell.ring)
  signal.addEventListener('abort', bell.ring, { once: true })
  for (;;) {
    signal.throwIfAborted()
    bell.reset()
    // oxlint-disable-next-line no-await-in-loop -- what follows is asked for again and again
    const page = await store.readPage({ after: position, query })
    for (const event of page.events) print(event, values, terminal)
    position = page.next
    if (page.events.length === 0) await bell.wait(POLL_MS, true) // oxlint-disable-line no-await-in-loop
  }
}

/** The last events that `query` picks: looks at ever more of the log's end until there are enough. */
async function lastOf(
  store: EventStore,
  query: Query | undefined,
  limit: number,
  signal: AbortSignal,
): Promise<{ readonly events: readonly Recorded[]; readonly head: number }> {
  const { head } = await store.readPage({ limit: 1 })
  for (let width = 10 * limit; ; width *= 10) {
    const found: Recorded[] = []
    const after = Math.max(0, head - width)
    // oxlint-disable-next-line no-await-in-loop -- more only where that was not enough
    for await (const event of store.readAll({ after, query, signal }))
      if (found.push(event) >= 2 * limit) found.splice(0, limit) // so that they never fill the memory
    if (found.length >= limit || after === 0)
      return { events: found.slice(-limit), head: Math.max(head, found.at(-1)?.position ?? 0) }
  }
}

function print(event: Recorded, { json }: Values, terminal: Terminal): void {
  if (json) return terminal.out(jsonCodec.encode({ ...event, recordedAt: event.recordedAt.toISOString() }))
  const { position, streamId, version, type, data, recordedAt, tags } = event
  const line = `${String(position).padStart(8)}  ${recordedAt.toISOString()}  ${word(streamId)}@${version}  ${word(type)}`
  const label = tags ? ` [${tags.map(quoted).join(' ')}]` : ''
  terminal.out(fit(`${line}  ${inspect(data, { breakLength: Infinity, depth: null })}${label}`, terminal))
}
