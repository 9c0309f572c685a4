import { expect, test } from 'vitest'
import { Coherence } from '../../src/cache/coherence.js'
import { ManualClock } from '../../src/testing/index.js'

/** A coherence that asks a store whose answers the test sets. */
function setUp(patienceMs = 0) {
  const clock = new ManualClock()
  const store = { epoch: 'one', seq: 10 }
  const missed: string[] = []
  let until = -Infinity
  const coherence = new Coherence(
    clock,
    1_000,
    async () => ({ ...store }),
    (t) => {
      until = t
    },
    (reason) => missed.push(reason),
    patienceMs,
  )
  return { clock, store, missed, coherence, until: () => until }
}

test('changes that were told of are no gap, in whatever order, and those that were not are one', async () => {
  const { store, missed, coherence } = setUp()
  await coherence.verify()
  for (const seq of [13, 11, 12, 12]) coherence.heard(seq, 'one')
  store.seq = 13
  await coherence.verify()
  expect(missed).toEqual(['start'])
  coherence.heard(15, 'one')
  store.seq = 15
  await coherence.verify()
  expect(missed).toEqual(['start', 'gap'])
})

test('a number of another epoch counts for nothing', async () => {
  const { store, missed, coherence } = setUp()
  await coherence.verify()
  store.epoch = 'two'
  await coherence.verify()
  coherence.heard(11, 'one') // late, from before
  store.seq = 11
  await coherence.verify()
  expect(missed).toEqual(['start', 'epoch', 'gap'])
  coherence.heard(12, undefined) // a backplane that does not tell: taken for the present one
  store.seq = 12
  await coherence.verify()
  expect(missed).toHaveLength(3)
})

test('a message that is on its way is waited for, for a while, and what is current counts from the question', async () => {
  const { clock, store, missed, coherence, until } = setUp(25)
  await coherence.verify()
  const asked = clock.now()
  store.seq = 11
  const late = coherence.verify()
  await clock.advance(20)
  coherence.heard(11, 'one')
  expect(await late).toBe(true)
  expect([missed, until()]).toEqual([['start'], asked + 1_000])
  store.seq = 12
  const lost = coherence.verify()
  await clock.advance(25)
  expect(await lost).toBe(true)
  expect(missed).toEqual(['start', 'gap'])
  expect(clock.pendingTimers).toBe(0)
})
