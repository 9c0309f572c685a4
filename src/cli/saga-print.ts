import { inspect } from 'node:util'
import { jsonCodec } from '../kernel/codec.js'
import type { SagaDefinition, SagaNode } from '../saga/definition.js'
import type { HistoryEntry, RecordedError } from '../saga/journal.js'
import { toMermaid } from '../saga/mermaid.js'
import type { InboxMessage, SagaSummary, StoredSaga } from '../saga/store.js'
import type { SagaView } from '../saga/view.js'
import { accountOf, levelsOf, type Account, type Failure, type Level, type NodeTrace } from './saga-journal.js'
import { fit, visible, word, type Terminal } from './terminal.js'

/** One line for each of `sagas`, in columns. */
export function printList(sagas: readonly SagaSummary[], terminal: Terminal): void {
  const rows = sagas.map(({ id, name, version, status, createdAt, updatedAt }) => [
    word(id),
    `${word(name)}@${version}`,
    status,
    `since ${isoOf(createdAt)}`,
    `last write ${isoOf(updatedAt)}`,
  ])
  for (const line of columns(rows)) terminal.out(fit(line, terminal))
}

/** Everything the journal tells, for people. */
export function printSaga(saga: StoredSaga, terminal: Terminal): void {
  const { id, name, version, hash, status, epoch, createdAt, updatedAt, inbox } = saga
  const account = accountOf(saga)
  const { state, nodes } = account
  const out = (line: string): void => terminal.out(fit(line, terminal))
  out(`${word(id)}  ${word(name)}@${version}  ${status}`)
  const facts: [string, string][] = [
    ['began', isoOf(createdAt)],
    ['last write', isoOf(updatedAt)],
    ['owners', `${epoch} so far`],
    ['definition', hash],
    ['input', shown(saga.input)],
  ]
  if (state.deadlineAt !== Infinity) facts.push(['deadline', isoOf(state.deadlineAt)])
  if (state.failure) facts.push(['turned back', reasonOf(account)])
  if (state.late) facts.push(['too late', `${state.late.kind}: ${visible(state.late.reason)}`])
  if (status === 'parked') facts.push(['parked', parkedFor(account)])
  for (const line of columns(facts)) out(`  ${line}`)
  out('')
  out('nodes')
  if (nodes.length === 0) out('  none has come to anything yet: the beginning of the first is not recorded')
  for (const line of columns(rowsOf(levelsOf(nodes), saga, '  '))) out(line)
  if (state.history.length > 0) {
    out('')
    out('history')
    for (const line of columns(state.history.map(historyRow))) out(`  ${line}`)
  }
  if (inbox.length > 0) {
    out('')
    out('inbox')
    for (const line of columns(inbox.map(inboxRow))) out(`  ${line}`)
  }
}

/** The same for programs: plain JSON, but for values that JSON has no word for. */
export function jsonOf(saga: StoredSaga): string {
  const { input, journal: _, inbox, ...rest } = saga
  const { state, nodes } = accountOf(saga)
  const { direction, failure, late, history, deadlineAt } = state
  return jsonCodec.encode({
    ...rest,
    input: jsonCodec.decode(input),
    direction,
    deadlineAt: deadlineAt === Infinity ? null : deadlineAt,
    failure: failure ?? null,
    late: late ?? null,
    blocked: blockedOf(nodes),
    nodes: nodes.map(({ value, nextAt, failures, ...node }) => ({
      ...node,
      failures: failures.map(({ error, ...more }) => ({ ...more, error: error ?? null })),
      ...(nextAt === undefined ? {} : { nextAt: nextAt === Infinity ? null : nextAt }),
      ...(value === undefined ? {} : { value: jsonCodec.decode(value) }),
    })),
    history,
    inbox,
  })
}

/** A flowchart of what the journal knows; all nodes look like steps, for it does not tell their kinds. */
export function mermaidOf(saga: StoredSaga): string {
  const { nodes } = accountOf(saga)
  // the chart reads names, paths and branches alone
  const definition = { nodes: nodesOf(levelsOf(nodes)) } as unknown as SagaDefinition
  return toMermaid(definition, { nodes } as unknown as SagaView)
}

