import { describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import type { Clock } from '../../src/kernel/clock.js'
import { constant, saga, signal, SagaOrchestrator, MemorySagaStore, type RunContext } from '../../src/saga/index.js'
import { lab, line, rest } from './lab.js'

const fail = (message = 'no'): never => {
  throw new Error(message)
}

const code = (expected: string): object => expect.objectContaining({ code: expected })

const go = signal<number>('go')

describe('going forward', () => {
  test('each step sees the input and what the steps before it gave', async () => {
    const order = saga<{ n: number }>('order', { version: 1 })
      .step('a', { run: ({ input }) => input.n + 1 })
      .parallel('both', {
        left: (b) => b.step('l', { run: async ({ results }) => `l${results.a}` }),
        right: (b) => b.step('r', { run: () => 'r' }).step('s', { run: ({ results }) => `${results.r}${results.a}` }),
      })
      .step('z', { run: ({ results }) => `${results.both.left.l} ${results.both.right.s}` })
      .build()
    const o = lab().orchestrator([order])
    const handle = await o.run(order, { n: 1 }, { id: '1' })
    const both = { left: { l: 'l2' }, right: { r: 'r', s: 'r2' } }
    expect(await handle.settled()).toEqual({ status: 'completed', results: { a: 2, both, z: 'l2 r2' } })
  })

  test('N steps take N + 1 writes and no other call', async () => {
    for (const n of [1, 2, 5, 9]) {
      let builder = saga<number>('order', { version: 1 })
      for (let i = 0; i < n; i++) builder = builder.step(`s${i}`, { run: () => i })
      const order = builder.build()
      const o = lab().orchestrator([order])
      await rest()
      o.line.calls.claim = 0
      const settled = vi.fn()
      o.on('settled', settled)
      await o.run(order, 1, { id: '1' })
      await rest()
      expect(settled).toHaveBeenCalledExactlyOnceWith({ id: '1', name: 'order', status: 'completed' })
      expect(o.line.transitions).toBe(n)
      expect(o.line.calls).toEqual({ create: 1, commit: n, claim: 0, renew: 0, read: 0, deliver: 0, transaction: 0 })
    }
  })

  test('who waits for the end of a saga that runs here asks the store nothing', async () => {
    let open!: () => void
    const gate = new Promise<void>((resolve) => (open = resolve))
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: () => gate })
      .step('b', { run: () => 7 })
      .build()
    const o = lab().orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    const ended = handle.settled()
    await rest()
    open()
    expect(await ended).toMatchObject({ status: 'completed', results: { b: 7 } })
    expect(o.line.calls).toMatchObject({ create: 1, commit: 2, read: 0 })
  })

  test('an attempt that failed is tried again after its backoff, at one write each', async () => {
    const { clock, orchestrator } = lab()
    const seen: [number, number, string][] = []
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        run: ({ attempt, key }) => {
          seen.push([clock.now(), attempt, key])
          if (attempt < 3) fail()
        },
        retry: { attempts: 3, backoff: (n) => n * 100 },
      })
      .build()
    const o = orchestrator([order])
    const begin = clock.now()
    const handle = await o.run(order, 1, { id: '1' })
    await clock.advance(300)
    expect(await handle.settled()).toMatchObject({ status: 'completed' })
    expect(seen.map(([at, attempt]) => [at - begin, attempt])).toEqual([
      [0, 1],
      [100, 2],
      [300, 3],
    ])
    expect(new Set(seen.map(([, , key]) => key)).size).toBe(1)
    expect(o.line.transitions).toBe(3)
  })

  test('a failure that is not worth another attempt is the last', async () => {
    const run = vi.fn(() => fail('final'))
    const retry = { attempts: 5, backoff: constant(1), when: (e: unknown) => (e as Error).message !== 'final' }
    const order = saga<number>('order', { version: 1 }).step('a', { run, retry }).build()
    const handle = await lab().orchestrator([order]).run(order, 1, { id: '1' })
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { error: { message: 'final' } } })
    expect(run).toHaveBeenCalledTimes(1)
  })

  test('a body can not change what others see', async () => {
    const spoil = ({ input, results }: RunContext<{ list: number[] }, { a: { list: number[] } }>): void => {
      input.list.push(9)
      results.a.list.push(9)
    }
    const order = saga<{ list: number[] }>('order', { version: 1 })
      .step('a', { run: () => ({ list: [1] }) })
      .step('b', { run: spoil })
      .step('c', { run: ({ input, results }) => [input.list, results.a.list] })
      .build()
    const input = { list: [1] }
    const handle = await lab().orchestrator([order]).run(order, input, { id: '1' })
    expect(await handle.settled()).toMatchObject({ results: { c: [[1], [1]], a: { list: [1] } } })
    expect(input).toEqual({ list: [1] })
  })

  test('dates, maps, undefined and names like __proto__ come through', async () => {
    const values = [new Date(0), new Map([['a', 1n]]), undefined, Number.NaN]
    const order = saga<unknown>('order', { version: 1 })
      .step('__proto__', { run: () => values })
      .step('b', { run: ({ input, results }) => [input, (results as Record<string, unknown>)['__proto__']] })
      .build()
    const handle = await lab().orchestrator([order]).run(order, values, { id: '__proto__' })
    expect(await handle.settled()).toMatchObject({ results: { b: [values, values] } })
  })

  test('a result that can not be stored is refused before the step counts as done', async () => {
    const run = vi.fn(() => ({ f: () => 1 }))
    const compensate = vi.fn()
    const order = saga<number>('order', { version: 1 })
      .step('a', { run, retry: { attempts: 3 }, compensate: ({ outcome, result }) => compensate(outcome, result) })
      .step('b', { run: () => fail('must not run') })
      .build()
    const handle = await lab().orchestrator([order]).run(order, 1, { id: '1' })
    const failure = { kind: 'failed', path: 'a', error: { code: 'INVALID_PAYLOAD' } }
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure })
    expect(run).toHaveBeenCalledTimes(1)
    expect(compensate.mock.calls).toEqual([['unknown', undefined]])
  })

  test('a parallel block keeps its limit', async () => {
    const { clock, orchestrator } = lab()
    let active = 0
    let most = 0
    const run = async (): Promise<void> => {
      most = Math.max(most, ++active)
      await clock.sleep(10)
      active--
    }
    const order = saga<number>('order', { version: 1 })
      .parallel(
        'p',
        {
          a: (b) => b.step('x', { run }).step('y', { run }),
          b: (b) => b.step('x', { run }),
          c: (b) => b.step('x', { run }),
          d: (b) => b.step('x', { run }),
        },
        { limit: 2 },
      )
      .build()
    const handle = await orchestrator([order]).run(order, 1, { id: '1' })
    await clock.advance(30)
    expect(await handle.settled()).toMatchObject({ status: 'completed' })
    expect(most).toBe(2)
  })

  test('an idle orchestrator holds no timer, also while sagas wait for signals', async () => {
    const { clock, orchestrator } = lab()
    const order = saga<number>('order', { version: 1 }).waitFor('w', go).build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    await rest()
    await clock.advance(20_000)
    expect(clock.pendingTimers).toBe(0)
    const claims = o.line.calls.claim
    await clock.advance(1_000_000)
    expect(o.line.calls.claim).toBe(claims)
    await o.signal('1', go, 7)
    expect(await handle.settled()).toEqual({ status: 'completed', results: { w: 7 } })
  })

  test('no more sagas run at once than concurrency says, and all run in the end', async () => {
    const { clock, orchestrator } = lab()
    let active = 0
    let most = 0
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        run: async () => {
          most = Math.max(most, ++active)
          await clock.sleep(10)
          active--
        },
      })
      .build()
    const o = orchestrator([order], { concurrency: 3 })
    const handles = await Promise.all(Array.from({ length: 10 }, (_, i) => o.run(order, i, { id: `${i}` })))
    await clock.advance(50)
    for (const handle of handles) expect(await handle.settled()).toMatchObject({ status: 'completed' })
    expect(most).toBe(3)
  })
})

