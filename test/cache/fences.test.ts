import { expect, test } from 'vitest'
import { Fences, type TagCell } from '../../src/cache/fences.js'

/** So many other tags that the cells of unused ones are forgotten. */
const flood = (fences: Fences): void => {
  for (let i = 0; i < 5_000; i++) fences.moveTag(`other${i}`, false)
}

test('what was under way when cells were forgotten counts as outdated if it has tags, and only then', () => {
  const fences = new Fences(() => [])
  const watch = fences.watch('k')
  fences.moveTag('t', false)
  flood(fences)
  expect([watch.outdated(['t']), watch.outdated([])]).toEqual([true, false])
  expect(fences.watch('k').outdated(['t'])).toBe(false)
})

test('the cell that an entry looks at is still the one that an invalidation moves', () => {
  const used: TagCell[] = []
  const fences = new Fences(() => used)
  used.push(fences.cell('t'))
  flood(fences)
  const before = fences.turn
  fences.moveTag('t', true)
  expect(used[0]?.any).toBeGreaterThan(before)
  expect([fences.cell('t') === used[0], used[0]?.hard]).toEqual([true, 0])
})

test('a key is watched for as long as something is under way for it, and each of them sees what came after its own start', () => {
  const fences = new Fences(() => [])
  const first = fences.watch('k')
  fences.moveKey('k', true)
  const second = fences.watch('k')
  expect([first.outdated([]), first.gone([]), second.outdated([])]).toEqual([true, false, false])
  first.end()
  first.end()
  fences.moveKey('k', false)
  expect([second.outdated([]), second.gone([])]).toEqual([true, true])
  second.end()
  expect(fences.fence('k')).toBeUndefined()
})

test('entries with the same tags share one list of cells; a list that was let go is made anew', () => {
  const fences = new Fences(() => [])
  const list = fences.cells(['a', 'b'])
  expect(fences.cells(['a', 'b'])).toBe(list)
  expect(fences.cells(['a', 'c'])).not.toBe(list)
  expect(fences.cells(['b', 'a']).map(({ name }) => name)).toEqual(['b', 'a'])
  for (let i = 0; i < 100; i++) fences.cells(['a', `x${i}`])
  const again = fences.cells(['a', 'b'])
  expect(again).toEqual(list)
  expect(again.every((cell, i) => cell === list[i])).toBe(true)
})
