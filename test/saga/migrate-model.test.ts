import { expect, test } from 'vitest'
import { SagaMachine } from '../../src/saga/machine.js'
import {
  isHoldfastError,
  saga,
  signal,
  type JournalEntry,
  type SagaBuilder,
  type SagaDefinition,
} from '../../src/saga/index.js'
import type { ManualClock } from '../../src/testing/index.js'
import { fc, prop } from '../support/prop.js'
import { lab, rest } from './lab.js'

interface Leaf {
  readonly name: string
  readonly kind: 'step' | 'transaction' | 'wait' | 'sleep' | 'pivot'
  readonly fails: boolean
}
interface Block {
  readonly name: string
  readonly kind: 'parallel'
  readonly branches: readonly (readonly Leaf[])[]
}
type Item = Leaf | Block

const leafKind = fc.constantFrom('step' as const, 'step' as const, 'step' as const, 'transaction', 'wait', 'sleep')
const leaf = fc.record({ kind: leafKind, fails: fc.integer({ min: 0, max: 9 }).map((n) => n === 0) })
const branch = fc.array(leaf, { minLength: 1, maxLength: 2 })
const item = fc.oneof(
  { weight: 6, arbitrary: leaf },
  { weight: 1, arbitrary: fc.constant({ kind: 'pivot' as const, fails: false }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('parallel' as const),
      branches: fc.array(branch, { minLength: 1, maxLength: 2 }),
    }),
  },
)
type Nameless = typeof item extends fc.Arbitrary<infer T> ? T : never

const named = (it: Nameless, name: string): Item =>
  it.kind === 'parallel'
    ? { name, kind: it.kind, branches: it.branches.map((b, i) => b.map((l, n) => ({ ...l, name: `${name}${i}${n}` }))) }
    : { name, kind: it.kind, fails: it.fails }

/** A second pivot is a step. */
const onePivot = (items: readonly Item[]): Item[] => {
  const first = items.findIndex(({ kind }) => kind === 'pivot')
  return items.map((it, i) => (it.kind === 'pivot' && i !== first ? { ...it, kind: 'step' } : it))
}

const edit = fc.record({
  op: fc.constantFrom('append', 'append', 'insert', 'remove', 'rename', 'swap', 'replace'),
  at: fc.nat(6),
  item,
})

/** `items` with some changes. What is new has names of its own. */
function edited(items: readonly Item[], edits: readonly { op: string; at: number; item: Nameless }[]): Item[] {
  const result = [...items]
  for (const [i, { op, at: where, item: it }] of edits.entries()) {
    const at = where % result.length
    const fresh = named(it, `new${i}`)
    if (op === 'append') result.push(fresh)
    else if (op === 'insert') result.splice(at, 0, fresh)
    else if (op === 'remove' && result.length > 1) result.splice(at, 1)
    else if (op === 'rename') result[at] = { ...result[at]!, name: `new${i}` }
    else if (op === 'replace') result[at] = named(it, result[at]!.name)
    else if (op === 'swap' && at > 0) result.splice(at - 1, 2, result[at]!, result[at - 1]!)
  }
  return onePivot(result)
}

type Log = { readonly version: number; readonly what: 'run' | 'undo'; readonly path: string }[]
type AnyBuilder = SagaBuilder<number, unknown, unknown, 'saga' | 'branch'>
const GO = signal<number>('go')

