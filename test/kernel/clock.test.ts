import { execFileSync } from 'node:child_process'
import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/kernel/clock.js'

test('the monotonic clock never goes back and the wall clock is the date', () => {
  const before = systemClock.now()
  expect(systemClock.now()).toBeGreaterThanOrEqual(before)
  expect(Math.abs(systemClock.epochMs() - new Date().getTime())).toBeLessThan(1_000)
})

test('a delay beyond what the host takes does not fire at once', async () => {
  let fired = false
  const cancels = [2 ** 31, 1e15, Infinity].map((ms) => systemClock.setTimer(() => (fired = true), ms))
  await systemClock.sleep(5)
  expect(fired).toBe(false)
  for (const cancel of cancels) cancel()
})

test('an abort ends a sleep at once with the reason and leaves no listener', async () => {
  const controller = new AbortController()
  const sleeping = systemClock.sleep(3_600_000, controller.signal)
  controller.abort('enough')
  await expect(sleeping).rejects.toBe('enough')
  await expect(systemClock.sleep(1, controller.signal)).rejects.toBe('enough')
  const { signal } = new AbortController()
  await systemClock.sleep(0, signal)
  expect(getEventListeners(signal, 'abort')).toHaveLength(0)
})

test('an idle timer lets the process exit; a sleep keeps it alive', () => {
  const code = `
    import { systemClock } from './src/kernel/clock.ts'
    systemClock.setTimer(() => console.log('idle'), 3_600_000)
    systemClock.sleep(20).then(() => console.log('slept'))`
  const args = ['--import', 'tsx', '--input-type=module', '--eval', code]
  expect(execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 })).toBe('slept\n')
})

test('a timer is never early, not by a fraction of a millisecond', async () => {
  for (let i = 0; i < 12; i++) {
    const ms = 1 + i / 11
    const before = systemClock.now()
    // oxlint-disable-next-line no-await-in-loop -- one after the other, each from another fraction of a millisecond
    await systemClock.sleep(ms)
    expect(systemClock.now() - before).toBeGreaterThanOrEqual(ms)
  }
})
