import { describe, expect, expectTypeOf, test } from 'vitest'
import {
  saga,
  SagaOrchestrator,
  MemorySagaStore,
  signal,
  toMermaid,
  type SagaOutcome,
  type SagaStore,
} from '../../src/saga/index.js'
import { lab } from './lab.js'

const invalid = expect.objectContaining({ code: 'INVALID_OPTION' })
const run = (): number => 1

describe('a definition', () => {
  test('infers what later bodies see, what compensation gets and what comes out', () => {
    const approved = signal<{ by: string }>('approved')
    const order = saga<{ sku: string }>('order', { version: 1 })
      .step('reserve', {
        run: async ({ input, results }) => {
          expectTypeOf(input).toEqualTypeOf<{ sku: string }>()
          expectTypeOf(results).toBeUnknown()
          return { ticket: 1 }
        },
        compensate: ({ result, outcome }) => {
          expectTypeOf(result).toEqualTypeOf<{ ticket: number } | undefined>()
          expectTypeOf(outcome).toEqualTypeOf<'done' | 'unknown'>()
        },
      })
      .parallel('checks', {
        fraud: (b) => b.step('score', { run: ({ results }) => results.reserve.ticket }),
        credit: (b) =>
          b.step('limit', { run: () => 'high' }).step('ok', { run: ({ results }) => results.limit === 'high' }),
      })
      .waitFor('approval', approved, { timeoutMs: 1 })
      .pivot('charge', {
        run: ({ results }) => {
          expectTypeOf(results.checks.fraud.score).toBeNumber()
          expectTypeOf(results.checks.credit.ok).toBeBoolean()
          expectTypeOf(results.approval.by).toBeString()
        },
      })
      .build()
    const o = new SagaOrchestrator({ store: new MemorySagaStore(), sagas: [order] })
    const typed = async () => (await o.run(order, { sku: 'x' }, { id: '1' })).settled()
    type Results = Extract<Awaited<ReturnType<typeof typed>>, { status: 'completed' }>['results']
    expectTypeOf<Results['reserve']>().toEqualTypeOf<{ ticket: number }>()
    expectTypeOf<Awaited<ReturnType<typeof typed>>>().toExtend<SagaOutcome<unknown>>()
    // @ts-expect-error the input is another
    void (() => o.run(order, { sku: 1 }, { id: '1' }))
    // @ts-expect-error the payload is another
    void (() => o.signal('1', approved, { by: 1 }))
  })

  test('refuses names that are taken, in its own or an outer scope', () => {
    const begun = saga<number>('order', { version: 1 }).step('a', { run })
    // @ts-expect-error taken
    expect(() => begun.step('a', { run })).toThrow(invalid)
    // @ts-expect-error taken
    expect(() => begun.sleep('a', 1)).toThrow(invalid)
    // @ts-expect-error taken outside
    expect(() => begun.parallel('p', { x: (b) => b.step('a', { run }) })).toThrow(invalid)
    const twins = begun.parallel('p', { x: (b) => b.step('b', { run }), y: (b) => b.step('b', { run }) })
    expect(twins.build().nodes).toHaveLength(2)
  })

  test('may have one pivot, outside of branches', () => {
    const pivoted = saga<number>('order', { version: 1 }).pivot('p', { run })
    expect(() => pivoted.pivot('q', { run })).toThrow(invalid)
    // @ts-expect-error not in a branch
    expect(() => pivoted.parallel('x', { a: (b) => b.pivot('q', { run }) })).toThrow(invalid)
    expect(() => pivoted.step('s', { run }).build()).not.toThrow()
  })

  test('is a value: a builder goes on in two ways', () => {
    const stem = saga<number>('order', { version: 1 }).step('a', { run })
    const one = stem.step('b', { run }).build()
    const two = stem.step('c', { run }).build()
    expect([one, two].map((d) => d.nodes.map((n) => n.path))).toEqual([
      ['a', 'b'],
      ['a', 'c'],
    ])
  })

  test('tells nodes apart whatever their names', () => {
    const order = saga<number>('order', { version: 1 })
      .step('a/b', { run })
      .parallel('a', { b: (b) => b.step('~1', { run }) })
      .build()
    expect(order.nodes.map((n) => n.path)).toEqual(['a~1b', 'a'])
  })

  test('checks its options', () => {
    const begun = saga<number>('order', { version: 1 })
    for (const wrong of [
      () => saga('', { version: 1 }),
      () => saga('x', { version: 0 }),
      () => saga('x', { version: 1, deadlineMs: 0 }),
      () => saga('x', { version: 1, onCompensationFailure: 'ignore' as never }),
      () => begun.build(),
      () => begun.step('', { run }),
      () => begun.step('a', { run: 1 as never }),
      () => begun.step('a', { run, retry: { attempts: 0 } }),
      () => begun.step('a', { run, timeoutMs: -1 }),
      () => begun.step('a', { run, compensate: 'x' as never }),
      () => begun.sleep('a', -1),
      () => begun.parallel('a', {}),
      () => begun.parallel('a', { x: (b) => b }, { limit: 0 }),
      () => begun.waitFor('a', signal('s'), { timeoutMs: 0 }),
      () => signal(''),
      () => signal('s', {} as never),
      () => saga('x', { version: 1, input: {} as never }),
      () => begun.waitFor('a', signal('s'), 5 as never),
      () => begun.parallel('a', { x: (b) => b }, 5 as never),
      () => begun.parallel('a', { x: () => undefined as never }),
      () => begun.parallel('a', { x: (async (b: unknown) => b) as never }),
      () => begun.parallel('a', { x: () => begun.step('elsewhere', { run }) as never }),
    ])
      expect(wrong).toThrow(invalid)
  })

  test('branches without nodes are there in the results, as the types say', async () => {
    const seen: unknown[] = []
    const order = saga<number>('order', { version: 1 })
      .parallel('none', { x: (b) => b, y: (b) => b.parallel('in', { z: (c) => c }) })
      .step('a', { run: ({ results }) => void seen.push(results.none.x, results.none.y.in.z) })
      .build()
    const handle = await lab().orchestrator([order]).run(order, 1, { id: '1' })
    expect(await handle.settled()).toMatchObject({ results: { none: { x: {}, y: { in: { z: {} } } } } })
    expect(seen).toEqual([{}, {}])
  })

  test('stands once per name and version in an orchestrator, whose options are checked', () => {
    const order = saga<number>('order', { version: 1 }).step('a', { run }).build()
    const store = new MemorySagaStore()
    for (const options of [
      { sagas: [order, order] },
      { leaseMs: 0 },
      { concurrency: 0 },
      { graceMs: -1 },
      { pollMs: 0 },
      { sagas: {} as never },
      { sagas: [null as never] },
      { sagas: [saga('x', { version: 1 }).step('a', { run }) as never] },
      { store: {} as never },
      { clock: {} as never },
      { random: 1 as never },
      { bus: {} as never },
    ])
      expect(() => new SagaOrchestrator({ store, ...options })).toThrow(invalid)
    for (const options of [{ retainMs: -1 }, { clock: {} }, 1, null])
      expect(() => new MemorySagaStore(options as never)).toThrow(invalid)
  })

  test('a store needs no more than the six verbs; of one without a list there is none', async () => {
    const order = saga<number>('order', { version: 1 }).step('a', { run }).build()
    const memory = new MemorySagaStore()
    const verbs = ['create', 'claim', 'renew', 'commit', 'deliver', 'read'] as const
    const store = Object.fromEntries(verbs.map((verb) => [verb, memory[verb].bind(memory)])) as unknown as SagaStore
    await using orchestrator = new SagaOrchestrator({ store, sagas: [order], pollMs: 5 })
    orchestrator.start()
    expect(await (await orchestrator.run(order, 1, { id: '1' })).settled()).toMatchObject({ status: 'completed' })
    await expect(orchestrator.list()).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/^store: /) as unknown,
    })
  })

  test('an orchestrator refuses arguments that are none by their name', async () => {
    const order = saga<number>('order', { version: 1 }).step('a', { run }).build()
    const orchestrator = new SagaOrchestrator({ store: new MemorySagaStore(), sagas: [order] })
    const none = undefined as never
    for (const [name, wrong] of [
      ['options', () => orchestrator.run(order, 1, none)],
      ['id', () => orchestrator.run(order, 1, { id: '' })],
      ['definition', () => orchestrator.run(none, 1, { id: 'a' })],
      ['definition', () => orchestrator.run(saga('x', { version: 1 }).step('a', { run }) as never, 1, { id: 'a' })],
      ['signal', () => orchestrator.signal('a', none, 1)],
      ['dedupeId', () => orchestrator.signal('a', signal('s'), 1, { dedupeId: 5 as never })],
      ['by.why', () => orchestrator.retry('a', { who: 'ann', why: 5 as never })],
      ['id', () => orchestrator.get(none)],
      ['id', () => orchestrator.signal(5 as never, signal('s'), 1)],
      ['id', () => orchestrator.cancel(none, 'why')],
      ['id', () => orchestrator.retry(none, 'ann')],
      ['path', () => orchestrator.skip('a', none, 'ann')],
      ['from', () => orchestrator.redrive('a', {} as never)],
      ['options', () => orchestrator.redrive('a', none)],
      ['name', () => orchestrator.list({ name: 5 as never })],
      ['after', () => orchestrator.list({ after: 5 as never })],
      ['status', () => orchestrator.list({ status: 'gone' as never })],
      ['limit', () => orchestrator.list({ limit: 0 })],
    ] as const) {
      const refused = { code: 'INVALID_OPTION', message: expect.stringMatching(`^${name}: `) as unknown }
      await expect(wrong()).rejects.toMatchObject(refused)
    }
  })
})

describe('toMermaid', () => {
  test('draws a definition, and with a view how far a saga is', async () => {
    const order = saga<number>('order', { version: 1 })
      .step('reserve "it"', { run })
      .parallel('checks', { fraud: (b) => b.step('score', { run }), credit: (b) => b.sleep('settle', 5) })
      .waitFor('approval', signal('approved'))
      .pivot('charge', { run })
      .build()
    const chart = toMermaid(order)
    expect(chart.split('\n')[0]).toBe('flowchart TD')
    expect(chart).toContain('["reserve #34;it#34;"]')
    expect(chart).toContain('{"charge"}')
    expect(chart).not.toContain('classDef')
    const { clock, orchestrator } = lab()
    const o = orchestrator([order])
    await o.run(order, 1, { id: '1' })
    await clock.advance(10)
    const live = toMermaid(order, await o.get('1'))
    expect(live).toContain('["score: done"]:::done')
    expect(live).toContain('(["approval: waits for approved: waiting"]):::waiting')
    expect(live).toContain('classDef waiting')
  })
})
