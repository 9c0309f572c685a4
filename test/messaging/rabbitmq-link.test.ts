import { expect, test } from 'vitest'
import { systemClock, type Clock } from '../../src/kernel/clock.js'
import { Link } from '../../src/messaging/rabbitmq-link.js'
import { until } from '../support/until.js'

test('while a connection is tried again the process stays alive, and close ends the wait', async () => {
  const kept: boolean[] = []
  const clock: Clock = {
    ...systemClock,
    setTimer: (fn, ms, options) => {
      kept.push(options?.keepAlive === true)
      return systemClock.setTimer(fn, ms, options)
    },
  }
  const connect = (): Promise<never> => Promise.reject(new Error('nobody is there'))
  const link = new Link({
    connect,
    prepare: () => Promise.resolve(),
    onReturn: () => {},
    onChange: () => {},
    clock,
    timeoutMs: 1_000,
  })
  const ended = expect(link.next()).rejects.toMatchObject({ code: 'CLOSED' })
  await until(() => kept.length >= 10) // two for each try: now it waits for 800 ms
  const began = performance.now()
  await link.close()
  await ended
  expect(performance.now() - began).toBeLessThan(500)
  expect(kept).not.toContain(false)
})