function nodesOf(levels: readonly Level[]): SagaNode[] {
  return levels.map(({ name, node, below }) => {
    const branches = below.map((branch) => ({ name: branch.name, nodes: nodesOf(branch.below) }))
    const found = node ? { kind: 'step', name, path: node.path } : { kind: 'parallel', name, branches }
    return found as unknown as SagaNode
  })
}

/** Paths that a parked saga waits for a decision about. */
export const blockedOf = (nodes: readonly NodeTrace[]): string[] =>
  nodes.filter(({ blocked }) => blocked).map(({ path }) => path)

function reasonOf({ state: { failure } }: Account): string {
  if (!failure) return ''
  const where = failure.path === undefined ? '' : ` at ${word(failure.path)}`
  return `${failure.kind}${where}: ${textOf(failure.error)}`
}

function parkedFor({ state, nodes }: Account): string {
  const back = state.direction === 'back'
  const reasons = nodes
    .filter(({ blocked }) => blocked)
    .map(({ path, status, failures }) => {
      const error = failures.at(-1)?.error
      const why = back ? 'its compensation failed' : status === 'unknown' ? 'nobody knows whether it is done' : 'failed'
      return `${word(path)}: ${why}${error ? ` (${textOf(error)})` : ''}`
    })
  return reasons.join('; ') || 'no node is known to be in its way'
}

const rowsOf = (levels: readonly Level[], saga: StoredSaga, indent: string): string[][] =>
  levels.flatMap(({ name, node, below }) => [
    node ? nodeRow(name, node, saga, indent) : [`${indent}${word(name)}/`],
    ...(node?.failures ?? []).map((failure) => [`${indent}    ${failureLine(failure, saga)}`]),
    ...rowsOf(below, saga, `${indent}  `),
  ])

function nodeRow(name: string, node: NodeTrace, { createdAt }: StoredSaga, indent: string): string[] {
  const { status, attempt, beganAt, changedAt, nextAt, value, blocked, path } = node
  const next =
    nextAt === undefined ? '' : nextAt === Infinity ? 'until it is told' : `until ${offset(nextAt, createdAt)}`
  const result = value === undefined || value === 'null' ? '' : shown(value)
  return [
    `${indent}${word(name)}`,
    status,
    attempt > 1 ? `attempt ${attempt}` : '',
    status === 'pending' ? '' : `${offset(beganAt, createdAt)} … ${offset(changedAt, createdAt)}`,
    [next, blocked ? `<- decide: ${word(path)}` : '', result].filter(Boolean).join('  '),
  ]
}

function failureLine({ at, of, attempt, error, maybe }: Failure, { createdAt }: StoredSaga): string {
  const what = error ? textOf(error) : 'its owner vanished'
  return `${offset(at, createdAt)}  ${of}, attempt ${attempt}: ${what}${maybe ? ' (may have had its effect)' : ''}`
}

const historyRow = ({ at, verb, path, who, why, applied, from, to }: HistoryEntry): string[] => [
  isoOf(at),
  verb === 'migrate' ? `migrate from version ${from} to ${to}` : path === undefined ? verb : `${verb} ${word(path)}`,
  `by ${word(who)}`,
  applied ? 'carried out' : 'did not fit: nothing followed',
  why === undefined ? '' : visible(why),
]

function inboxRow({ number, kind, name, payload }: InboxMessage): string[] {
  return [String(number), name === '' ? kind : `${kind} ${word(name)}`, shown(payload)]
}

/** How an error is told. */
export const textOf = ({ name, message, code }: RecordedError): string =>
  visible(`${name}${code === undefined ? '' : ` [${code}]`}: ${message}`)

const shown = (text: string): string => inspect(jsonCodec.decode(text), { breakLength: Infinity, depth: null })

const isoOf = (ms: number): string => new Date(ms).toISOString()

const offset = (ms: number, from: number): string => `+${((ms - from) / 1_000).toFixed(3)} s`

/** Cells under each other. A row with one cell alone takes part in nothing. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows)
    if (row.length > 1) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)))
  return rows.map((row) =>
    row
      .map((cell, i) => (row.length > 1 ? cell.padEnd(widths[i] as number) : cell))
      .join('  ')
      .trimEnd(),
  )
}
