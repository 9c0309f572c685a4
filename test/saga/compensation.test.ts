import { describe, expect, test, vi } from 'vitest'
import { TimeoutError } from '../../src/kernel/errors.js'
import { constant, saga, signal, type SagaOrchestrator } from '../../src/saga/index.js'
import { lab, noted, rest } from './lab.js'

const fail = (message = 'no'): never => {
  throw new Error(message)
}

const go = signal<number>('go')

const conflict = expect.objectContaining({ code: 'SAGA_CONFLICT' })

const once = { attempts: 1 }

describe('turning back', () => {
  test('undoes what is done in reverse, not what failed for certain, and nothing twice on a second run', async () => {
    // node-sagas: the second run of a definition compensated twice
    const log: string[] = []
    const order = saga<number>('order', { version: 1 })
      .step('a', noted(log, 'a'))
      .step('b', { run: () => void log.push('b') })
      .step('c', noted(log, 'c'))
      .step('d', noted(log, 'd', fail))
      .build()
    const o = lab().orchestrator([order])
    for (const id of ['1', '2', '3']) {
      log.length = 0
      await (await o.run(order, 1, { id })).settled()
      expect(log).toEqual(['a', 'b', 'c', 'd', 'c: done', 'a: done'])
    }
  })

  test('unwinds branches side by side, each in reverse, and stops what still runs', async () => {
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const undo = (name: string) => ({
      run: () => name,
      compensate: async () => {
        log.push(`${name} at ${clock.now()}`)
        await clock.sleep(10)
      },
    })
    const order = saga<number>('order', { version: 1 })
      .step('first', undo('first'))
      .parallel('p', {
        left: (b) => b.step('l1', undo('l1')).step('l2', undo('l2')),
        right: (b) => b.step('r1', undo('r1')).step('r2', undo('r2')),
        bad: (b) => b.sleep('s', 100).step('x', { run: () => fail() }),
        slow: (b) =>
          b.step('honours', {
            run: ({ signal: s }) => clock.sleep(10_000, s),
            compensate: ({ outcome }) => void log.push(`slow: ${outcome} at ${clock.now()}`),
          }),
      })
      .build()
    const handle = await orchestrator([order]).run(order, 1, { id: '1' })
    await clock.advance(200)
    expect((await handle.settled()).status).toBe('compensated')
    expect(log.slice(0, 3).toSorted()).toEqual(['l2 at 1100', 'r2 at 1100', 'slow: unknown at 1100'])
    expect(log.slice(3)).toEqual(['l1 at 1110', 'r1 at 1110', 'first at 1120'])
  })

  test('a step that ends well although it was told to stop is undone with its result', async () => {
    const { clock, orchestrator } = lab()
    const undo = vi.fn()
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        run: async () => {
          await clock.sleep(100)
          return 'ticket'
        },
        compensate: ({ outcome, result }) => undo(clock.now(), outcome, result),
      })
      .build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    await rest()
    expect(await o.cancel('1', 'changed my mind', 'ann')).toBe('delivered')
    await clock.advance(100)
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { kind: 'cancelled' } })
    expect(undo.mock.calls).toEqual([[1_100, 'done', 'ticket']])
    const entry = { verb: 'cancel', who: 'ann', why: 'changed my mind', applied: true }
    expect((await o.get('1'))?.history).toMatchObject([entry])
  })

  test('a body that goes on after it was told to stop is waited for no longer than graceMs', async () => {
    const { clock, orchestrator } = lab()
    const undo = vi.fn()
    const order = saga<number>('order', { version: 1, deadlineMs: 50 })
      .step('a', { run: () => clock.sleep(1_000), compensate: ({ outcome }) => undo(clock.now(), outcome) })
      .build()
    const handle = await orchestrator([order], { graceMs: 20 }).run(order, 1, { id: '1' })
    await clock.advance(2_000)
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { kind: 'deadline' } })
    expect(undo.mock.calls).toEqual([[1_070, 'unknown']])
  })

  test('a deadline compensates, also while the saga waits, and does not bound compensation', async () => {
    // DBOS: a timeout cancelled without compensation
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const order = saga<number>('order', { version: 1, deadlineMs: 30_000 })
      .step('a', {
        run: () => log.push('a'),
        compensate: async () => {
          await clock.sleep(100_000)
          log.push('undone')
        },
      })
      .waitFor('w', go)
      .build()
    const handle = await orchestrator([order]).run(order, 1, { id: '1' })
    await clock.advance(140_000)
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { kind: 'deadline' } })
    expect(log).toEqual(['a', 'undone'])
  })

  test('no attempt is started after it, though its retry timer was running', async () => {
    // Medusa: a retry timer called a step after compensation had begun
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const order = saga<number>('order', { version: 1 })
      .step('a', noted(log, 'a'))
      .step('b', { ...noted(log, 'b', fail), retry: { attempts: 9, backoff: constant(1_000) } })
      .build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    await clock.advance(500)
    await o.cancel('1', 'enough')
    expect((await handle.settled()).status).toBe('compensated')
    await clock.advance(100_000)
    expect(log).toEqual(['a', 'b', 'a: done'])
  })

  test('one attempt of unknown outcome makes the step unknown, though the last one failed for certain', async () => {
    const { clock, orchestrator } = lab()
    const undo = vi.fn()
    const definition = saga<number>('order', { version: 1 })
      .step('a', {
        run: ({ attempt }) => {
          throw attempt === 1 ? new TimeoutError('perhaps', 1) : new Error('no')
        },
        retry: { attempts: 3, backoff: constant(10) },
        compensate: ({ outcome }) => undo(outcome),
      })
      .build()
    const handle = await orchestrator([definition]).run(definition, 1, { id: '1' })
    await clock.advance(100)
    expect((await handle.settled()).status).toBe('compensated')
    expect(undo.mock.calls).toEqual([['unknown']])
  })

  test('a compensation is tried again under one key that is not the run key', async () => {
    const { clock, orchestrator } = lab()
    const keys: string[] = []
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        run: ({ key, runKey }) => void keys.push(key, runKey),
        compensate: ({ key, runKey, attempt }) => {
          keys.push(runKey, key)
          if (attempt < 3) fail()
        },
        compensateRetry: { attempts: 3, backoff: constant(10) },
      })
      .step('b', { run: () => fail() })
      .build()
    const handle = await orchestrator([order]).run(order, 1, { id: '1' })
    await clock.advance(100)
    expect((await handle.settled()).status).toBe('compensated')
    const [run, undo] = [keys[0], keys[3]]
    expect(keys).toEqual([run, run, run, undo, run, undo, run, undo])
    expect(run).not.toBe(undo)
  })
})

