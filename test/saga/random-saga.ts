import { TimeoutError } from '../../src/kernel/errors.js'
import { constant, saga, signal, type SagaBuilder, type SagaDefinition } from '../../src/saga/index.js'
import type { ManualClock } from '../../src/testing/index.js'
import { fc } from '../support/prop.js'
import { nameOf, type Log, type Outcome, type SagaSpec, type Spec } from './reference.js'

const ms = fc.integer({ min: 1, max: 900 })

export interface Kinds {
  /** What the scripts of steps are made of. */
  readonly outcomes: fc.Arbitrary<Outcome>
  readonly pivots: fc.Arbitrary<Outcome>
  readonly undo: fc.Arbitrary<'none' | 'ok' | 'fail'>
}

/** Mostly fine, else most sagas would fail in their first step. */
export const anyKind: Kinds = {
  outcomes: fc.oneof({ weight: 6, arbitrary: fc.constant<Outcome>('ok') }, fc.constantFrom<Outcome>('fail', 'unsure')),
  pivots: fc.oneof({ weight: 3, arbitrary: fc.constant<Outcome>('ok') }, fc.constantFrom<Outcome>('fail', 'unsure')),
  undo: fc.oneof(
    { weight: 6, arbitrary: fc.constant('ok' as const) },
    fc.constantFrom('none' as const, 'fail' as const),
  ),
}

export const sagaSpec = ({ outcomes, pivots, undo }: Kinds): fc.Arbitrary<SagaSpec> => {
  const step = fc.record({
    kind: fc.oneof(
      { weight: 3, arbitrary: fc.constant('step' as const) },
      { weight: 1, arbitrary: fc.constant('transaction' as const) },
    ),
    script: fc.oneof(
      { weight: 4, arbitrary: outcomes.map((o) => [o]) },
      fc.array(outcomes, { minLength: 2, maxLength: 3 }),
    ),
    ms,
    backoffMs: ms,
    undo,
    undoMs: ms,
  })
  const wait = fc.record({
    kind: fc.constant('wait' as const),
    sentAt: fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 1, max: 2_000 }) },
      { weight: 2, arbitrary: fc.constant(null) },
      { weight: 2, arbitrary: fc.constantFrom('just in time' as const, 'just too late' as const) },
    ),
    timeoutMs: fc.integer({ min: 1_000, max: 4_000 }),
  })
  const sleep = fc.record({ kind: fc.constant('sleep' as const), ms: fc.integer({ min: 0, max: 1_500 }) })
  const { nodes } = fc.letrec<{ nodes: Spec[]; node: Spec }>((tie) => ({
    nodes: fc.array(tie('node'), { maxLength: 4 }),
    node: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      { weight: 5, arbitrary: step },
      { weight: 1, arbitrary: wait },
      { weight: 1, arbitrary: sleep },
      {
        weight: 3,
        arbitrary: fc.record({
          kind: fc.constant('parallel' as const),
          branches: fc.array(tie('nodes'), { minLength: 1, maxLength: 3 }),
          limit: fc.integer({ min: 1, max: 3 }),
        }),
      },
    ),
  }))
  return fc.record({
    before: fc.tuple(step, nodes).map(([first, rest]) => [first, ...rest]),
    pivot: fc.option(fc.record({ outcome: pivots, ms })),
    after: nodes,
    stop: fc.option(
      fc.record({
        kind: fc.constantFrom('deadline' as const, 'cancel' as const),
        at: fc.integer({ min: 1, max: 4_000 }),
      }),
    ),
    onCompensationFailure: fc.constantFrom('park' as const, 'continue' as const),
  })
}

type AnyBuilder = SagaBuilder<number, unknown, unknown, 'saga' | 'branch'>

const settle = (outcome: Outcome): void => {
  if (outcome === 'fail') throw new Error('scripted')
  if (outcome === 'unsure') throw new TimeoutError('scripted', 0)
}

/** The definition of a spec. Its bodies write down when they start, and take their time; a transaction says `run` or `undo` and its path. */
export function definitionOf(spec: SagaSpec, clock: ManualClock, log: Log): SagaDefinition<number> {
  const begin = clock.now()
  const note = (what: Log[number][0], path: string): void => void log.push([what, path, clock.now() - begin])

  const add = (builder: AnyBuilder, node: Spec, name: string, at: string): AnyBuilder => {
    const path = at === '' ? name : `${at}/${name}`
    switch (node.kind) {
      case 'sleep':
        return builder.sleep(name, node.ms)
      case 'wait':
        return builder.waitFor(name, signal<number>(path), { timeoutMs: node.timeoutMs })
      case 'step':
      case 'transaction': {
        let failures = 0 // of attempts that ended: a crash is no failure
        return builder[node.kind as 'transaction'](name, {
          run: async (context) => {
            note('run', context.path)
            await context.tx?.query(`run ${context.path}`)
            if (node.ms > 0) await clock.sleep(node.ms, context.signal)
            settle(node.script[Math.min(failures++, node.script.length - 1)]!)
          },
          ...(node.undo === 'none'
            ? {}
            : {
                compensate: async ({ path: own, outcome, tx }) => {
                  note(`undo ${outcome}`, own)
                  await tx?.query(`undo ${own}`)
                  if (node.undoMs > 0) await clock.sleep(node.undoMs)
                  if (node.undo === 'fail') throw new Error('scripted')
                },
              }),
          retry: { attempts: node.script.length, backoff: constant(node.backoffMs) },
          compensateRetry: { attempts: 1 },
        })
      }
      case 'parallel': {
        const branches = node.branches.map((branch, i) => [
          `b${i}`,
          (b: AnyBuilder) => addAll(b, branch, `${path}/b${i}`, 0),
        ])
        return builder.parallel(name, Object.fromEntries(branches) as never, { limit: node.limit })
      }
    }
  }
  const addAll = (builder: AnyBuilder, nodes: readonly Spec[], at: string, offset: number): AnyBuilder =>
    nodes.reduce((b, node, i) => add(b, node, nameOf(at, i + offset), at), builder)

  const { before, pivot, after, stop, onCompensationFailure } = spec
  const deadlineMs = stop?.kind === 'deadline' ? stop.at : undefined
  let builder = saga<number>('random', { version: 1, deadlineMs, onCompensationFailure }) as unknown as AnyBuilder
  builder = addAll(builder, before, '', 0)
  if (pivot) {
    builder = (builder as SagaBuilder<number, unknown, unknown>).pivot('pivot', {
      run: async () => {
        note('run', 'pivot')
        await clock.sleep(pivot.ms)
        settle(pivot.outcome)
      },
    })
    builder = addAll(builder, after, '', before.length + 1)
  }
  return (builder as SagaBuilder<number, unknown, unknown>).build()
}
