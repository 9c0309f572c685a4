import { parseArgs } from 'node:util'
import { jsonCodec } from '../kernel/codec.js'
import { messageOf } from '../kernel/errors.js'
import { SAGA_STATUSES, type SagaStatus } from '../saga/journal.js'
import type { SagaQuery, SagaStore } from '../saga/store.js'
import { give, read, type Verb, type Wish } from './saga-orders.js'
import { jsonOf, mermaidOf, printList, printSaga } from './saga-print.js'
import { openSagas } from './stores.js'
import { integerOf, quoted, UsageError, word, type Terminal } from './terminal.js'

export const SAGAS_HELP = `Usage: holdfast sagas [list] [options]               list
       holdfast sagas [show] ID [options]            one: nodes, errors, history, inbox
       holdfast sagas mermaid ID [options]           one, as a flowchart
       holdfast sagas retry ID [options]             parked: its nodes get their attempts anew
       holdfast sagas skip ID PATH [options]         parked: go on without this node
       holdfast sagas resolve ID PATH [options]      parked: this node was settled by hand
       holdfast sagas redrive ID --from NODE         parked or compensated: forward again from there
       holdfast sagas cancel ID --why TEXT           turn back

  --database-url URL   PostgreSQL with the sagas (default: DATABASE_URL). Needs pg installed
  --schema NAME        schema of its tables (default: holdfast)
  --redis-url URL      Redis with the sagas, instead. Needs ioredis installed
  --prefix PREFIX      what its keys begin with (default: holdfast:{saga}:)
  --json               one JSON object per line

List:
  --status STATUS      ${SAGA_STATUSES.join(', ')}
  --name NAME          only of this definition
  --stuck-for SECONDS  only those that have not ended and got no write for so long
  --limit N            at most so many (default: 20)
  --after ID           begin after this one: the next page

Show:
  --mermaid            a flowchart of what the journal knows, for Mermaid

Orders are kept in the saga's history and carried out by an orchestrator that knows its definition:
  --by WHO             who gives it
  --why TEXT           why
  --result JSON        of resolve: the node's result when the saga goes forward (default: null)
  --from NODE          of redrive: a node of the top level
  --yes                do not ask
  --timeout SECONDS    how long to wait until it is taken (default: 10)

  holdfast sagas --status parked
  holdfast sagas skip order-7 stock --by ada --why 'counted by hand' --yes`

const OPTIONS = {
  'database-url': { type: 'string' },
  schema: { type: 'string' },
  'redis-url': { type: 'string' },
  prefix: { type: 'string' },
  json: { type: 'boolean' },
  status: { type: 'string' },
  name: { type: 'string' },
  'stuck-for': { type: 'string' },
  limit: { type: 'string' },
  after: { type: 'string' },
  mermaid: { type: 'boolean' },
  by: { type: 'string' },
  why: { type: 'string' },
  result: { type: 'string' },
  from: { type: 'string' },
  yes: { type: 'boolean' },
  timeout: { type: 'string' },
} as const

type Values = ReturnType<typeof parse>['values']
type Option = keyof typeof OPTIONS

const ANYWHERE: readonly Option[] = ['database-url', 'schema', 'redis-url', 'prefix']
const ORDER: readonly Option[] = ['by', 'why', 'yes', 'timeout']
/** What each use takes besides {@link ANYWHERE}. */
const TAKES: Readonly<Record<Verb | 'list' | 'show' | 'mermaid', readonly Option[]>> = {
  list: ['json', 'status', 'name', 'stuck-for', 'limit', 'after'],
  show: ['json', 'mermaid'],
  mermaid: [],
  retry: ORDER,
  skip: ORDER,
  resolve: [...ORDER, 'result'],
  redrive: [...ORDER, 'from'],
  cancel: ORDER,
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new UsageError(messageOf(error))
  }
}

/** Sagas for people. @throws UsageError when `args` can't be understood. */
export async function sagas(args: readonly string[], terminal: Terminal): Promise<void> {
  const { values, positionals } = parse(args)
  const [use, ...rest] = useOf(positionals)
  const taken = [...ANYWHERE, ...TAKES[use]]
  const misplaced = (Object.keys(values) as Option[]).find((option) => !taken.includes(option))
  if (misplaced) throw new UsageError(`--${misplaced} does not go with ${use === 'list' ? 'a list' : use}`)
  if (values.json && values.mermaid) throw new UsageError('--mermaid goes without --json')
  const task = taskOf(use, rest, values)
  await using opened = await openSagas(values, terminal)
  await task(opened.store, terminal)
}

