import { expect, test } from 'vitest'
import { CircuitBreaker, type WindowOptions } from '../../src/resilience/index.js'
import { ManualClock } from '../../src/testing/index.js'
import { failing, ok } from './calls.js'

const make = (
  window: WindowOptions,
): { circuit: CircuitBreaker; clock: ManualClock; run(what: string): Promise<string> } => {
  const clock = new ManualClock({ now: 0 })
  const circuit = new CircuitBreaker({ window, clock })
  /** `s`uccess, `f`ailure, slow when upper case; ends with the state. */
  const run = async (what: string): Promise<string> => {
    for (const letter of what) {
      await circuit
        .execute(async () => {
          if (letter < 'a') await clock.advance(50)
          return letter.toLowerCase() === 'f' ? failing('no')() : ok()
        })
        .catch(() => {})
    }
    return circuit.state
  }
  return { circuit, clock, run }
}

test('a rate opens at its threshold, not above it, once there are enough calls', async () => {
  const { run, circuit } = make({ kind: 'count', size: 10, minimumCalls: 10, failureRatio: 0.3 })
  expect(await run('fffssssss')).toBe('closed')
  expect(circuit.snapshot()).toMatchObject({ calls: 9, failures: 3 })
  expect(await run('s')).toBe('open')
})

test('a share that no binary fraction hits is met exactly', async () => {
  const { run } = make({ kind: 'count', size: 100, minimumCalls: 100, failureRatio: 0.07 }) // 0.07 * 100 > 7
  expect(await run('f'.repeat(7) + 's'.repeat(92))).toBe('closed')
  expect(await run('s')).toBe('open')
})

test('a success can open a circuit: it may be the call that makes them enough', async () => {
  const { run } = make({ kind: 'time', durationMs: 1_000, minimumCalls: 2, failureRatio: 0.5 })
  expect(await run('f')).toBe('closed')
  expect(await run('s')).toBe('open')
})

test('a count window forgets what is older than its size', async () => {
  const { run, circuit } = make({ kind: 'count', size: 4, minimumCalls: 4, failureRatio: 0.5 })
  expect(await run('fsssfsssf')).toBe('closed')
  expect(circuit.snapshot()).toMatchObject({ calls: 4, failures: 1 })
  expect(await run('f')).toBe('open')
})

test('failures of an hour ago do not count, when no call came since and when some did', async () => {
  const quiet = make({ kind: 'time', durationMs: 10_000, minimumCalls: 2, failureRatio: 0.5 })
  await quiet.run('f')
  await quiet.clock.advance(3_600_000)
  expect(quiet.circuit.snapshot()).toMatchObject({ calls: 0, failures: 0 })
  expect(await quiet.run('f')).toBe('closed')

  const busy = make({ kind: 'time', durationMs: 10_000, minimumCalls: 4, failureRatio: 0.25 })
  await busy.run('f')
  for (const what of ['s', 's', '', 'ss', 'ss']) {
    await busy.clock.advance(2_500)
    expect(await busy.run(what)).toBe('closed')
  }
})

test('a slow call counts as slow whether it failed or not, and a slow failure is one call', async () => {
  const { run, circuit } = make({
    kind: 'count',
    size: 8,
    minimumCalls: 8,
    failureRatio: 0.5,
    slowCallMs: 50,
    slowRatio: 0.5,
  })
  expect(await run('FSfsss')).toBe('closed')
  expect(circuit.snapshot()).toMatchObject({ calls: 6, failures: 2, slow: 2 })
  expect(await run('S')).toBe('closed')
  expect(await run('S')).toBe('open')
})

test('a count window forgets slow calls too', async () => {
  const { run, circuit } = make({
    kind: 'count',
    size: 4,
    minimumCalls: 4,
    failureRatio: 1,
    slowCallMs: 50,
    slowRatio: 0.75,
  })
  for (let i = 0; i < 5; i++) expect(await run('SsSs')).toBe('closed')
  expect(circuit.snapshot()).toMatchObject({ calls: 4, slow: 2 })
})

test('without slowRatio a circuit opens when all calls are slow', async () => {
  const { run } = make({ kind: 'time', durationMs: 1_000, minimumCalls: 3, failureRatio: 1, slowCallMs: 50 })
  expect(await run('SS')).toBe('closed')
  expect(await run('S')).toBe('open')
})

test('setting the wall clock back or forward changes nothing', async () => {
  const { run, clock, circuit } = make({ kind: 'time', durationMs: 1_000, minimumCalls: 3, failureRatio: 1 })
  await run('f')
  clock.jumpEpoch(-3_600_000)
  await run('f')
  clock.jumpEpoch(7_200_000)
  expect(circuit.snapshot()).toMatchObject({ calls: 2 })
  expect(await run('f')).toBe('open')
  await clock.advance(60_000)
  expect(await run('s')).toBe('closed')
})
