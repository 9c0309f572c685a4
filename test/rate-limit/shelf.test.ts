import { describe, expect, test } from 'vitest'
import { Shelf } from '../../src/rate-limit/shelf.js'
import { fc, prop } from '../support/prop.js'

const contents = (shelf: Shelf, keys: Iterable<string>): Map<string, number> =>
  new Map([...keys].filter((key) => shelf.find(key) >= 0).map((key) => [key, shelf.at(shelf.find(key))]))

describe('Shelf', () => {
  prop(
    'holds what a Map would hold, through growing, shrinking, sweeping and eviction',
    [
      fc.array(
        fc.record({
          op: fc.constantFrom('add', 'add', 'add', 'change', 'delete', 'sweep', 'evict'),
          from: fc.nat(400),
          many: fc.integer({ min: 1, max: 150 }),
          at: fc.integer({ min: 1, max: 1_000 }),
        }),
        { maxLength: 40 },
      ),
    ],
    (steps) => {
      const shelf = new Shelf()
      const model = new Map<string, number>()
      const all = Array.from({ length: 600 }, (_, i) => `key ${i}`)
      for (const { op, from, many, at } of steps) {
        if (op === 'sweep') {
          shelf.sweep(at, Infinity) // from the pointer to the end
          expect(shelf.sweep(at, model.size + 1)).toBeGreaterThan(0)
          for (const [key, fullAt] of model) if (fullAt <= at) model.delete(key)
        } else if (op === 'evict') {
          const least = Math.min(...model.values())
          expect(shelf.evict(0, Infinity)).toBe(model.size > 0)
          const [gone] = [...model.keys()].filter((key) => shelf.find(key) < 0)
          expect(gone === undefined ? undefined : model.get(gone)).toBe(model.size > 0 ? least : undefined)
          if (gone !== undefined) model.delete(gone)
        } else {
          for (const key of all.slice(from, from + many)) {
            if (op === 'delete') expect(shelf.delete(key)).toBe(model.delete(key))
            else if (shelf.find(key) < 0 && op === 'add') {
              shelf.add(key, at)
              model.set(key, at)
            } else if (shelf.find(key) >= 0 && op === 'change') {
              shelf.setAt(shelf.find(key), at)
              model.set(key, at)
            }
          }
        }
        expect(shelf.size).toBe(model.size)
        expect(contents(shelf, all)).toEqual(model)
      }
    },
  )

  test('a sweep goes on where the last one ended, and looks at no more than it was told', () => {
    const shelf = new Shelf()
    for (let i = 0; i < 100; i++) shelf.add(`key ${i}`, i % 2)
    expect(shelf.sweep(0, 60)).toBe(0)
    expect(shelf.size).toBeGreaterThanOrEqual(40)
    expect(shelf.sweep(0, 60)).toBe(20)
    expect(shelf.size).toBe(50)
  })
})
