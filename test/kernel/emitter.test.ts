import { expect, test, vi } from 'vitest'
import { Emitter } from '../../src/kernel/emitter.js'
import { settle } from '../../src/testing/index.js'

test('listeners are called in order until they leave, each registration for itself', () => {
  const emitter = new Emitter<{ tick: number }>()
  const seen: string[] = []
  const both = (n: number): unknown => seen.push(`both ${n}`)
  const leave = emitter.on('tick', both)
  emitter.on('tick', (n) => seen.push(`other ${n}`))
  emitter.on('tick', both)
  emitter.emit('tick', 1)
  leave()
  leave()
  emitter.emit('tick', 2)
  expect(seen).toEqual(['both 1', 'other 1', 'both 1', 'other 2', 'both 2'])
})

test('has() tells whether anyone listens', () => {
  const emitter = new Emitter<{ tick: number }>()
  expect(emitter.has('tick')).toBe(false)
  const leave = emitter.on('tick', () => {})
  expect(emitter.has('tick')).toBe(true)
  leave()
  expect(emitter.has('tick')).toBe(false)
})

test('a listener that comes or goes during an event does not disturb it', () => {
  const emitter = new Emitter<{ tick: number }>()
  const seen: string[] = []
  emitter.on('tick', () => {
    leave()
    emitter.on('tick', () => seen.push('new'))
  })
  const leave = emitter.on('tick', () => seen.push('old'))
  emitter.emit('tick', 1)
  expect(seen).toEqual(['old'])
})

test('a listener that throws or rejects is reported and changes nothing', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const emitter = new Emitter<{ tick: number }>()
  let reached = false
  emitter.on('tick', () => {
    throw new Error('thrown')
  })
  emitter.on('tick', () => Promise.reject(new Error('rejected')))
  emitter.on('tick', () => (reached = true))
  emitter.emit('tick', 1)
  await settle()
  expect(reached).toBe(true)
  expect(warn.mock.calls.map(([e]) => (e as Error).message)).toEqual(['thrown', 'rejected'])
  warn.mockRestore()
})

test('a listener may throw anything at all', () => {
  const warn = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  for (const thrown of [undefined, Symbol('s'), Object.create(null), proxy]) {
    const emitter = new Emitter<{ tick: number }>()
    emitter.on('tick', () => {
      throw thrown
    })
    emitter.emit('tick', 1)
  }
  expect(warn).toHaveBeenCalledTimes(4)
  warn.mockRestore()
})

test('an error that can’t be looked at is reported all the same, and changes nothing', async () => {
  const warnings: string[] = []
  const warned = (warning: Error): unknown => warnings.push(warning.message)
  process.on('warning', warned)
  const emitter = new Emitter<{ tick: number }>()
  emitter.on('tick', () => {
    throw new Proxy(new Error('p'), {
      get() {
        throw new Error('trap')
      },
    })
  })
  emitter.emit('tick', 1)
  await settle()
  process.off('warning', warned)
  expect(warnings).toEqual(['something that has no text'])
})
