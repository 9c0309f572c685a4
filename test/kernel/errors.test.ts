import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import {
  ClosedError,
  CorruptDataError,
  InvalidOptionError,
  InvalidPayloadError,
  NotFoundError,
  StoreError,
  TimeoutError,
  familyOf,
  isConflictError,
  isHoldfastError,
  isRejectedError,
  isUncertainError,
} from '../../src/kernel/errors.js'

const samples = [
  [new InvalidOptionError('x'), 'InvalidOptionError', 'INVALID_OPTION', 'invalid'],
  [new InvalidPayloadError('x'), 'InvalidPayloadError', 'INVALID_PAYLOAD', 'invalid'],
  [new NotFoundError('x'), 'NotFoundError', 'NOT_FOUND', 'invalid'],
  [new ClosedError('x'), 'ClosedError', 'CLOSED', 'rejected'],
  [new TimeoutError('x', 5), 'TimeoutError', 'TIMEOUT', 'uncertain'],
  [new StoreError('x'), 'StoreError', 'STORE_FAILED', 'uncertain'],
  [new CorruptDataError('x'), 'CorruptDataError', 'CORRUPT_DATA', 'failed'],
] as const

test.each(samples)('%o has its name, code and family', (error, name, code, family) => {
  expect(error.name).toBe(name)
  expect(error.code).toBe(code)
  expect(familyOf(error)).toBe(family)
  expect(isHoldfastError(error)).toBe(true)
  expect(isHoldfastError(error, code)).toBe(true)
  expect(isHoldfastError(error, 'OTHER')).toBe(false)
  expect(isRejectedError(error)).toBe(family === 'rejected')
  expect(isUncertainError(error)).toBe(family === 'uncertain')
  expect(isConflictError(error)).toBe(false)
})

test('a stack trace is headed by the name of the error', () => {
  expect(new StoreError('gone').stack).toMatch(/^StoreError: gone\n/)
})

test('what is printed shows the code and the cause', () => {
  const printed = inspect(new StoreError('gone', { cause: new Error('ECONNRESET') }))
  expect(printed).toContain("code: 'STORE_FAILED'")
  expect(printed).toContain('ECONNRESET')
})

test.each([
  undefined,
  null,
  'x',
  {},
  new Error('x'),
  { code: 'TIMEOUT' },
  Object.assign(new Error('x'), { code: 'TIMEOUT' }),
])('%o is no error of this library', (value) => {
  expect(isHoldfastError(value)).toBe(false)
  expect(familyOf(value)).toBeUndefined()
})
