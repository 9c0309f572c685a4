import { expect } from 'vitest'
import { MemoryEventStore, MemorySnapshots, Repository } from '../../src/event-sourcing/index.js'
import { fc, prop } from '../support/prop.js'
import { Counter, counter, type CounterCommand, type CounterEvent, type CounterState } from './counter.js'

/** The counter, with snapshots. */
class Kept extends Counter {
  override snapshot(): unknown {
    return { limit: this.limit, total: this.total, status: this.status }
  }
  override restore(state: CounterState): void {
    if (state.status !== 'new') this.open0(state.limit)
    this.total = state.total
    if (state.status === 'closed') this.apply({ type: 'Closed', data: null })
  }
  open0(limit: number): void {
    this.apply({ type: 'Opened', data: { limit } })
  }
}

const command: fc.Arbitrary<CounterCommand> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('open' as const), limit: fc.integer({ min: 1, max: 60 }) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('add' as const), n: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('close' as const) }) },
)
/** What happens one after the other; what is in one list happens at the same time. By one of two processes. */
const history = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        process: fc.integer({ min: 0, max: 1 }),
        commands: fc.array(command, { minLength: 1, maxLength: 12 }),
      }),
    },
    { weight: 1, arbitrary: fc.constant('lose snapshots' as const) },
    { weight: 2, arbitrary: fc.record({ load: fc.integer({ min: 0, max: 1 }) }) },
  ),
  { maxLength: 14 },
)
const settings = fc.record({
  group: fc.constantFrom(1, 2, 64),
  cache: fc.option(fc.record({ max: fc.integer({ min: 1, max: 2 }) }), { nil: undefined }),
  every: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
})

prop(
  'snapshots, caches and groups never change a result, for deciders and classes, kept or not',
  [history, settings, fc.constantFrom('decider', 'class', 'kept class')],
  async (steps, { every, ...options }, kind) => {
    const store = new MemoryEventStore<CounterEvent>()
    const plainStore = new MemoryEventStore<CounterEvent>()
    const snapshots = new MemorySnapshots()
    const snapshot = every === undefined || kind === 'class' ? undefined : { every, revision: 1, store: snapshots }
    const plain = new Repository(plainStore, counter, { category: 'c', group: 1 })
    const run = (c: Counter, order: CounterCommand): void => {
      if (order.kind === 'open') c.open(order.limit)
      else if (order.kind === 'add') c.add(order.n)
      else c.close()
    }
    const start = (): { handle(c: CounterCommand): Promise<unknown>; load(version?: number): Promise<unknown> } => {
      const given = { category: 'c', retries: 100, snapshot, ...options }
      if (kind === 'decider') {
        const r = new Repository(store, counter, given)
        return { handle: (c) => r.handle('1', c).then(shown), load: (version) => r.load('1', { version }).then(shown) }
      }
      const r = new Repository(store, kind === 'class' ? Counter : Kept, given)
      return {
        handle: (c) => r.handle('1', (own) => run(own, c)).then(shown),
        load: (version) => r.load('1', { version }).then(shown),
      }
    }
    const processes = [start(), start()] as const
    const told = async (outcome: Promise<unknown>): Promise<unknown> => outcome.catch((error: Error) => error.message)
    for (const step of steps) {
      if (step === 'lose snapshots') await snapshots.drop('c-1')
      else if ('load' in step) expect(await processes[step.load as 0]?.load()).toEqual(shown(await plain.load('1')))
      else if (options.group === 1) {
        for (const c of step.commands) {
          expect(await told(processes[step.process as 0].handle(c))).toEqual(
            await told(plain.handle('1', c).then(shown)),
          )
        }
      } else {
        const outcomes = await Promise.all(step.commands.map((c) => told(processes[step.process as 0].handle(c))))
        const expected: unknown[] = []
        for (const c of step.commands) expected.push(await told(plain.handle('1', c).then(shown)))
        expect(outcomes).toEqual(expected)
      }
    }
    const { version } = await plain.load('1')
    for (let v = 0; v <= version; v++)
      expect(await start().load(v)).toEqual(shown(await plain.load('1', { version: v })))
  },
  { numRuns: 300 },
)

/** The same of both. */
function shown({
  state,
  version,
  exists,
  ...rest
}: {
  state: CounterState | Counter
  version: number
  exists: boolean
  events?: readonly { type: string; data: unknown; version: number }[]
  position?: number
}) {
  const { status, limit, total } = state
  const events = rest.events?.map((e) => [e.type, e.data, e.version])
  return { status, limit, total, version, exists, events, position: rest.position }
}