function definitionOf(version: number, items: readonly Item[], clock: ManualClock, log: Log): SagaDefinition<number> {
  const add = (builder: AnyBuilder, it: Item): AnyBuilder => {
    if (it.kind === 'wait') return builder.waitFor(it.name, GO)
    if (it.kind === 'sleep') return builder.sleep(it.name, 40)
    if (it.kind === 'parallel') {
      const branches = it.branches.map((b, i) => [`b${i}`, (empty: AnyBuilder) => b.reduce(add, empty)])
      return builder.parallel(it.name, Object.fromEntries(branches) as never)
    }
    const run = async ({ path, signal: stop }: { path: string; signal: AbortSignal }): Promise<number> => {
      log.push({ version, what: 'run', path })
      await clock.sleep(10, stop)
      if (it.fails) throw new Error('scripted')
      return version
    }
    if (it.kind === 'pivot') return (builder as SagaBuilder<number, unknown, unknown>).pivot(it.name, { run })
    const compensate = ({ path }: { path: string }): unknown => log.push({ version, what: 'undo', path })
    return builder[it.kind as 'step'](it.name, { run, compensate })
  }
  const empty = saga<number>('s', { version }) as unknown as AnyBuilder
  return (items.reduce(add, empty) as SagaBuilder<number, unknown, unknown>).build()
}

const pathsOf = (it: Item): string[] =>
  it.kind === 'parallel' ? it.branches.flatMap((b, i) => b.map(({ name }) => `${it.name}/b${i}/${name}`)) : [it.name]

const shape = (items: readonly Item[]): unknown =>
  JSON.parse(JSON.stringify(items, (key, value: unknown) => (key === 'fails' ? undefined : value)))

const scenario = fc.record({
  items: fc.array(item, { minLength: 1, maxLength: 5 }).map((all) => onePivot(all.map((it, i) => named(it, `n${i}`)))),
  edits: fc.array(edit, { maxLength: 3 }),
  /** When the process ends, and how. */
  endsAt: fc.integer({ min: 0, max: 80 }),
  end: fc.constantFrom('close' as const, 'kill' as const),
  crash: fc.option(fc.record({ at: fc.nat(8), after: fc.boolean() })),
  signals: fc.nat(3),
  cancelled: fc.constantFrom('before', 'after', 'never', 'never'),
  /** Another process goes on with the old definition. */
  rival: fc.boolean(),
})

