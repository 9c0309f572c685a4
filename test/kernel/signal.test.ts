import { getEventListeners } from 'node:events'
import { expect, test, vi } from 'vitest'
import { onAbort, orAbort } from '../../src/kernel/signal.js'
import { settle } from '../../src/testing/index.js'

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length

test('a thousand waiters on one signal are one listener, and none is left behind', () => {
  const { signal } = new AbortController()
  const forgets = Array.from({ length: 1_000 }, () => onAbort(signal, () => {}))
  expect(listeners(signal)).toBe(1)
  for (const forget of forgets) forget()
  for (const forget of forgets) forget()
  expect(listeners(signal)).toBe(0)
})

test('an abort calls every waiter once, also past one that throws', () => {
  const controller = new AbortController()
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const called: number[] = []
  onAbort(controller.signal, () => called.push(1))
  onAbort(controller.signal, () => {
    throw new Error('mine')
  })
  const forgotten = onAbort(controller.signal, () => called.push(2))
  onAbort(controller.signal, () => called.push(3))
  forgotten()
  controller.abort()
  expect(called).toEqual([1, 3])
  expect(warn).toHaveBeenCalledWith(expect.objectContaining({ message: 'mine' }))
  warn.mockRestore()
})

test('orAbort settles as the promise does and leaves no listener', async () => {
  const { signal } = new AbortController()
  await expect(orAbort(Promise.resolve(1), signal)).resolves.toBe(1)
  await expect(orAbort(Promise.reject(new Error('no')), signal)).rejects.toThrow('no')
  await expect(orAbort(Promise.resolve(2), undefined)).resolves.toBe(2)
  expect(listeners(signal)).toBe(0)
})

test('orAbort rejects with the reason at once, and a late failure is nobody’s unhandled rejection', async () => {
  const controller = new AbortController()
  let fail!: (error: Error) => void
  const waiting = orAbort(new Promise((_, reject) => (fail = reject)), controller.signal)
  controller.abort('enough')
  await expect(waiting).rejects.toBe('enough')
  fail(new Error('late'))
  await expect(orAbort(Promise.reject(new Error('late')), controller.signal)).rejects.toBe('enough')
  await settle()
})
