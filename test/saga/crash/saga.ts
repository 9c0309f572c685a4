import { constant, saga, signal, type SagaBuilder, type SagaDefinition } from '../../../src/saga/index.js'
import type { CompensateContext, InTransaction, RunContext } from '../../../src/saga/index.js'

// The saga of the crash matrix: steps, 2 x 2 in parallel, a wait, a transaction, the pivot, two steps after it.

/** Its steps by path, in their order. */
export const STEPS = ['a', 'b', 'p/l/l1', 'p/l/l2', 'p/r/r1', 'p/r/r2', 'ledger', 'charge', 'c', 'd'] as const
export type Path = (typeof STEPS)[number]

/** Those that can be undone. */
export const UNDOABLE: readonly Path[] = STEPS.slice(0, 7)

/** What goes wrong in it. `stuck`: the pivot fails, and then the compensation of `b`, for good. */
export type Scenario = 'forward' | 'no signal' | 'stuck' | `fail ${Path}`
export const SCENARIOS: readonly Scenario[] = [
  'forward',
  ...STEPS.map((path) => `fail ${path}` as const),
  'no signal',
  'stuck',
]

export const failsAt = (scenario: Scenario): string | undefined =>
  scenario === 'stuck' ? 'charge' : scenario.startsWith('fail ') ? scenario.slice(5) : undefined

/** How often the body at `path` fails before that is for good; 0: it does not. */
export function failures(scenario: Scenario, path: string, undo: boolean): number {
  if (undo) return scenario === 'stuck' && path === 'b' ? 2 : 0
  return failsAt(scenario) === path ? (path === 'charge' ? 1 : 2) : 0
}

export const approved = signal<string>('approved')

type Context = RunContext<unknown, unknown> & Partial<CompensateContext<unknown, unknown, unknown>>

/** What its bodies do. */
export interface Bodies {
  step(context: Context, undo: boolean): Promise<string>
  ledger(context: Context & InTransaction, undo: boolean): Promise<string>
}

const retry = { attempts: 2, backoff: constant(5) }

/** @param inTransaction whether `ledger` is a transaction, or a step like the others */
export function crashSaga(
  name: string,
  scenario: Scenario,
  bodies: Bodies,
  inTransaction: boolean,
): SagaDefinition<string> {
  const forward = { run: (context: Context) => bodies.step(context, false), retry }
  const both = { ...forward, compensate: (context: Context) => bodies.step(context, true), compensateRetry: retry }
  const timeoutMs = scenario === 'no signal' ? 250 : 600_000
  const begun = saga<string>(name, { version: 1 })
    .step('a', both)
    .step('b', both)
    .parallel('p', {
      l: (branch) => branch.step('l1', both).step('l2', both),
      r: (branch) => branch.step('r1', both).step('r2', both),
    })
    .waitFor('approval', approved, { timeoutMs }) as unknown as SagaBuilder<string, unknown, unknown>
  const booked = inTransaction
    ? begun.transaction('ledger', {
        run: (context) => bodies.ledger(context, false),
        compensate: (context) => bodies.ledger(context, true),
        retry,
        compensateRetry: retry,
      })
    : begun.step('ledger', both)
  return (booked as unknown as SagaBuilder<string, unknown, unknown>)
    .pivot('charge', { run: forward.run })
    .step('c', forward)
    .step('d', forward)
    .build()
}
