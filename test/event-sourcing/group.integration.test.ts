import { expect, test } from 'vitest'
import { Repository } from '../../src/event-sourcing/index.js'
import { systemClock } from '../../src/kernel/clock.js'
import { counter } from './counter.js'
import { begin, openPool, openStore } from './database.js'

const pool = openPool()
const add = (n: number) => ({ kind: 'add' as const, n })

test('a call with a transaction does not stand in line behind calls that wait for that transaction', async () => {
  const { store } = await openStore(pool)
  const counters = new Repository(store, counter, { category: 'c', cache: { max: 10 } })
  await counters.handle('1', { kind: 'open', limit: 100 })
  const tx = await begin(pool)
  await counters.handle('1', add(1), { tx })
  const waiting = [counters.handle('1', add(2)), counters.handle('1', add(3))]
  await systemClock.sleep(200) // their append waits for the lock by now
  expect((await counters.handle('1', add(4), { tx })).state.total).toBe(5)
  await tx.query('commit')
  const totals = (await Promise.all(waiting)).map((handled) => handled.state.total)
  expect(totals).toEqual([7, 10])
})

test('what a transaction has written and rolled back is in no cache', async () => {
  const { store } = await openStore(pool)
  const counters = new Repository(store, counter, { category: 'c', cache: { max: 10 } })
  await counters.handle('1', { kind: 'open', limit: 100 })
  const tx = await begin(pool)
  await counters.handle('1', add(50), { tx })
  await tx.query('rollback')
  expect((await counters.handle('1', add(1))).state.total).toBe(1)
  expect(await counters.load('1')).toMatchObject({ version: 2, state: { total: 1 } })
})