prop(
  'wherever a saga stands that is moved: it is left as it was, or ends as the new definition says, with what was done undone in reverse',
  [scenario],
  async ({ items, edits, endsAt, end, crash, signals, cancelled, rival }) => {
    const { clock, store, orchestrator } = lab()
    const log: Log = []
    const next = edited(items, edits)
    const [v1, v2] = [definitionOf(1, items, clock, log), definitionOf(2, next, clock, log)]
    const old = orchestrator([v1], { leaseMs: 500, graceMs: 100 })
    let left = crash?.at ?? Infinity
    old.line.before = () => (left-- > 0 ? undefined : crash?.after ? 'cut after' : 'cut')
    const sender = orchestrator([])
    await sender.run(v1, 1, { id: '1' })
    for (let i = 0; i < signals; i++) await sender.signal('1', GO, i)
    await clock.advance(endsAt)
    if (cancelled === 'before') await sender.cancel('1', 'no')
    await rest()
    if (end === 'close') void old.close()
    else old.line.cut()
    await clock.advance(1_000)
    const begun = new Set(log.map(({ path }) => path))
    if (rival) orchestrator([v1], { leaseMs: 500 })
    const o = orchestrator([v2], { leaseMs: 500 })

    const before = (await store.read('1'))!
    const isEnded = before.status === 'completed' || before.status === 'compensated'
    const told = before.journal.flatMap((r) => r.entries.flatMap((e) => ('path' in e ? [e.path] : [])))
    const last = Math.max(
      0,
      items.findLastIndex((it) => pathsOf(it).some((path) => begun.has(path) || told.includes(path))),
    )
    try {
      await o.migrate('1', { to: v2, from: v1 })
    } catch (error) {
      if (!isHoldfastError(error, 'SAGA_MIGRATION')) throw error
      const { reason } = error as unknown as { reason: string }
      if (rival) return // it may have gone on
      expect(reason === 'ended').toBe(isEnded)
      expect(await store.read('1')).toEqual(before)
      // what has begun is as it was, and so is what may be waited for
      if (!isEnded) expect(shape(next.slice(0, last + 1))).not.toEqual(shape(items.slice(0, last + 1)))
      return
    }
    const movedAt = log.length
    for (let i = 0; i < 8; i++) await sender.signal('1', GO, i)
    if (cancelled === 'after') await sender.cancel('1', 'no')
    await clock.advance(5_000)
    await rest()

    const view = (await o.get('1'))!
    expect(view).toMatchObject({ version: 2, definition: 'known' })
    expect(['completed', 'compensated', 'parked']).toContain(view.status)
    // of what has run nothing is unknown to the new definition, and the old one runs no more
    const known = new Set(next.flatMap(pathsOf))
    for (const { path } of log.slice(0, movedAt)) expect(known).toContain(path)
    for (const { version } of log.slice(movedAt)) expect(version).toBe(2)
    // recorded once
    const journal = (await store.read('1'))!.journal.flatMap((r) => r.entries)
    const of = (type: 'done' | 'compensated', entries: readonly JournalEntry[]): string[] =>
      entries.flatMap((e) => (e.type === type && known.has(e.path) ? [e.path] : []))
    const moved = journal.findIndex(({ type }) => type === 'migrated')
    const dropped = journal.flatMap((e) => (e.type === 'migrated' ? e.dropped : []))
    const undone = of('compensated', journal)
    const done = [
      ...of('done', journal.slice(0, moved)).filter((path) => !dropped.includes(path)),
      ...of('done', journal.slice(moved)),
    ]
    expect(new Set(done).size).toBe(done.length)
    expect(new Set(undone).size).toBe(undone.length)
    const leaves = next.flatMap((it): readonly Leaf[] => (it.kind === 'parallel' ? it.branches.flat() : [it]))
    if (view.status === 'completed') expect(done.toSorted()).toEqual([...known].toSorted())
    if (view.status === 'compensated') {
      const mustGo = done.filter((path) => {
        const { kind } = leaves.find(({ name }) => path.split('/').at(-1) === name)!
        return kind === 'step' || kind === 'transaction'
      })
      for (const path of mustGo) expect(undone).toContain(path)
    }
    if (leaves.some(({ kind, name }) => kind === 'pivot' && done.includes(name))) expect(undone).toEqual([])
    // in reverse: of two in one sequence, the one that was begun later is undone first
    const order = [...new Set(log.filter(({ what }) => what === 'run').map(({ path }) => path))]
    const begunAt = (path: string): number => (order.includes(path) ? order.indexOf(path) : Infinity) // about to begin
    for (const [i, path] of undone.entries())
      for (const later of undone.slice(i + 1)) {
        const [a, b] = [path.split('/'), later.split('/')]
        if (a[0] === b[0] && a[1] !== b[1]) continue // of two branches
        expect(begunAt(path)).toBeGreaterThan(begunAt(later))
      }
  },
  { numRuns: 200 },
)

test('what was written under each of several definitions is read as what it was there', () => {
  const machine = new SagaMachine(
    saga<number>('s', { version: 3 })
      .pivot('x', { run: () => 1 })
      .build(),
  )
  const did = [{ type: 'started', path: 'x' } as const, { type: 'done', path: 'x', value: '1' } as const]
  const pivotedAfter = (...kinds: ('step' | 'pivot')[]): boolean => {
    const [began, ...later] = kinds.map((kind, i): JournalEntry[] => [
      ...(i === 0 ? [] : did),
      {
        type: 'migrated',
        was: { version: i + 1, hash: '', began: i === 0 ? did : [], kinds: { x: kind } },
        ...{ to: { version: i + 2, hash: '' }, dropped: ['x'], who: 'ada' },
      },
    ])
    const base = { id: '1', name: 's', version: 3, hash: '', input: '1', deadlineMs: null, createdAt: 0, updatedAt: 0 }
    const journal = [began!, ...later].map((entries) => ({ at: 0, entries }))
    return machine.load({ ...base, status: 'running', epoch: 1, inbox: [], lastMessage: 0, journal }).pivoted
  }
  expect([pivotedAfter('step', 'step'), pivotedAfter('step', 'pivot'), pivotedAfter('pivot', 'step')]).toEqual([
    ...[false, true, true],
  ])
})
