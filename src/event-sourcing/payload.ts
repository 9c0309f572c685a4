import { jsonCodec } from '../kernel/codec.js'
import type { Event } from './event.js'

/** Stands for a value that {@link frozenCopy} can't keep. */
export const NOT_PLAIN = Symbol('not plain')

/** Deeper than this, a value is taken for one that contains itself. */
const DEEPEST = 200

/**
 * A copy of plain JSON data (and `undefined`, `NaN`, `bigint`) that nobody can change, or {@link NOT_PLAIN} for anything
 * that is more than that: a `Date` can be changed even when it is frozen, and a class instance can't be copied.
 */
export function frozenCopy(value: unknown): unknown {
  try {
    return copyOf(value, 0, Object.freeze)
  } catch {
    return NOT_PLAIN // a getter threw: the codec says so
  }
}

/**
 * `event` with data that nobody else has: an aggregate may put a list of it into a field, and then add to that. What the codec
 * can't keep stays as it is.
 */
export function withOwnData<E extends Event>(event: E): E {
  const { data } = event
  // What is frozen is a store's own, at all depths: nobody can change it.
  if (typeof data !== 'object' || data === null || Object.isFrozen(data)) return event
  try {
    return { ...event, data: isFlat(data) ? { ...data } : deepCopy(data) }
  } catch {
    return event
  }
}

/** Whether a copy of its properties is all it takes: most data is such, and that is quicker. */
function isFlat(data: object): boolean {
  if (Object.getPrototypeOf(data) !== Object.prototype) return false
  for (const value of Object.values(data)) if (typeof value === 'object' && value !== null) return false
  return true
}

function deepCopy(data: unknown): unknown {
  const copy = copyOf(data, 0, (own) => own)
  return copy === NOT_PLAIN ? jsonCodec.decode(jsonCodec.encode(data)) : copy
}

function copyOf(value: unknown, depth: number, finish: <T>(copy: T) => T): unknown {
  if (typeof value === 'function' || typeof value === 'symbol' || depth > DEEPEST) return NOT_PLAIN
  if (typeof value !== 'object' || value === null) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Array.prototype) return arrayOf(value as unknown[], depth, finish)
  if (prototype !== Object.prototype && prototype !== null) return NOT_PLAIN
  if (Object.getOwnPropertySymbols(value).length > 0) return NOT_PLAIN
  const copy: Record<string, unknown> = {}
  for (const key of Object.keys(value)) {
    if (key === '__proto__') return NOT_PLAIN // an assignment would set the prototype
    const item = copyOf((value as Record<string, unknown>)[key], depth + 1, finish)
    if (item === NOT_PLAIN) return NOT_PLAIN
    copy[key] = item
  }
  return finish(copy)
}

function arrayOf(array: readonly unknown[], depth: number, finish: <T>(copy: T) => T): unknown {
  const copy: unknown[] = []
  for (const value of array) {
    const item = copyOf(value, depth + 1, finish)
    if (item === NOT_PLAIN) return NOT_PLAIN
    copy.push(item)
  }
  return finish(copy)
}