/** A saga whose id is a word of this command is reached by `show`. */
function useOf([first, ...rest]: readonly string[]): [use: keyof typeof TAKES, ...rest: string[]] {
  if (first === undefined) return ['list']
  if (Object.hasOwn(TAKES, first)) return [first as keyof typeof TAKES, ...rest]
  return ['show', first, ...rest]
}

type Store = SagaStore & Required<Pick<SagaStore, 'list'>>
type Task = (store: Store, terminal: Terminal) => Promise<void>

/** Everything is understood before anything is opened. */
function taskOf(use: keyof typeof TAKES, rest: readonly string[], values: Values): Task {
  if (use === 'list') {
    if (rest.length > 0) throw new UsageError(`list takes no id, not ${rest[0]}`)
    const query = queryOf(values)
    return (store, terminal) => list(store, query, values, terminal)
  }
  const withPath = use === 'skip' || use === 'resolve'
  const [id, path = '', ...more] = rest
  if (id === undefined) throw new UsageError(`${use}: of which saga? Give its id`)
  if (withPath && path === '') throw new UsageError(`${use}: which node? Give its path, as sagas show tells it`)
  if (more.length > 0 || (!withPath && path !== ''))
    throw new UsageError(`${use} takes ${withPath ? 'an id and a path' : 'one id'}, not also ${rest.at(-1)}`)
  if (use === 'show') return (store, terminal) => show(store, id, values, terminal)
  if (use === 'mermaid') return (store, terminal) => show(store, id, { mermaid: true }, terminal)
  const wish = wishOf(use, id, path, values)
  return (store, terminal) => give(store, wish, terminal)
}

function wishOf(verb: Verb, id: string, path: string, values: Values): Wish {
  const { by: who, why, from, yes = false } = values
  if (!who) throw new UsageError(`${verb}: --by WHO is kept in the saga's history; give it`)
  if (verb === 'cancel' && !why) throw new UsageError('cancel: --why TEXT is what the saga turns back for; give it')
  if (verb === 'redrive' && !from) throw new UsageError('redrive: from which node on? Give --from NODE')
  if (from?.includes('/')) throw new UsageError('--from: a node of the top level, not one of a branch')
  const seconds = integerOf('timeout', values.timeout, 1) ?? 10
  const result = resultOf(values.result)
  return { verb, id, path: from ?? path, who, why, yes, result, timeoutMs: seconds * 1_000 }
}

function resultOf(text: string | undefined): unknown {
  if (text === undefined) return null
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new UsageError(`--result: expected JSON, got ${quoted(text)}: ${messageOf(error)}`)
  }
}

function queryOf({ status, name, after, limit, 'stuck-for': stuckFor }: Values): SagaQuery {
  if (status !== undefined && !SAGA_STATUSES.includes(status as SagaStatus))
    throw new UsageError(`--status: expected ${SAGA_STATUSES.join(', ')}, got ${quoted(status)}`)
  const seconds = integerOf('stuck-for', stuckFor, 0)
  return {
    status: status as SagaStatus | undefined,
    name,
    after,
    limit: integerOf('limit', limit, 1) ?? 20,
    stuckForMs: seconds === undefined ? undefined : seconds * 1_000,
  }
}

async function list(store: Store, query: SagaQuery, { json }: Values, terminal: Terminal): Promise<void> {
  const found = await store.list({ ...query, limit: query.limit + 1 }) // one more, to know whether there are
  const page = found.slice(0, query.limit)
  if (json) for (const saga of page) terminal.out(jsonCodec.encode(saga))
  else printList(page, terminal)
  if (page.length === 0) terminal.err('no sagas')
  if (found.length > page.length) terminal.err(`there are more: --after ${word((page.at(-1) as { id: string }).id)}`)
}

async function show(store: SagaStore, id: string, { json, mermaid }: Values, terminal: Terminal): Promise<void> {
  const saga = await read(store, id)
  if (json) terminal.out(jsonOf(saga))
  else if (mermaid) for (const line of mermaidOf(saga).split('\n')) terminal.out(line)
  else printSaga(saga, terminal)
}
