import { expect, test } from 'vitest'
import { ManualClock, seededRandom } from '../../src/testing/index.js'

test('timers fire in order of time, then of making, and not before their time', async () => {
  const clock = new ManualClock()
  const fired: string[] = []
  clock.setTimer(() => fired.push('b'), 20)
  clock.setTimer(() => fired.push('c'), 20)
  clock.setTimer(() => fired.push('a'), 10)
  clock.setTimer(() => fired.push('never'), Infinity)
  const cancel = clock.setTimer(() => fired.push('cancelled'), 5)
  cancel()
  await clock.advance(19)
  expect(fired).toEqual(['a'])
  await clock.advance(1)
  expect(fired).toEqual(['a', 'b', 'c'])
  expect(clock.pendingTimers).toBe(0)
})

test('promises settle between timers, and timers made meanwhile fire when due', async () => {
  const clock = new ManualClock()
  const seen: string[] = []
  const work = (async () => {
    for (let i = 1; i <= 3; i++) {
      await clock.sleep(10)
      seen.push(`${i} at ${clock.now()}`)
    }
  })()
  clock.setTimer(() => seen.push(`timer at ${clock.now()}`), 15)
  await clock.advance(30)
  await work
  expect(seen).toEqual(['1 at 1010', 'timer at 1015', '2 at 1020', '3 at 1030'])
})

test('the wall clock moves with time and jumps alone', async () => {
  const clock = new ManualClock({ now: 5, epochMs: 1_000 })
  await clock.advance(10)
  clock.jumpEpoch(-500)
  expect([clock.now(), clock.epochMs()]).toEqual([15, 510])
})

test('time does not go back', async () => {
  await expect(new ManualClock().advance(-1)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
})

test('the same seed gives the same numbers, in [0, 1) and well spread', () => {
  const numbers = Array.from({ length: 10_000 }, seededRandom(7))
  expect(numbers).toEqual(Array.from({ length: 10_000 }, seededRandom(7)))
  expect(numbers).not.toEqual(Array.from({ length: 10_000 }, seededRandom(8)))
  expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0)
  expect(Math.max(...numbers)).toBeLessThan(1)
  for (let tenth = 0; tenth < 10; tenth++) {
    expect(numbers.filter((n) => Math.floor(n * 10) === tenth).length).toBeGreaterThan(850)
  }
})

test('time does not go back when two advance at once', async () => {
  const clock = new ManualClock({ now: 0 })
  const seen: number[] = []
  for (const at of [50, 60]) clock.setTimer(() => seen.push(clock.now()), at)
  const far = clock.advance(100)
  await clock.advance(10)
  seen.push(clock.now())
  await far
  seen.push(clock.now())
  expect(seen).toEqual(seen.toSorted((a, b) => a - b))
  expect(clock.now()).toBe(100)
})

test('a clock takes no time that is none', async () => {
  const clock = new ManualClock()
  await expect(clock.advance(Infinity)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  expect(() => clock.jumpEpoch(NaN)).toThrow('ms: expected a number')
})

test('says how long it is until the next timer', async () => {
  const clock = new ManualClock()
  expect(clock.nextTimerMs).toBe(Infinity)
  clock.setTimer(() => {}, 70)
  const cancel = clock.setTimer(() => {}, 30)
  expect(clock.nextTimerMs).toBe(30)
  cancel()
  await clock.advance(20)
  expect(clock.nextTimerMs).toBe(50)
})
