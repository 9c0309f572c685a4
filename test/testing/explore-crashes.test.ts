import { expect, test } from 'vitest'
import { saga, signal } from '../../src/saga/index.js'
import { CrashesBrokeError, exploreCrashes, simulate, type CrashReport } from '../../src/testing/index.js'

/** A bank that tells a repeat by its key, or does not. */
const bank = () => {
  const charges: string[] = []
  return {
    charges,
    charge: (key: string) => void (charges.includes(key) || charges.push(key)),
    chargeBlindly: () => void charges.push('?'),
    refund: (key: string) => void (charges.includes(key) && charges.splice(charges.indexOf(key), 1)),
  }
}
type Bank = ReturnType<typeof bank>

const pay = (how: 'by key' | 'blindly') => (world: Bank) =>
  saga<number>('pay', { version: 1 })
    .step('charge', {
      run: ({ key }) => (how === 'by key' ? world.charge(key) : world.chargeBlindly()),
      compensate: ({ runKey }) => world.refund(runKey),
    })
    .step('ship', { run: () => 'shipped' })
    .build()

const check = ({ status, effects }: { status: string; effects: Bank }): void => {
  const expected = status === 'completed' ? 1 : 0
  if (effects.charges.length !== expected) throw new Error(`${effects.charges.length} charges in a ${status} saga`)
}

async function brokenBy(exploration: Promise<unknown>): Promise<CrashReport> {
  const error = await exploration.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(CrashesBrokeError)
  return (error as CrashesBrokeError).report
}

test('a crash is tried before and after every write and every body', async () => {
  const { runs, plans, broken } = await exploreCrashes({ saga: pay('by key'), input: 1, effects: bank, check })
  const both = (what: string): string[] => [`before ${what}`, `after ${what}`]
  const points = ['create', 'run charge', 'write 1', 'run ship', 'write 2'].flatMap(both)
  expect(plans).toEqual([{ failAt: undefined, points, ends: { completed: 11 }, broken: 0 }])
  expect([runs, broken]).toEqual([11, []])
})

test('each step is made to fail, for certain and with its answer lost, at every crash', async () => {
  const options = { saga: pay('by key'), input: 1, effects: bank, check }
  const report = await exploreCrashes({ ...options, failures: ['fails', 'unsure'] })
  expect(report.plans.map(({ failAt }) => failAt && `${failAt.path} ${failAt.how}`)).toEqual([
    undefined,
    'charge fails',
    'charge unsure',
    'ship fails',
    'ship unsure',
  ])
  expect(report.runs).toBe(report.plans.reduce((sum, { points }) => sum + 1 + points.length, 0))
  expect(report.plans.slice(1).every(({ ends }) => Object.keys(ends).join() === 'compensated')).toBe(true)
  expect(report.text).toContain(`saga 'pay': ${report.runs} runs, all as they must be`)
})

test('the crash that breaks what must hold is named, told and drawn, and happens again when it is asked for', async () => {
  const options = { effects: bank }
  const report = await brokenBy(exploreCrashes({ ...options, saga: pay('blindly'), input: 1, check }))
  expect(report.broken.map(({ crashAt }) => crashAt)).toEqual([['after run charge'], ['before write 1']])
  expect(report.text).toContain('BROKEN: nothing fails, crash after run charge\n  2 charges in a completed saga')
  expect(report.text).toMatch(/✗ crash after run charge\n.*process 2 {2}write 1: charge interrupted/)
  expect(report.text).toContain(`{ ...options, crashAt: ["after run charge"] }`)
  expect(report.text).toContain('flowchart TD')
  const [{ crashAt, end }] = report.broken as [(typeof report.broken)[number]]
  const again = await simulate(pay('blindly'), 1, { ...options, crashAt })
  expect(again.effects.charges).toHaveLength(2)
  expect(again.story).toBe(end.story)
})

test('a second crash finds what one does not', async () => {
  const twice = (counts: { runs: number }) =>
    saga<number>('twice', { version: 1 })
      .step('a', { run: () => void counts.runs++ })
      .build()
  const options = {
    saga: twice,
    input: 1,
    effects: () => ({ runs: 0 }),
    check: ({ effects }: { effects: { runs: number } }) => {
      if (effects.runs > 2) throw new Error('three times')
    },
  }
  const once = await exploreCrashes(options)
  const { broken, runs } = await brokenBy(exploreCrashes({ ...options, crashes: 2 }))
  expect(broken[0]?.crashAt).toEqual(['after run a', 'after run a #2'])
  expect(runs).toBeGreaterThan(once.runs * 3)
})

test('a saga that does not end is broken', async () => {
  const waits = saga<number>('waits', { version: 1 }).waitFor('approval', signal<number>('approved')).build()
  const { broken } = await brokenBy(exploreCrashes({ saga: waits, input: 1 }))
  expect(broken).toHaveLength(1) // not once more for every crash
  expect(String(broken[0]?.error)).toContain('does not end: it is still waiting')
})

test('a saga whose bodies do not do the same each time is refused, and so are too many runs', async () => {
  let count = 0
  const moody = saga<number>('moody', { version: 1 })
    .step('a', {
      run: () => {
        if (count++ > 3) throw new Error('no more')
      },
    })
    .step('b', { run: () => {} })
    .build()
  await expect(exploreCrashes({ saga: moody, input: 1 })).rejects.toThrow(/was not reached again/)
  const options = { saga: pay('by key'), input: 1, effects: bank }
  await expect(exploreCrashes({ ...options, maxRuns: 5 })).rejects.toThrow(/more than 5 runs/)
})
