import { InvalidOptionError } from './errors.js'

/** What came, for people: strings quoted and cut, everything else by its kind. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'symbol') return 'a symbol'
  if (typeof value !== 'object' || value === null) return Object.is(value, -0) ? '-0' : String(value)
  return Array.isArray(value) ? 'an array' : 'an object'
}

/** @throws InvalidOptionError always: names the option, what was expected and what came. */
export function invalid(option: string, expected: string, value: unknown): never {
  throw new InvalidOptionError(`${option}: expected ${expected}, got ${show(value)}`)
}

/** `value` if it is a number in [min, max], which may be infinite. @throws InvalidOptionError otherwise, also for NaN. */
export function checkNumber(option: string, value: unknown, min: number, max: number = Infinity): number {
  if (typeof value === 'number' && value >= min && value <= max) return value
  return invalid(option, `a number ${range(min, max)}`, value)
}

/** `value` if it is a safe integer in [min, max]. @throws InvalidOptionError otherwise. */
export function checkInteger(
  option: string,
  value: unknown,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return value as number
  return invalid(option, `an integer ${range(min, max === Number.MAX_SAFE_INTEGER ? Infinity : max)}`, value)
}

/** `value` if it is more than 0 and finite. @throws InvalidOptionError otherwise. */
export function checkPositive(option: string, value: unknown): number {
  if (typeof value === 'number' && value > 0 && value < Infinity) return value
  return invalid(option, 'a finite number > 0', value)
}

/** `value` if it is one of `allowed`. @throws InvalidOptionError otherwise. */
export function checkOneOf<T extends string>(option: string, value: unknown, allowed: readonly T[]): T {
  if (allowed.includes(value as T)) return value as T
  return invalid(option, `one of ${allowed.map((a) => `'${a}'`).join(', ')}`, value)
}

/** `value` if it is a string, which may not be empty unless `min` is 0. @throws InvalidOptionError otherwise. */
export function checkString(option: string, value: unknown, min: 0 | 1 = 1): string {
  if (typeof value === 'string' && value.length >= min) return value
  return invalid(option, min === 0 ? 'a string' : 'a string that is not empty', value)
}

/** `value` if it is a function. @throws InvalidOptionError otherwise. */
export function checkFunction<F>(option: string, value: F): F {
  if (typeof value === 'function') return value
  return invalid(option, 'a function', value)
}

/** `value` if it is `true`, `false` or `undefined` (then `false`). @throws InvalidOptionError otherwise. */
export function checkBoolean(option: string, value: unknown): boolean {
  if (value === undefined || typeof value === 'boolean') return value ?? false
  return invalid(option, 'true or false', value)
}

/** `value` if it is an object that is not an array. @throws InvalidOptionError otherwise. */
export function checkObject<T>(option: string, value: T): T & object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  return invalid(option, 'an object', value)
}

/** `value` if it is an object that has all of `methods`. @throws InvalidOptionError otherwise, naming the one that is missing. */
export function checkMethods<T>(option: string, value: T, methods: readonly (keyof T & string)[]): T & object {
  const object = checkObject(option, value)
  for (const method of methods) checkFunction(`${option}.${method}`, object[method])
  return object
}

const range = (min: number, max: number): string => (max === Infinity ? `≥ ${min}` : `in [${min}, ${max}]`)
