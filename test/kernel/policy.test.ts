import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { CallContext, contextOf } from '../../src/kernel/policy.js'

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

test('a context makes its signal when it is read, once, and listens to the caller’s only then', () => {
  const { signal } = new AbortController()
  const context = new CallContext(signal)
  expect(context.aborted).toBe(false)
  expect(listeners(signal)).toBe(0)
  expect(context.signal).toBe(context.signal)
  expect(listeners(signal)).toBe(1)
  context.release()
  expect(listeners(signal)).toBe(0)
  expect(new CallContext(undefined).signal.aborted).toBe(false)
})

test('listeners that two hundred operations leave on their signals are one listener on the caller’s', () => {
  const { signal } = new AbortController()
  const contexts = Array.from({ length: 200 }, () => new CallContext(signal))
  for (const context of contexts) context.signal.addEventListener('abort', () => {})
  expect(listeners(signal)).toBe(1)
  for (const context of contexts) context.release()
  expect(listeners(signal)).toBe(0)
})

test('a context aborts for itself or for the caller, before or after its signal is read', () => {
  const parent = new AbortController()
  const early = new CallContext(parent.signal)
  early.abort('mine')
  early.abort('again')
  expect([early.aborted, early.reason, early.signal.reason]).toEqual([true, 'mine', 'mine'])
  expect(listeners(parent.signal)).toBe(0)

  const late = new CallContext(parent.signal)
  const { signal } = late
  parent.abort('theirs')
  late.abort('mine')
  expect([late.aborted, late.reason, signal.reason]).toEqual([true, 'theirs', 'theirs'])
  expect(new CallContext(parent.signal).signal.reason).toBe('theirs')
})

test('a context that has let go of its caller never listens to it again', () => {
  const parent = new AbortController()
  const context = new CallContext(parent.signal)
  context.release()
  const { signal } = context
  parent.abort()
  expect(signal.aborted).toBe(false)
})

test('an abort passes down through contexts that have no signal, without making one', () => {
  const parent = new AbortController()
  const outer = new CallContext(parent.signal)
  const inner = new CallContext(outer, 2)
  const told: unknown[] = []
  inner.onAbort(() => told.push(inner.reason))
  const forget = inner.onAbort(() => told.push('forgotten'))
  forget()
  expect(listeners(parent.signal)).toBe(1)
  outer.abort('outer')
  outer.abort('again')
  expect(told).toEqual(['outer'])
  expect([inner.aborted, inner.signal.reason, parent.signal.aborted]).toEqual([true, 'outer', false])
  expect(listeners(parent.signal)).toBe(0)
})

test('a policy inside another uses its context, and takes signal and attempt from anything else', () => {
  const context = new CallContext(undefined, 3)
  expect(contextOf(context)).toBe(context)
  expect(contextOf(undefined).attempt).toBe(1)
  const foreign = { signal: AbortSignal.abort('no'), attempt: 2 }
  expect(contextOf(foreign).attempt).toBe(2)
  expect(contextOf(foreign).reason).toBe('no')
})
