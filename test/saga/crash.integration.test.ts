import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { bundle } from '../support/bundle.js'
import { add, casesOf, noSums, runCases, runPauses } from './crash/matrix.js'
import { Processes } from './crash/processes.js'
import { Ground, type Case } from './crash/run.js'
import { SCENARIOS, type Scenario } from './crash/saga.js'
import { STORES } from './crash/stores.js'

// A part of the crash matrix: real processes, killed at points of the saga's way. All of it: `npm run test:crash`.

const urls = { postgres: inject('postgresUrl'), redis: inject('redisUrl') }
const processes = new Processes(await bundle('test/saga/crash/worker.ts', true), urls, 4)
afterAll(() => processes.close())

describe.each(STORES)('$name', (kind) => {
  const ground = new Ground(kind, urls, processes)
  beforeAll(() => ground.open())
  afterAll(() => ground.close())

  /** @param every so many points are left out but one */
  const killed = async (scenario: Scenario, every: number, first: number): Promise<ReturnType<typeof noSums>> => {
    const sums = noSums()
    const [undisturbed, cases] = await casesOf(ground, scenario, 1)
    add(sums, undisturbed)
    const some = cases.filter((_, i) => i % every === first % every)
    await runCases(ground, some, 4, (outcome) => add(sums, outcome))
    return sums
  }

  test('a saga whose process is killed at any point goes on in another, to its end, with nothing lost, doubled or left behind', async () => {
    const sums = await killed('forward', 8, 1)
    expect(sums.wrong).toEqual([])
    expect(sums.deaths).toBeGreaterThan(sums.runs / 2)
    expect(sums.statuses).toEqual({ completed: sums.runs })
    // within the lease and a second; that of each is for `npm run test:crash`, on a machine that has nothing else to do
    expect(sums.late.length).toBeLessThan(sums.takeovers)
  }, 300_000)

  test('one that fails is undone by whoever takes over, whatever point its process was killed at', async () => {
    const sums = noSums()
    const half = STORES.indexOf(kind) % 2 // the other one on the other store; all on both: `npm run test:crash`
    const failing = SCENARIOS.slice(1).filter((_, i) => i % 2 === half)
    for (const [i, scenario] of failing.entries()) {
      // oxlint-disable-next-line no-await-in-loop
      const { wrong, deaths } = await killed(scenario, 60, i * 7)
      sums.wrong.push(...wrong)
      sums.deaths += deaths
    }
    expect(sums.wrong).toEqual([])
    expect(sums.deaths).toBeGreaterThan(failing.length)
  }, 300_000)

  test('a process that is stopped between its claim and its first write, for longer than its lease, writes nothing when it wakes up', async () => {
    const sums = noSums()
    const at = (scenario: Scenario, path: string, undo: boolean): Case => ({
      ...{ scenario, seed: 1, points: [{ kind: 'body', path, undo, phase: 'after' }] },
    })
    const cases = [at('forward', 'a', false), at('forward', 'p/r/r1', false), at('fail charge', 'b', true)]
    await runCases(ground, cases, 4, (outcome) => add(sums, outcome), 'runStopped')
    expect(sums.wrong).toEqual([])
    expect(sums.deaths).toBeGreaterThan(2 * cases.length) // of each one is killed and two are stopped
  }, 300_000)

  test('processes that are paused for longer than their leases, and killed, never disagree on what happened', async () => {
    const sums = await runPauses(ground, { orchestrators: 3, sagas: 13, forMs: 4_000, seed: 1 })
    expect(sums.wrong).toEqual([])
    expect(sums.pauses).toBeGreaterThan(3)
    expect(sums.takeovers).toBeGreaterThan(3)
  }, 300_000)
})
