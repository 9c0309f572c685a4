import { describe, expect, test, vi } from 'vitest'
import { constant, MemorySagaStore, saga, SagaOrchestrator } from '../../src/saga/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { lab, noted, rest } from './lab.js'

const fail = (message = 'no'): never => {
  throw new Error(message)
}

describe('crashes', () => {
  test('another orchestrator takes over after the lease, with a higher fence, and failures before the crash still count', async () => {
    // DBOS: nobody recovered a dead process's work; retry counters restarted after a crash
    const { clock, orchestrator } = lab()
    const runs: [number, number][] = []
    const definition = saga<number>('order', { version: 1 })
      .step('a', {
        run: async ({ fence, attempt }) => {
          runs.push([fence, attempt])
          if (attempt === 2) await new Promise(() => {})
          fail()
        },
        retry: { attempts: 3, backoff: constant(10) },
      })
      .build()
    const first = orchestrator([definition])
    await first.run(definition, 1, { id: '1' })
    await clock.advance(20)
    first.line.cut()
    const second = orchestrator([definition])
    const handle = await second.run(definition, 1, { id: '1' })
    await clock.advance(11_000)
    expect((await handle.settled()).status).toBe('compensated')
    expect(runs).toEqual([
      [1, 1],
      [1, 2],
      [2, 3],
      [2, 4],
    ]) // three failures in all; the crash is none
  })

  test('a step whose owner vanished counts as unknown for good, though its next attempt fails for certain', async () => {
    const { clock, orchestrator } = lab()
    const undo = vi.fn()
    const definition = saga<number>('order', { version: 1 })
      .step('a', {
        run: ({ fence }) => (fence === 1 ? new Promise(() => {}) : fail()),
        compensate: ({ outcome, result }) => undo(outcome, result),
      })
      .build()
    const first = orchestrator([definition])
    await first.run(definition, 1, { id: '1' })
    await rest()
    first.line.cut()
    const handle = await orchestrator([definition]).run(definition, 1, { id: '1' })
    await clock.advance(11_000)
    expect((await handle.settled()).status).toBe('compensated')
    expect(undo.mock.calls).toEqual([['unknown', undefined]])
  })

  test('a deadline that passed while nobody was there compensates what may have run, and does not run it again', async () => {
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const definition = saga<number>('order', { version: 1, deadlineMs: 5_000 })
      .step('a', noted(log, 'a'))
      .step(
        'b',
        noted(log, 'b', () => new Promise(() => {})),
      )
      .build()
    const first = orchestrator([definition])
    await first.run(definition, 1, { id: '1' })
    await rest()
    first.line.cut()
    const handle = await orchestrator([definition]).run(definition, 1, { id: '1' })
    await clock.advance(11_000)
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { kind: 'deadline' } })
    expect(log).toEqual(['a', 'b', 'b: unknown', 'a: done'])
  })

  test('a process that wakes up after its lease writes nothing, hears it by its signal, and compensates nothing', async () => {
    const { clock, store, orchestrator } = lab()
    const log: string[] = []
    let finish!: () => void
    const paused = new Promise<void>((resolve) => (finish = resolve))
    const definition = saga<number>('order', { version: 1 })
      .step('a', { ...noted(log, 'a') })
      .step('b', {
        run: async ({ fence, signal: s }) => {
          s.addEventListener('abort', () => log.push(`lost ${fence}`))
          if (fence === 1) await paused
          log.push(`b${fence}`)
          if (fence === 1) fail()
        },
      })
      .build()
    const first = orchestrator([definition])
    const lost = vi.fn()
    first.on('lost', lost)
    await first.run(definition, 1, { id: '1' })
    await rest()
    first.line.store.renew = () => new Promise(() => {}) // its renewals do not get through
    const second = orchestrator([definition])
    const handle = await second.run(definition, 1, { id: '1' })
    await clock.advance(11_000)
    finish()
    expect((await handle.settled()).status).toBe('completed')
    await clock.advance(11_000)
    expect(log).toEqual(['a', 'lost 1', 'b2', 'b1'])
    expect(lost).toHaveBeenCalledExactlyOnceWith({ id: '1', epoch: 1 })
    expect((await store.read('1'))?.epoch).toBe(2)
  })

  test('a run that the store refuses starts nothing more, forward or back, though by its own clock it is the owner', async () => {
    for (const well of [true, false]) {
      const storeClock = new ManualClock()
      const store = new MemorySagaStore({ clock: storeClock })
      const log: string[] = []
      let finish!: () => void
      const paused = new Promise<void>((resolve) => (finish = resolve))
      const definition = saga<number>('order', { version: 1 })
        .step('a', noted(log, 'a'))
        .step(
          'b',
          noted(log, 'b', () => paused.then(() => well || fail())),
        )
        .step('c', noted(log, 'c'))
        .build()
      const o = new SagaOrchestrator({ store, sagas: [definition], clock: new ManualClock() })
      const lost = vi.fn()
      o.on('lost', lost)
      o.start()
      await o.run(definition, 1, { id: '1' })
      await rest()
      await storeClock.advance(11_000)
      const { name, version, hash } = definition
      await store.claim({ known: [{ name, version, hash }], limit: 1, leaseMs: 60_000 })
      finish()
      await rest()
      expect(log).toEqual(['a', 'b'])
      expect(lost).toHaveBeenCalledExactlyOnceWith({ id: '1', epoch: 1 })
      await o.close()
    }
  })

  test('a store that fails for a moment costs nothing but time', async () => {
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const definition = saga<number>('order', { version: 1 })
      .step('a', noted(log, 'a'))
      .step('b', noted(log, 'b'))
      .build()
    const o = orchestrator([definition])
    const { commit } = o.line.store
    let left = 4
    o.line.store.commit = async (batch) => {
      if (left-- > 2) await commit(batch) // written, but the answer is lost
      if (left >= 0) throw new Error('down')
      return commit(batch)
    }
    const handle = await o.run(definition, 1, { id: '1' })
    await clock.advance(5_000)
    expect((await handle.settled()).status).toBe('completed')
    expect(log).toEqual(['a', 'b'])
  })
})