describe('the pivot', () => {
  const order = (log: string[], run: () => unknown, after: () => unknown) =>
    saga<number>('order', { version: 1, deadlineMs: 1_000 })
      .step('a', noted(log, 'a'))
      .pivot('charge', { run: () => (log.push('charge'), run()), timeoutMs: 500 })
      .step('c', { ...noted(log, 'c', after), timeoutMs: 5_000 })
      .build()

  test('after it a failure parks the saga, and a cancel or deadline only sets a flag', async () => {
    const { clock, orchestrator } = lab()
    const log: string[] = []
    let well = false
    const definition = order(
      log,
      () => 1,
      () => well || fail('later'),
    )
    const o = orchestrator([definition])
    const handle = await o.run(definition, 1, { id: '1' })
    expect(await handle.settled()).toEqual({ status: 'parked', failure: undefined, blocked: ['c'] })
    await o.cancel('1', 'too late')
    await clock.advance(5_000)
    expect(await o.get('1')).toMatchObject({ status: 'parked', late: { kind: 'cancelled' }, blocked: ['c'] })
    well = true
    await o.retry('1', 'bob')
    expect((await handle.settled()).status).toBe('completed')
    expect(log).toEqual(['a', 'charge', 'c', 'c'])
  })

  test('under way it is not interrupted: done, the saga goes on', async () => {
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const definition = order(
      log,
      () => clock.sleep(100),
      () => 1,
    )
    const o = orchestrator([definition])
    const handle = await o.run(definition, 1, { id: '1' })
    await rest()
    await o.cancel('1', 'stop')
    await clock.advance(100)
    expect((await handle.settled()).status).toBe('completed')
    expect((await o.get('1'))?.late).toEqual({ kind: 'cancelled', reason: 'stop' })
    expect(log).toEqual(['a', 'charge', 'c'])
  })

  test('under way it is not interrupted: failed for certain, the saga turns back', async () => {
    const { clock, orchestrator } = lab()
    const log: string[] = []
    const definition = order(
      log,
      () => clock.sleep(100).then(() => fail()),
      () => 1,
    )
    const o = orchestrator([definition])
    const handle = await o.run(definition, 1, { id: '1' })
    await rest()
    await o.cancel('1', 'stop')
    await clock.advance(100)
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { kind: 'cancelled' } })
    expect(log).toEqual(['a', 'charge', 'a: done'])
  })

  test('with an unknown outcome it waits for an operator, who may say that it happened or cancel', async () => {
    for (const happened of [true, false]) {
      const { clock, orchestrator } = lab()
      const log: string[] = []
      const definition = order(
        log,
        () => new Promise(() => {}),
        () => 1,
      )
      const o = orchestrator([definition])
      const handle = await o.run(definition, 1, { id: '1' })
      await clock.advance(10_000)
      expect(await handle.settled()).toEqual({ status: 'parked', failure: undefined, blocked: ['charge'] })
      if (happened) await o.resolve('1', 'charge', { receipt: 7 }, { who: 'bob', why: 'seen at the bank' })
      else await o.cancel('1', 'not charged', 'bob')
      await rest()
      if (happened) {
        expect(await o.get('1')).toMatchObject({ status: 'completed', results: { charge: { receipt: 7 } } })
        expect((await o.get('1'))?.history).toMatchObject([
          { verb: 'resolve', who: 'bob', why: 'seen at the bank', path: 'charge' },
        ])
      } else expect((await handle.settled()).status).toBe('compensated')
      expect(log).toEqual(happened ? ['a', 'charge', 'c'] : ['a', 'charge', 'a: done'])
    }
  })
})

