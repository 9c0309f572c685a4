import { expect, test } from 'vitest'
import * as check from '../../src/kernel/check.js'

const refusals: [string, () => unknown, string][] = [
  ['a number out of range', () => check.checkNumber('openMs', -1, 0), 'openMs: expected a number ≥ 0, got -1'],
  ['NaN', () => check.checkNumber('openMs', NaN, 0), 'openMs: expected a number ≥ 0, got NaN'],
  ['a string for a number', () => check.checkNumber('ratio', '1', 0, 1), 'ratio: expected a number in [0, 1], got "1"'],
  ['a fraction', () => check.checkInteger('size', 1.5, 1), 'size: expected an integer ≥ 1, got 1.5'],
  [
    'an unsafe integer',
    () => check.checkInteger('size', 2 ** 53, 1),
    'size: expected an integer ≥ 1, got 9007199254740992',
  ],
  ['infinity', () => check.checkPositive('rate', Infinity), 'rate: expected a finite number > 0, got Infinity'],
  [
    'another word',
    () => check.checkOneOf('on', 'maybe', ['yes', 'no']),
    `on: expected one of 'yes', 'no', got "maybe"`,
  ],
  ['an empty string', () => check.checkString('name', ''), 'name: expected a string that is not empty, got ""'],
  [
    'a promise for a function',
    () => check.checkFunction('load', Promise.resolve()),
    'load: expected a function, got an object',
  ],
  ['1 for true', () => check.checkBoolean('fresh', 1), 'fresh: expected true or false, got 1'],
  ['an array for an object', () => check.checkObject('l1', []), 'l1: expected an object, got an array'],
  ['null for an object', () => check.checkObject('l1', null), 'l1: expected an object, got null'],
]

test.each(refusals)('%s is refused with the option, what was expected and what came', (_, act, message) => {
  expect(act).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', message }))
})

test('what fits comes back as it is', () => {
  expect(check.checkNumber('n', Infinity, 0)).toBe(Infinity)
  expect(check.checkInteger('n', 3, 1)).toBe(3)
  expect(check.checkPositive('n', 0.1)).toBe(0.1)
  expect(check.checkOneOf('o', 'a', ['a', 'b'])).toBe('a')
  expect(check.checkString('s', '', 0)).toBe('')
  expect(check.checkBoolean('b', undefined)).toBe(false)
  const object = {}
  expect(check.checkObject('o', object)).toBe(object)
})
