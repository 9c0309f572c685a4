import { describe, expect, test, vi } from 'vitest'
import { TimeoutError } from '../../src/kernel/errors.js'
import { constant, saga, SagaOrchestrator, signal } from '../../src/saga/index.js'
import { lab, rest } from './lab.js'

const fail = (message = 'no'): never => {
  throw new Error(message)
}

const code = (expected: string): object => expect.objectContaining({ code: expected })

describe('bodies', () => {
  test('are told when their time is up; the outcome is then unknown', async () => {
    const { clock, orchestrator } = lab()
    const reasons: unknown[] = []
    const undo = vi.fn()
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        timeoutMs: 100,
        run: ({ signal: s }) =>
          new Promise((resolve) => s.addEventListener('abort', () => (reasons.push(s.reason), resolve(1)))),
        compensate: ({ outcome, result, runKey, key }) => undo(outcome, result, runKey === key),
      })
      .build()
    const handle = await orchestrator([order]).run(order, 1, { id: '1' })
    await clock.advance(100)
    expect(await handle.settled()).toMatchObject({ status: 'compensated', failure: { error: { code: 'TIMEOUT' } } })
    expect(reasons).toEqual([code('TIMEOUT')])
    expect(undo.mock.calls).toEqual([['unknown', undefined, false]])
  })

  test('what they throw is for certain, unless it is an uncertain error or they say otherwise', async () => {
    const undone: string[] = []
    for (const [error, uncertain] of [
      [new Error('plain'), undefined],
      [new TimeoutError('uncertain', 1), undefined],
      [new Error('reset'), (e: unknown) => (e as Error).message === 'reset'],
    ] as const) {
      const order = saga<number>('order', { version: 1 })
        .step('a', {
          run: () => {
            throw error
          },
          compensate: () => void undone.push(error.message),
          uncertain,
        })
        .build()
      await (await lab().orchestrator([order]).run(order, 1, { id: '1' })).settled()
    }
    expect(undone).toEqual(['uncertain', 'reset'])
  })

  test('publish what they emit after it is stored, with ids that stay, and only when the attempt succeeds', async () => {
    const { clock, orchestrator } = lab()
    const published: { id: string; type: string; data: unknown }[] = []
    let down = true
    const bus = {
      publish: async (messages: unknown) => {
        if (down) throw new Error('bus is down')
        published.push(...(messages as typeof published))
      },
    }
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        run: ({ emit, attempt }) => {
          emit({ type: 'Tried', data: { attempt }, key: 'k' })
          if (attempt === 1) fail()
        },
        retry: { attempts: 2, backoff: constant(0) },
      })
      .step('b', { run: ({ emit }) => emit({ type: 'Paid', data: new Date(0) }) })
      .build()
    const o = orchestrator([order], { bus })
    const errors = vi.fn()
    o.on('error', ({ doing }) => errors(doing))
    const handle = await o.run(order, 1, { id: '1' })
    expect((await handle.settled()).status).toBe('completed')
    expect(published).toEqual([])
    expect(errors).toHaveBeenCalledWith('publish')
    down = false
    await clock.advance(10_000)
    expect([...new Map(published.map((m) => [m.id, m])).values()]).toMatchObject([
      { type: 'Tried', data: { attempt: 2 }, key: 'k', headers: { correlationId: '1' } },
      { type: 'Paid', data: new Date(0) },
    ])
    expect(clock.pendingTimers).toBe(0)
  })

  test('events of a process that died before it could publish are published by the next owner', async () => {
    const { clock, orchestrator } = lab()
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: ({ emit }) => emit({ type: 'Paid', data: 1 }) })
      .build()
    const first = orchestrator([order], { bus: { publish: () => new Promise(() => {}) } })
    await first.run(order, 1, { id: '1' })
    await rest()
    first.line.cut()
    const publish = vi.fn(async () => {})
    orchestrator([order], { bus: { publish } })
    await clock.advance(11_000)
    expect(publish).toHaveBeenCalledTimes(1)
  })

  test('an event with headers that are no strings fails the step instead of being stored', async () => {
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: ({ emit }) => emit({ type: 'x', data: 1, headers: { n: 5 as never } }) })
      .build()
    const o = lab().orchestrator([order], { bus: { publish: async () => {} } })
    const outcome = await (await o.run(order, 1, { id: '1' })).settled()
    expect(outcome).toMatchObject({ failure: { error: { code: 'INVALID_OPTION' } } })
  })

  test.each([undefined, null, 5, { type: 'x', data: 1, headers: null }])(
    'what is no event fails the step with InvalidOptionError: %j',
    async (none) => {
      const order = saga<number>('order', { version: 1 })
        .step('a', { run: ({ emit }) => emit(none as never) })
        .build()
      const handle = await lab()
        .orchestrator([order], { bus: { publish: async () => {} } })
        .run(order, 1, { id: '1' })
      expect(await handle.settled()).toMatchObject({ failure: { error: { code: 'INVALID_OPTION' } } })
    },
  )

  test('what they give and emit may be so long together; with more the step fails once and for all', async () => {
    const ran: string[] = []
    const most = 'x'.repeat(2 ** 24 - 2) // and its quotes
    const { orchestrator } = lab()
    const at = async (id: string, result: unknown, data?: unknown): Promise<unknown> => {
      const order = saga<number>('order', { version: 1 })
        .step('a', {
          run: ({ emit }) => {
            ran.push(id)
            if (data !== undefined) emit({ type: 'e', data })
            return result
          },
          retry: { attempts: 3 },
          compensate: ({ outcome }) => void ran.push(`${id} ${outcome}`),
        })
        .build()
      const o = orchestrator([order], { bus: { publish: async () => {} } })
      const outcome = await (await o.run(order, 1, { id })).settled()
      await o.close()
      return outcome
    }
    expect(await at('most', most)).toMatchObject({ status: 'completed' })
    const refused = { status: 'compensated', failure: { path: 'a', error: { code: 'INVALID_PAYLOAD' } } }
    expect(await at('longer', `${most}x`)).toMatchObject(refused)
    expect(await at('with event', most, 1)).toMatchObject(refused)
    expect(ran).toEqual(['most', 'longer', 'longer unknown', 'with event', 'with event unknown'])
    const o = orchestrator([])
    await expect(o.signal('most', signal('s'), `${most}x`)).rejects.toEqual(code('INVALID_PAYLOAD'))
    await expect(o.resolve('most', 'a', `${most}x`, 'ann')).rejects.toEqual(code('INVALID_PAYLOAD'))
  })

  test('emit without a bus is a mistake that fails the step', async () => {
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: ({ emit }) => emit({ type: 'x', data: 1 }) })
      .build()
    const handle = await lab().orchestrator([order]).run(order, 1, { id: '1' })
    expect(await handle.settled()).toMatchObject({ failure: { error: { code: 'INVALID_OPTION' } } })
  })
})

