import { expect, test } from 'vitest'
import { constant, MemorySagaStore, saga, SagaOrchestrator } from '../../src/saga/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { lab, rest } from './lab.js'

// Defects of other saga libraries that have no better place: see docs/saga-peers.md for all of them.

test('orchestrators that are told nothing about each other run no step at the same time, and none twice', async () => {
  // DBOS: processes have the same default executor id, and each runs what the other is at
  const clock = new ManualClock()
  const store = new MemorySagaStore({ clock })
  const running = new Map<string, number>()
  const runs: string[] = []
  let overlaps = 0
  const body = {
    run: async ({ sagaId, path }: { sagaId: string; path: string }) => {
      const beside = running.get(sagaId) ?? 0
      if (beside > 0) overlaps++
      running.set(sagaId, beside + 1)
      runs.push(`${sagaId} ${path}`)
      await clock.sleep(7_000)
      running.set(sagaId, running.get(sagaId)! - 1)
    },
  }
  const definition = saga<number>('order', { version: 1 })
    .step('a', body)
    .step('b', body)
    .sleep('s', 60_000)
    .step('c', body)
    .build()
  const three = [1, 2, 3].map(() => new SagaOrchestrator({ store, sagas: [definition], clock })) // all as they are by default
  for (const o of three) o.start()
  // each asks for all of them, as processes do that start with the same list
  for (const o of three) for (let i = 0; i < 20; i++) await o.run(definition, i, { id: `${i}` })
  await clock.advance(120_000)
  await rest()
  expect(overlaps).toBe(0)
  expect(runs).toHaveLength(60)
  expect(new Set(runs).size).toBe(60)
  await Promise.all(three.map((o) => o.close()))
})

test('a body that catches what stops it undoes nothing that its saga then builds on elsewhere', async () => {
  // DBOS: a process that has lost its workflow throws into the user's code, whose catch compensates; the other process succeeds
  const { clock, store, orchestrator } = lab()
  const log: string[] = []
  const definition = saga<number>('order', { version: 1 })
    .step('reserve', { run: () => void log.push('reserved'), compensate: () => void log.push('released') })
    .step('charge', {
      run: async ({ fence, signal: stop }) => {
        if (fence > 1) return void log.push('charged')
        await clock.sleep(60_000, stop)
      },
      compensate: () => void log.push('refunded'),
    })
    .build()
  const first = orchestrator([definition])
  await first.run(definition, 1, { id: '1' })
  await rest()
  first.line.store.renew = () => new Promise(() => {}) // cut off, and alive
  const handle = await orchestrator([definition]).run(definition, 1, { id: '1' })
  await clock.advance(120_000)
  expect((await handle.settled()).status).toBe('completed')
  expect(log).toEqual(['reserved', 'charged'])
  expect((await store.read('1'))?.journal.flatMap((r) => r.entries).map((e) => e.type)).not.toContain('turned')
})

test('after a crash each branch has its own result, in whatever order they end then', async () => {
  // DBOS: steps are told apart by the order in which they began; after recovery branches got the results of others
  const names = ['a', 'b', 'c', 'd'] as const
  for (let crashAt = 0; crashAt < 8; crashAt++) {
    const { clock, orchestrator } = lab()
    const seen: unknown[] = []
    const branch = (_: string, i: number) => ({
      run: async ({ fence, path }: { fence: number; path: string }) => {
        await clock.sleep(fence === 1 ? 10 * (i + 1) : 10 * (9 - i)) // the other way round after the crash
        return path
      },
    })
    const [a, b, c, d] = names.map(branch) as [
      ReturnType<typeof branch>,
      ReturnType<typeof branch>,
      ReturnType<typeof branch>,
      ReturnType<typeof branch>,
    ]
    const definition = saga<number>('order', { version: 1 })
      .parallel('p', {
        a: (x) => x.step('a1', a).step('a2', a),
        b: (x) => x.step('b1', b).step('b2', b),
        c: (x) => x.step('c1', c).step('c2', c),
        d: (x) => x.step('d1', d).step('d2', d),
      })
      .step('end', { run: ({ results }) => void seen.push(results.p) })
      .build()
    const first = orchestrator([definition])
    let left = crashAt
    first.line.before = () => (left-- > 0 ? undefined : 'cut after')
    await first.run(definition, 1, { id: '1' })
    const handle = await orchestrator([definition]).run(definition, 1, { id: '1' })
    await clock.advance(20_000)
    expect((await handle.settled()).status).toBe('completed')
    const own = Object.fromEntries(names.map((n) => [n, { [`${n}1`]: `p/${n}/${n}1`, [`${n}2`]: `p/${n}/${n}2` }]))
    expect(seen).toEqual([own])
  }
})

test('a branch that waits for its next attempt is not started again once another branch has failed for good', async () => {
  // Medusa: the timer of a retry asks for the step's state only, and runs it after its siblings were undone
  const { clock, orchestrator } = lab()
  const log: string[] = []
  const definition = saga<number>('order', { version: 1 })
    .parallel('p', {
      charge: (b) =>
        b.step('card', {
          run: () => {
            log.push('card')
            throw new Error('busy')
          },
          compensate: () => void log.push('refund'),
          retry: { attempts: 5, backoff: constant(1_000) },
        }),
      stock: (b) =>
        b.sleep('s', 500).step('reserve', {
          run: () => {
            throw new Error('sold out')
          },
        }),
    })
    .build()
  const handle = await orchestrator([definition]).run(definition, 1, { id: '1' })
  await clock.advance(600)
  expect((await handle.settled()).status).toBe('compensated')
  await clock.advance(100_000)
  expect(log).toEqual(['card']) // it failed for certain: there is nothing to refund
})
