import { expect, test } from 'vitest'
import { Grouped } from '../../src/saga/grouped.js'

test('what comes at one moment travels in one call, and each gets its own answer', async () => {
  const calls: (readonly number[])[] = []
  const doubled = new Grouped(async (all: readonly number[]) => {
    calls.push(all)
    return all.map((n) => 2 * n)
  })
  expect(await Promise.all([1, 2, 3].map((n) => doubled.add(n)))).toEqual([2, 4, 6])
  expect(calls).toEqual([[1, 2, 3]])
})

test('of what is large no more travels in one call than it may have, in its order; a single one that is larger travels alone', async () => {
  const calls: (readonly number[])[] = []
  const send = async (all: readonly number[]): Promise<readonly number[]> => {
    calls.push(all)
    return all
  }
  const grouped = new Grouped(send, { size: 10, sizeOf: (n) => n })
  const all = [4, 6, 1, 25, 3, 8, 2]
  expect(await Promise.all(all.map((n) => grouped.add(n)))).toEqual(all)
  expect(calls).toEqual([[4, 6], [1], [25], [3], [8, 2]])
})
