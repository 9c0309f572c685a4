import { expect } from 'vitest'
import { everyNode } from '../../src/saga/definition.js'
import { signal, type SagaOrchestrator } from '../../src/saga/index.js'
import type { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { lab, rest } from './lab.js'
import { anyKind, definitionOf, sagaSpec } from './random-saga.js'
import { reference, type Log, type Outcome, type SagaSpec, type Sending, type Spec } from './reference.js'

const byTime = (log: Log): Log =>
  log.toSorted(([w, p, a], [v, q, b]) => a - b || (p < q ? -1 : p > q ? 1 : w < v ? -1 : 1))

prop('runs and compensates as the reference says, to the millisecond', [sagaSpec(anyKind)], async (spec) => {
  const expected = reference(spec)
  fc.pre(!expected.tie)
  const { clock, orchestrator } = lab()
  const log: Log = []
  const definition = definitionOf(spec, clock, log)
  const o = orchestrator([definition], { leaseMs: 500 }) // short: some pauses are sat out, others are not
  for (const sending of expected.signals) send(o, clock, sending)
  if (spec.stop?.kind === 'cancel') clock.setTimer(() => void o.cancel('1', 'stop'), spec.stop.at)
  await o.run(definition, 1, { id: '1' })
  await clock.advance(60_000)
  await rest()
  const view = await o.get('1')
  expect({ status: view?.status, log: byTime(log) }).toEqual({ status: expected.status, log: byTime(expected.log) })
  expect(clock.pendingTimers).toBe(0)
})

const sorted = (texts: readonly string[]): string[] => texts.toSorted((a, b) => (a < b ? -1 : 1))

function send(o: SagaOrchestrator, clock: ManualClock, [name, at, last]: Sending): void {
  const now = (): void => void o.signal('1', signal<number>(name), 1)
  clock.setTimer(last ? () => clock.setTimer(now, 0) : now, at)
}

const instant = (nodes: readonly Spec[]): Spec[] =>
  nodes.map((node) => {
    if ('script' in node) return { ...node, ms: 0, undoMs: 0, backoffMs: 0 }
    return node.kind === 'parallel' ? { ...node, branches: node.branches.map(instant) } : node
  })

prop(
  'runs each body once per attempt, and records its end once, also when many end at the same moment',
  [sagaSpec(anyKind)],
  async (spec) => {
    const { clock, store, orchestrator } = lab()
    const log: Log = []
    const quick = { ...spec, before: instant(spec.before), after: instant(spec.after) }
    const definition = definitionOf(quick, clock, log)
    const o = orchestrator([definition])
    await o.run(definition, 1, { id: '1' })
    await clock.advance(60_000)
    const entries = (await store.read('1'))!.journal.flatMap((record) => record.entries)
    const ends = entries.filter((e) => e.type === 'done' || e.type === 'compensated' || e.type === 'stuck')
    expect(new Set(ends.map((e) => `${e.type} ${(e as { path: string }).path}`)).size).toBe(ends.length)
    const undone = log.filter(([what]) => what !== 'run').map(([, path]) => path)
    expect(new Set(undone).size).toBe(undone.length)
    for (const node of everyNode(definition.nodes)) {
      const runs = log.filter(([what, path]) => what === 'run' && path === node.path).length
      expect(runs).toBeLessThanOrEqual('retry' in node ? node.retry.attempts : 0)
    }
  },
)

const certain = {
  outcomes: fc.oneof({ weight: 8, arbitrary: fc.constant<Outcome>('ok') }, fc.constant<Outcome>('fail')),
  pivots: fc.constant<Outcome>('ok'),
  undo: anyKind.undo,
}
/** Each step ends the same way at every attempt: a script would be read on by the bodies of processes that are dead. */
const always = (nodes: readonly Spec[]): Spec[] =>
  nodes.map((node) => {
    if ('script' in node) return { ...node, script: node.script.map(() => node.script[0]!) }
    return node.kind === 'parallel' ? { ...node, branches: node.branches.map(always) } : node
  })
const crash = fc.record({ at: fc.nat(12), after: fc.boolean() })

prop(
  'ends as the reference says whatever commits are the last of their process',
  [
    sagaSpec(certain).map((spec) => ({ ...spec, stop: null, before: always(spec.before), after: always(spec.after) })),
    fc.array(crash, { maxLength: 4 }),
  ],
  async (spec, crashes) => {
    const expected = reference(spec)
    fc.pre(!expected.tie)
    const { clock, store, effects, orchestrator } = lab()
    const log: Log = []
    const definition = definitionOf(spec, clock, log)
    let crashed = 0
    /** Each new owner is doomed to die at its own point, until no doom is left. */
    const begin = (): ReturnType<typeof orchestrator> => {
      const doom = crashes[crashed]
      const o = orchestrator([definition], { leaseMs: 500 })
      let left = doom?.at ?? Infinity
      o.line.before = () => {
        if (left-- > 0) return undefined
        crashed++
        clock.setTimer(() => (last = begin()), 100)
        return doom?.after ? 'cut after' : 'cut'
      }
      return o
    }
    let last = begin()
    const sender = orchestrator([])
    for (const sending of expected.signals) send(sender, clock, sending)
    await last.run(definition, 1, { id: '1' })
    await clock.advance(90_000)
    await rest()

    const view = await last.get('1')
    expect(crashed > 0 ? endsAfterCrash(spec, expected.status) : [expected.status]).toContain(view?.status)

    // recorded once, never started after that, and no more often than crashes explain
    const kinds = new Map([...everyNode(definition.nodes)].map((node) => [node.path, node]))
    const journal = (await store.read('1'))!.journal.flatMap((r) => r.entries)
    for (const type of ['done', 'compensated'] as const) {
      const paths = journal.filter((e) => e.type === type).map((e) => (e as { path: string }).path)
      expect(new Set(paths).size).toBe(paths.length)
      // of a transaction also its effect is there once
      const kept = effects.filter((text) => text.startsWith(type === 'done' ? 'run ' : 'undo '))
      const recorded = paths.filter((path) => kinds.get(path)?.kind === 'transaction')
      expect(sorted(kept.map((text) => text.split(' ')[1]!))).toEqual(sorted(recorded))
    }
    for (const [what, path] of log) if (kinds.get(path)?.kind === 'transaction') expect(what).not.toBe('undo unknown')
    const counts = new Map<string, number>()
    for (const [what, path] of log) {
      const key = `${what.split(' ')[0]} ${path}`
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
    const tries = Math.max(1, ...attemptsOf(spec.before), ...attemptsOf(spec.after))
    for (const count of counts.values()) expect(count).toBeLessThanOrEqual(tries + crashed)
    // order: of two steps in one sequence the later is undone first
    const undone = journal.filter((e) => e.type === 'compensated').map((e) => (e as { path: string }).path)
    for (const [i, path] of undone.entries())
      for (const later of undone.slice(i + 1)) {
        const [a, b] = diverge(path, later)
        if (a !== undefined && b !== undefined) expect(Number(a)).toBeGreaterThan(Number(b))
      }
  },
)

/**
 * How a saga may end whose process died. A step that was cut off and fails afterwards is `unknown`: it is undone too, and that may
 * get stuck. Of branches another may now fail first, before a step has run that would get stuck. And a wait may now be over too late.
 */
function endsAfterCrash({ before, after }: SagaSpec, expected: string): string[] {
  const kinds = new Set([...kindsOf(before), ...kindsOf(after)])
  if (kinds.has('wait')) return ['completed', 'compensated', 'parked']
  if (expected === 'compensated' || (expected === 'parked' && kinds.has('parallel'))) return ['compensated', 'parked']
  return [expected]
}

function* kindsOf(nodes: readonly Spec[]): Generator<Spec['kind']> {
  for (const node of nodes) {
    yield node.kind
    if (node.kind === 'parallel') for (const branch of node.branches) yield* kindsOf(branch)
  }
}

function* attemptsOf(nodes: readonly Spec[]): Generator<number> {
  for (const node of nodes) {
    if ('script' in node) yield node.script.length
    if (node.kind === 'parallel') for (const branch of node.branches) yield* attemptsOf(branch)
  }
}

/** The positions at which two paths part, if that is within one sequence. */
function diverge(a: string, b: string): [string | undefined, string | undefined] {
  const [x, y] = [a.split('/'), b.split('/')]
  const at = x.findIndex((part, i) => part !== y[i])
  const [p, q] = [x[at], y[at]]
  return p?.startsWith('n') && q?.startsWith('n') ? [p.split('x')[1], q.split('x')[1]] : [undefined, undefined]
}
