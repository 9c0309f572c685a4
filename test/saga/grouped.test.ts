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