describe('who may begin', () => {
  const order = saga<{ n: number }>('order', { version: 1 })
    .step('a', { run: ({ input }) => input.n })
    .build()

  test('the same id, definition and input is the same saga', async () => {
    const run = vi.fn()
    const once = saga<object>('once', { version: 1 }).step('a', { run }).build()
    const o = lab().orchestrator([once])
    const handles = await Promise.all([1, 2, 3].map(() => o.run(once, { a: 1, b: [2] }, { id: '1' })))
    const other = await o.run(once, { b: [2], a: 1 }, { id: '1' })
    for (const handle of [...handles, other]) expect(await handle.settled()).toMatchObject({ status: 'completed' })
    expect(run).toHaveBeenCalledTimes(1)
  })

  test('another input or definition under an id is refused', async () => {
    const other = saga<{ n: number }>('other', { version: 1 })
      .step('a', { run: () => 1 })
      .build()
    const next = saga<{ n: number }>('order', { version: 2 })
      .step('a', { run: () => 1 })
      .build()
    const o = lab().orchestrator([order, other, next])
    await o.run(order, { n: 1 }, { id: '1' })
    for (const conflict of [
      o.run(order, { n: 2 }, { id: '1' }),
      o.run(other, { n: 1 }, { id: '1' }),
      o.run(next, { n: 1 }, { id: '1' }),
    ])
      await expect(conflict).rejects.toEqual(code('SAGA_CONFLICT'))
  })

  test('a changed structure under the same version is refused and left alone; an unknown version too', async () => {
    const { clock, store, orchestrator } = lab()
    const waits = saga<number>('order', { version: 1 })
      .waitFor('w', go)
      .step('a', { run: () => 1 })
      .build()
    const changed = saga<number>('order', { version: 1 })
      .waitFor('w', go)
      .step('b', { run: () => 1 })
      .build()
    const newer = saga<number>('order', { version: 2 })
      .step('b', { run: () => 1 })
      .build()
    const old = orchestrator([waits, newer])
    await old.run(waits, 1, { id: '1' })
    await rest()
    await old.close()
    const o = orchestrator([changed])
    const drifts: unknown[] = []
    o.on('drift', ({ id, error }) => drifts.push([id, error.code]))
    await o.signal('1', go, 1)
    await o.run(newer, 1, { id: '2' })
    await clock.advance(60_000)
    expect(drifts).toEqual([['1', 'SAGA_DEFINITION_DRIFT']])
    expect((await store.read('1'))?.epoch).toBe(1)
    expect((await store.read('2'))?.epoch).toBe(0)
    expect(await o.get('1')).toMatchObject({ definition: 'drifted', status: 'waiting', nodes: [] })
    await expect(o.run(changed, 1, { id: '1' })).rejects.toEqual(code('SAGA_DEFINITION_DRIFT'))
    await o.close()
    const both = orchestrator([waits, newer])
    const handles = [await both.run(waits, 1, { id: '1' }), await both.run(newer, 1, { id: '2' })]
    for (const handle of handles) expect((await handle.settled()).status).toBe('completed')
  })

  test('bodies, retries and times may change under a version; structure may not', () => {
    const at = (build: (b: ReturnType<typeof saga<number>>) => { build(): { hash: string } }): string =>
      build(saga<number>('order', { version: 1 })).build().hash
    const run = (): number => 1
    const first = at((b) => b.step('a', { run }).sleep('s', 1))
    expect(at((b) => b.step('a', { run: () => 2, timeoutMs: 5, compensate: run }).sleep('s', 2))).toBe(first)
    expect(at((b) => b.sleep('s', 1).step('a', { run }))).not.toBe(first)
    expect(at((b) => b.pivot('a', { run }).sleep('s', 1))).not.toBe(first)
    expect(at((b) => b.parallel('a', { x: (c) => c.step('a', { run }) }))).not.toBe(
      at((b) => b.parallel('a', { y: (c) => c.step('a', { run }) })),
    )
    // what begins with the saga is recorded nowhere: all of it must be known after a crash, to be undone
    const block = (limit: number | undefined, pauseMs?: number) =>
      at((b) =>
        (pauseMs === undefined ? b : b.sleep('s', pauseMs)).parallel(
          'block',
          { x: (c) => c.step('a', { run }), y: (c) => c.parallel('in', { z: (d) => d.step('a', { run }) }) },
          { limit },
        ),
      )
    expect(block(2)).toBe(block(undefined))
    expect(block(1)).not.toBe(block(2))
    expect(block(1, 5)).toBe(block(2, 1)) // begins later, and is recorded
    expect(block(2, 0)).not.toBe(block(2, 1))
  })

  test('the input is checked by its schema, and what that gives is stored', async () => {
    const schema = z.object({ n: z.number().default(5) }) as unknown as z.ZodType<{ n: number }>
    const checked = saga('checked', { version: 1, input: schema })
      .step('a', { run: ({ input }) => input.n })
      .build()
    const o = lab().orchestrator([checked])
    await expect(o.run(checked, { n: 'x' } as never, { id: '1' })).rejects.toEqual(code('INVALID_PAYLOAD'))
    expect(await o.get('1')).toBeUndefined()
    expect(await (await o.run(checked, {} as never, { id: '1' })).settled()).toMatchObject({ results: { a: 5 } })
  })

  test('an orchestrator that is not started creates, and another runs', async () => {
    const { clock, store, orchestrator } = lab()
    const creator = new SagaOrchestrator({ store, clock })
    const handle = await creator.run(order, { n: 3 }, { id: '1' })
    await rest()
    expect((await creator.get('1'))?.status).toBe('running')
    orchestrator([order])
    expect(await handle.settled()).toMatchObject({ results: { a: 3 } })
  })

  test('a handle tells nothing of a new saga under its old id', async () => {
    const { clock, orchestrator } = lab()
    const [one, two] = ['one', 'two'].map((name) =>
      saga<number>(name, { version: 1 })
        .step(name, { run: () => name })
        .build(),
    )
    const o = orchestrator([one!, two!])
    const old = await o.run(one!, 1, { id: '1' })
    await old.settled()
    await clock.advance(3_600_001)
    const fresh = await o.run(two!, 1, { id: '1' })
    expect(await fresh.settled()).toMatchObject({ status: 'completed', results: { two: 'two' } })
    await expect(old.settled()).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  test('a saga of a definition seen under a retained id starts clean, with keys of its own', async () => {
    const { clock } = lab()
    const store = new MemorySagaStore({ clock, retainMs: 1_000 })
    const keys: string[] = []
    const keyed = saga<number>('keyed', { version: 1 })
      .step('a', { run: ({ key }) => void keys.push(key) })
      .build()
    const o = new SagaOrchestrator({ store, sagas: [keyed], clock })
    o.start()
    await (await o.run(keyed, 1, { id: '1' })).settled()
    await clock.advance(2_000)
    expect((await (await o.run(keyed, 2, { id: '1' })).settled()).status).toBe('completed')
    expect(new Set(keys).size).toBe(2)
  })

  test('a write of which the store says nothing does not count', async () => {
    const { store, orchestrator } = lab()
    const run = vi.fn()
    const two = saga('two', { version: 1 }).step('a', { run: vi.fn() }).step('b', { run }).build()
    const o = orchestrator([two], { store: { ...line(store).store, commit: async () => [] } })
    const lost = vi.fn()
    o.on('lost', lost)
    await o.run(two, undefined, { id: '1' })
    await rest()
    expect(lost).toHaveBeenCalledExactlyOnceWith({ id: '1', epoch: 1 })
    expect(run).not.toHaveBeenCalled()
  })

  test('timers keep the process alive while it waits for a saga that another one runs, and no longer', async () => {
    const { clock, orchestrator } = lab()
    const alive = new Set<object>()
    const watched: Clock = {
      now: () => clock.now(),
      epochMs: () => clock.epochMs(),
      sleep: (ms, s) => clock.sleep(ms, s),
      setTimer(fn, ms, { keepAlive = false } = {}) {
        const timer = { keepAlive }
        if (keepAlive) alive.add(timer)
        const cancel = clock.setTimer(fn, ms)
        return () => {
          alive.delete(timer)
          cancel()
        }
      },
    }
    let open!: () => void
    const gate = new Promise<void>((resolve) => (open = resolve))
    const held = saga<number>('held', { version: 1 })
      .step('a', { run: () => gate })
      .build()
    await orchestrator([held]).run(held, 1, { id: '1' })
    const handle = await orchestrator([held], { clock: watched }).run(held, 1, { id: '1' })
    await rest()
    expect(alive.size).toBe(0)
    const ended = handle.settled()
    await rest()
    expect(alive.size).toBe(1)
    open()
    expect(await ended).toMatchObject({ status: 'completed' })
    expect(alive.size).toBe(0)
  })
})