describe('closing', () => {
  test('lets bodies end, hands sagas over at once, and refuses what comes later', async () => {
    const { clock, orchestrator } = lab()
    const ran: string[] = []
    const order = saga<number>('order', { version: 1 })
      .step('a', {
        run: async () => {
          await clock.sleep(100)
          ran.push('a')
        },
      })
      .step('b', { run: ({ fence, attempt }) => void ran.push(`b${fence}${attempt}`) })
      .build()
    const o = orchestrator([order])
    const handle = await o.run(order, 1, { id: '1' })
    await rest()
    const closed = o.close()
    await clock.advance(100)
    await closed
    await expect(handle.settled()).rejects.toEqual(code('CLOSED'))
    await expect(o.run(order, 1, { id: '2' })).rejects.toEqual(code('CLOSED'))
    const next = orchestrator([order])
    const again = await next.run(order, 1, { id: '1' })
    expect((await again.settled()).status).toBe('completed')
    expect(ran).toEqual(['a', 'b21'])
  })

  test('who waits for an outcome is let go by its signal and by closing, though the store does not answer', async () => {
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: () => 1 })
      .build()
    const { store } = lab()
    store.read = () => new Promise(() => {})
    const o = new SagaOrchestrator({ store, sagas: [order] })
    const handle = await o.run(order, 1, { id: '1' })
    const stop = new AbortController()
    const stopped = expect(handle.settled({ signal: stop.signal })).rejects.toThrow('enough')
    const closed = expect(handle.settled()).rejects.toMatchObject({ code: 'CLOSED' })
    await rest()
    stop.abort(new Error('enough'))
    await stopped
    await o.close()
    await closed
  })

  test('does not wait for a body longer than graceMs', async () => {
    const { clock, orchestrator } = lab()
    const aborted = vi.fn()
    const order = saga<number>('order', { version: 1 })
      .step('a', { run: ({ signal: s }) => new Promise(() => s.addEventListener('abort', aborted)) })
      .build()
    const o = orchestrator([order], { graceMs: 500 })
    await o.run(order, 1, { id: '1' })
    await rest()
    const closed = o.close()
    await clock.advance(500)
    await closed
    expect(aborted).toHaveBeenCalledTimes(1)
    expect(clock.pendingTimers).toBe(0)
  })
})
