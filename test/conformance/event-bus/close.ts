import { expect } from 'vitest'
import { isHoldfastError } from '../../../src/kernel/errors.js'
import type { Message } from '../../../src/messaging/index.js'
import { gate, numbers, range, type Law } from './bench.js'

/** Ending: subscriptions, groups, the bus; and what is refused at the start. */
export function closeLaws(law: Law): void {
  law('close waits for the handlers that run, takes nothing more, and the rest waits for the next', async (t) => {
    const [started, release] = [gate(), gate()]
    const first: Message[] = []
    const subscription = await t.subscribe(
      'g',
      ['A'],
      async (message) => {
        started.open()
        await release.opened
        first.push(message)
      },
      { concurrency: 2, order: 'none', graceMs: Infinity },
    )
    let running = 0
    const probe = await t.collect('probe', ['A'])
    await t.bus.publish(t.many(6, 'A'))
    await t.until(() => probe.length === 6 && started.isOpen)
    let closed = false
    const closing = subscription.close().then(() => (closed = true))
    await t.advance(50)
    running = first.length
    expect([closed, running]).toEqual([false, 0])
    release.open()
    await closing
    expect(first.length).toBeLessThanOrEqual(2)
    const taken = first.length
    const rest = await t.collect('g', ['A'], { order: 'none' })
    await t.until(() => rest.length >= 6 - taken)
    expect(first.length).toBe(taken)
    expect(numbers([...first, ...rest])).toEqual(range(6))
  })

  law(
    'after the grace time the signal aborts, the message goes back, and what its handler does no longer counts',
    async (t) => {
      const release = gate()
      const started = gate()
      let reason: unknown
      const subscription = await t.subscribe(
        'g',
        ['A'],
        async (_, { signal }) => {
          signal.addEventListener('abort', () => (reason = signal.reason))
          started.open()
          await release.opened
          throw new Error('too late')
        },
        { graceMs: 20, retry: { attempts: 1 } },
      )
      await t.bus.publish({ type: 'A', data: 1 })
      await t.until(() => started.isOpen)
      const closing = subscription.close()
      await t.until(() => reason !== undefined)
      expect(isHoldfastError(reason, 'CLOSED')).toBe(true)
      await closing
      const second = gate()
      const attempts: number[] = []
      await t.subscribe('g', ['A'], async (_, { attempt }) => {
        attempts.push(attempt)
        await second.opened
      })
      await t.until(() => attempts.length === 1)
      release.open() // the first handler fails for good, but the message is another's now
      await t.advance(20)
      expect(attempts).toEqual([2])
      expect(await t.dead('g')).toEqual([])
      second.open()
    },
  )

  law('a message whose handler fails while its subscription closes is not lost', async (t) => {
    const release = gate()
    const started = gate()
    const subscription = await t.subscribe(
      'g',
      ['A'],
      async () => {
        started.open()
        await release.opened
        throw new Error('too late')
      },
      { retry: { attempts: 2 } },
    )
    await t.bus.publish({ type: 'A', data: 1 })
    await t.until(() => started.isOpen)
    const closing = subscription.close()
    release.open()
    await closing
    const rest = await t.collect('g', ['A'])
    await t.until(() => rest.length === 1)
  })

  law('a handler that closes its own subscription, and does not await it, has done its message', async (t) => {
    const seen: unknown[] = []
    let closing: Promise<void> | undefined
    const subscription = await t.subscribe(
      'g',
      ['A'],
      async ({ data }) => {
        seen.push(data)
        closing ??= subscription.close()
      },
      { concurrency: 1, graceMs: Infinity },
    )
    await t.bus.publish(t.many(2, 'A'))
    await t.until(() => closing !== undefined)
    await closing
    const rest = await t.collect('g', ['A'], { concurrency: 1 })
    await t.until(() => rest.length > 0)
    expect([seen, numbers(rest)]).toEqual([[0], [1]])
  })

  law('closing again gives the same promise', async (t) => {
    const subscription = await t.subscribe('g', ['A'], () => {})
    expect(subscription.group).toBe('g')
    expect(subscription.close()).toBe(subscription.close())
    await subscription[Symbol.asyncDispose]()
    expect(t.bus.close()).toBe(t.bus.close())
    await t.bus[Symbol.asyncDispose]()
  })

  law('closing the bus closes every subscription of a group, and waits for the handlers of each', async (t) => {
    const gates = ['one', 'two', 'three'].map((name) => ({ name, ...gate() }))
    const running: string[] = []
    for (const { name, opened } of gates)
      await t.subscribe(
        'g',
        ['A'],
        async () => {
          running.push(name)
          await opened
        },
        { concurrency: 1, graceMs: Infinity },
      )
    await t.bus.publish(t.many(3, 'A'))
    await t.until(() => running.length === 3)
    let closed = false
    const closing = t.bus.close().then(() => (closed = true))
    for (const at of [0, 2, 1]) {
      await t.advance(30)
      expect(closed).toBe(false)
      gates[at]!.open()
    }
    await closing
  })

  law('a closed bus refuses to publish and to subscribe', async (t) => {
    await t.collect('g', ['A'])
    await t.bus.close()
    await expect(t.bus.publish({ type: 'A', data: 1 })).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(t.collect('h', ['A'])).rejects.toMatchObject({ code: 'CLOSED' })
  })

  law('deleteGroup forgets what waits and what is dead, and refuses while a subscription is open', async (t) => {
    const fail = (): never => {
      throw new Error('no')
    }
    const subscription = await t.subscribe('g', ['A'], fail, { retry: { attempts: 1 } })
    await t.bus.publish({ id: 'dead', type: 'A', data: 1 })
    await t.until(async () => (await t.dead('g')).length === 1)
    await expect(t.bus.deleteGroup('g')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await subscription.close()
    await t.bus.publish({ type: 'A', data: 2 })
    await t.bus.deleteGroup('g')
    await t.bus.deleteGroup('never')
    expect(await t.dead('g')).toEqual([])
    const seen = await t.collect('g', ['A'])
    await t.bus.publish({ type: 'A', data: 3 })
    await t.until(() => seen.length >= 1)
    expect(numbers(seen)).toEqual([3])
  })

  law('subscriptions of one group name the same types and the same order', async (t) => {
    await t.subscribe('g', ['A', 'B'], () => {}, { order: 'key' })
    await t.subscribe('g', ['B', 'A', 'A'], () => {}, { order: 'key' })
    for (const types of [['A'], ['A', 'B', 'C'], ['A', 'C'], '*'] as const)
      await expect(t.subscribe('g', types, () => {}, { order: 'key' })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
      })
    await expect(t.subscribe('g', ['A', 'B'], () => {}, { order: 'none' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
  })

  law('an option out of its range is refused', async (t) => {
    const good = { group: 'g', types: ['A'], handle: () => {} }
    const bad: object[] = [
      { group: '' },
      { group: 1 },
      { types: [] },
      { types: [''] },
      { types: 'A' },
      { types: [1] },
      { handle: 'f' },
      { concurrency: 0 },
      { concurrency: 1.5 },
      { order: 'type' },
      { retry: 3 },
      { retry: { attempts: 0 } },
      { retry: { backoff: 100 } },
      { retry: { retryOn: true } },
      { schema: 'x' },
      { graceMs: -1 },
      { graceMs: NaN },
    ]
    for (const option of bad)
      await expect(t.bus.subscribe({ ...good, ...option })).rejects.toMatchObject({
        code: 'INVALID_OPTION',
      })
    await expect(t.bus.deadLetters('g').list(0)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
}
