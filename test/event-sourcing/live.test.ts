import { expect, test } from 'vitest'
import { live, type Event } from '../../src/event-sourcing/index.js'
import { settle } from '../../src/testing/index.js'
import { open } from './subscriptions.js'

test('live() gives the state now, and after every change the newest', async () => {
  const { store, clock, append } = open()
  await append(1, 2)
  const sum = { initial: 0, evolve: (s: number, event: Event) => s + (event.data as number) }
  const states = live(store, 's', sum, { clock })[Symbol.asyncIterator]()
  expect((await states.next()).value).toEqual({ state: 3, version: 2 })
  const next = states.next()
  await append(3)
  expect((await next).value).toEqual({ state: 6, version: 3 })
  await append(4)
  await append(5)
  expect((await states.next()).value).toEqual({ state: 15, version: 5 })
  await states.return()
  expect(clock.pendingTimers).toBe(0)
})

test('live() of an unknown stream begins with the initial state, and ends when it is aborted', async () => {
  const { store, clock } = open()
  const controller = new AbortController()
  const states = live(store, 'x', { initial: 'none', evolve: () => 'some' }, { clock, signal: controller.signal })
  expect((await states.next()).value).toEqual({ state: 'none', version: 0 })
  const next = states.next()
  await settle()
  const reason = new Error('enough')
  controller.abort(reason)
  await expect(next).rejects.toBe(reason)
  expect(clock.pendingTimers).toBe(0)
})
