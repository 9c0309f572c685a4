import { describe, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { saga, signal } from '../../src/saga/index.js'
import { SagaMachine } from '../../src/saga/machine.js'
import { lab, rest } from './lab.js'

const code = (expected: string): object => expect.objectContaining({ code: expected })

const go = signal<number>('go')

describe('signals', () => {
  test('are buffered before their wait, deduplicated, and taken in their order', async () => {
    const { orchestrator, clock } = lab()
    const order = saga<number>('order', { version: 1 })
      .sleep('s', 100)
      .waitFor('w1', go)
      .waitFor('w2', go)
      .waitFor('w3', signal<string>('other'))
      .build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    expect(await o.signal('1', go, 1, { dedupeId: 'a' })).toBe('delivered')
    expect(await o.signal('1', go, 1, { dedupeId: 'a' })).toBe('duplicate')
    expect(await o.signal('1', go, 2)).toBe('delivered')
    expect((await o.get('1'))?.buffered).toEqual(['go', 'go'])
    await clock.advance(200)
    expect((await o.get('1'))?.status).toBe('waiting')
    await o.signal('1', signal<string>('other'), 'x')
    expect(await handle.settled()).toEqual({ status: 'completed', results: { w1: 1, w2: 2, w3: 'x' } })
    expect(await o.signal('1', go, 3)).toBe('finished')
  })

  test('reach a wait in one branch while another branch works', async () => {
    const { orchestrator, clock } = lab()
    const order = saga<number>('order', { version: 1 })
      .parallel('p', {
        a: (b) => b.waitFor('w', go).step('x', { run: ({ results }) => results.w }),
        b: (b) => b.step('long', { run: () => clock.sleep(1_000) }),
      })
      .build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    await rest()
    await o.signal('1', go, 5)
    await rest()
    expect((await o.get('1'))?.nodes.map((n) => n.status)).toEqual(['done', 'done', 'running'])
    await clock.advance(1_000)
    expect((await handle.settled()).status).toBe('completed')
  })

  test('cost no decision while nothing waits for them', async () => {
    const decide = vi.spyOn(SagaMachine.prototype, 'decide')
    const { orchestrator } = lab()
    let done!: () => void
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: () => new Promise<void>((resolve) => (done = resolve)) })
      .waitFor('go', go)
      .build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    await rest()
    const before = decide.mock.calls.length
    for (let i = 0; i < 20; i++) await o.signal('1', go, i)
    await rest()
    expect(decide.mock.calls.length).toBe(before)
    decide.mockRestore()
    done()
    expect(await handle.settled()).toMatchObject({ status: 'completed', results: { go: 0 } })
  })

  test('a payload that its schema refuses is not sent', async () => {
    const checked = signal('checked', z.object({ by: z.string() }))
    const order = saga<number>('order', { version: 1 }).waitFor('w', checked).build()
    const o = lab().orchestrator([order])
    await o.run(order, 1, { id: '1' })
    await expect(o.signal('1', checked, { by: 1 } as never)).rejects.toEqual(code('INVALID_PAYLOAD'))
    await expect(o.signal('nobody', checked, { by: '' })).rejects.toEqual(code('NOT_FOUND'))
    expect((await o.get('1'))?.buffered).toEqual([])
  })

  test('after the pivot an operator may settle what failed while another branch still waits', async () => {
    const { orchestrator } = lab()
    let works = false
    const definition = saga<number>('order', { version: 1 })
      .pivot('charge', { run: () => 1 })
      .parallel('after', {
        a: (b) => b.step('ship', { run: () => works || Promise.reject(new Error('no van')) }),
        b: (b) => b.step('print', { run: () => Promise.reject(new Error('no ink')) }),
        c: (b) => b.waitFor('go', go),
      })
      .build()
    const o = orchestrator([definition])
    await o.run(definition, 1, { id: '1' })
    await rest()
    const blocked = ['after/a/ship', 'after/b/print']
    expect(await o.get('1')).toMatchObject({ status: 'waiting', blocked })
    await expect(o.skip('1', 'after/c/go', 'ann')).rejects.toMatchObject({ code: 'SAGA_CONFLICT' })
    await o.skip('1', 'after/b/print', 'ann')
    works = true
    await o.retry('1', 'ann')
    await rest()
    expect(await o.get('1')).toMatchObject({
      status: 'waiting',
      blocked: [],
      results: { after: { a: { ship: true } } },
    })
    await expect(o.retry('1', 'ann')).rejects.toMatchObject({ code: 'SAGA_CONFLICT' })
    await o.signal('1', go, 1)
    await rest()
    expect(await o.get('1')).toMatchObject({ status: 'completed' })
  })

  test('of a wait timeout and a signal exactly one wins, whichever comes first and at the same moment', async () => {
    for (const at of [99, 100, 101]) {
      const { orchestrator, clock } = lab()
      const order = saga<number>('order', { version: 1 }).waitFor('w', go, { timeoutMs: 100 }).build()
      const o = orchestrator([order])
      const handle = await o.run(order, 1, { id: '1' })
      clock.setTimer(() => void o.signal('1', go, 5), at)
      await clock.advance(200)
      const outcome = await handle.settled()
      if (at < 100) expect(outcome).toEqual({ status: 'completed', results: { w: 5 } })
      if (at > 100) expect(outcome).toMatchObject({ status: 'compensated', failure: { kind: 'timed-out', path: 'w' } })
      expect((await o.get('1'))?.buffered).toEqual([])
      const journal = (await o.get('1'))?.nodes
      expect(journal?.[0]?.status).toBe(outcome.status === 'completed' ? 'done' : 'failed')
    }
  })
})