describe('a compensation that fails for good', () => {
  const stuckAtB = (log: string[], more: { onCompensationFailure?: 'continue'; heal?: () => boolean } = {}) =>
    saga<number>('order', { version: 1, onCompensationFailure: more.onCompensationFailure })
      .step('a', noted(log, 'a'))
      .step('b', {
        run: () => void log.push('b'),
        compensate: () => (more.heal?.() ? void log.push('b: done') : fail('stuck')),
        compensateRetry: once,
      })
      .step('c', noted(log, 'c'))
      .step('d', { run: () => fail() })
      .build()
  const begin = async (definition: ReturnType<typeof stuckAtB>, o: SagaOrchestrator) => {
    const handle = await o.run(definition, 1, { id: '1' })
    expect(await handle.settled()).toMatchObject({ status: 'parked', failure: { path: 'd' }, blocked: ['b'] })
    return handle
  }

  test('parks the saga: earlier ones wait', async () => {
    // Eventuate: a failed compensation ended the saga, and the rest never ran
    const log: string[] = []
    const definition = stuckAtB(log)
    const o = lab().orchestrator([definition])
    await begin(definition, o)
    expect(log).toEqual(['a', 'b', 'c', 'c: done'])
    expect((await o.list({ status: 'parked' })).map((s) => s.id)).toEqual(['1'])
  })

  test('does not stop the others with continue', async () => {
    // node-sagas: a throwing compensation stopped the chain
    const log: string[] = []
    const definition = stuckAtB(log, { onCompensationFailure: 'continue' })
    await begin(definition, lab().orchestrator([definition]))
    expect(log).toEqual(['a', 'b', 'c', 'c: done', 'a: done'])
  })

  for (const verb of ['retry', 'skip', 'resolve'] as const)
    test(`${verb} lets it go on`, async () => {
      const log: string[] = []
      let healed = false
      const definition = stuckAtB(log, { heal: () => healed })
      const o = lab().orchestrator([definition])
      const handle = await begin(definition, o)
      healed = true
      if (verb === 'retry') await o.retry('1', 'bob')
      else if (verb === 'skip') await o.skip('1', 'b', 'bob')
      else await o.resolve('1', 'b', undefined, 'bob')
      await rest()
      expect((await handle.settled()).status).toBe('compensated')
      expect(log.slice(4)).toEqual(verb === 'retry' ? ['b: done', 'a: done'] : ['a: done'])
      expect((await o.get('1'))?.history).toMatchObject([{ verb, who: 'bob', applied: true }])
    })

  test('redrive sends it forward again; what was undone runs under a new key', async () => {
    const keys: string[] = []
    let well = false
    const definition = saga<number>('order', { version: 1 })
      .step('a', { run: () => 1 })
      .step('b', { run: ({ key }) => void keys.push(key), compensate: () => {} })
      .step('c', { run: ({ key }) => (keys.push(key), well || fail()) })
      .build()
    const o = lab().orchestrator([definition])
    const handle = await o.run(definition, 1, { id: '1' })
    expect((await handle.settled()).status).toBe('compensated')
    well = true
    await expect(o.redrive('1', { from: 'c' })).rejects.toEqual(conflict) // b before it is not done any more
    await o.redrive('1', { from: 'b', by: 'bob' })
    await rest()
    expect(await handle.settled()).toMatchObject({ status: 'completed', results: { a: 1, c: true } })
    const [b1, c1, b2, c2] = keys
    expect(c2).toBe(c1) // it never took effect
    expect(b2).not.toBe(b1)
  })

  test('an order that does not fit is refused, and nothing is stored', async () => {
    const log: string[] = []
    const definition = stuckAtB(log)
    const o = lab().orchestrator([definition])
    await begin(definition, o)
    await expect(o.skip('1', 'a', 'bob')).rejects.toEqual(conflict)
    await expect(o.resolve('1', 'nowhere', 1, 'bob')).rejects.toEqual(conflict)
    await o.skip('1', 'b', 'bob')
    await rest()
    for (const late of [o.retry('1', 'bob'), o.skip('1', 'b', 'bob')]) await expect(late).rejects.toEqual(conflict)
    await expect(o.retry('nobody', 'bob')).rejects.toEqual(expect.objectContaining({ code: 'NOT_FOUND' }))
    expect(await o.cancel('1', 'late')).toBe('finished')
    expect((await o.get('1'))?.history).toHaveLength(1)
  })
})
