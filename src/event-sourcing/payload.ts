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
    return copyOf(value, 0)
  } catch {
    return NOT_PLAIN // a getter threw: the codec says so
  }
}

function copyOf(value: unknown, depth: number): unknown {
  if (typeof value === 'function' || typeof value === 'symbol' || depth > DEEPEST) return NOT_PLAIN
  if (typeof value !== 'object' || value === null) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Array.prototype) return frozenArray(value as unknown[], depth)
  if (prototype !== Object.prototype && prototype !== null) return NOT_PLAIN
  if (Object.getOwnPropertySymbols(value).length > 0) return NOT_PLAIN
  const copy: Record<string, unknown> = {}
  for (const key of Object.keys(value)) {
    if (key === '__proto__') return NOT_PLAIN // an assignment would set the prototype
    const item = copyOf((value as Record<string, unknown>)[key], depth + 1)
    if (item === NOT_PLAIN) return NOT_PLAIN
    copy[key] = item
  }
  return Object.freeze(copy)
}

function frozenArray(array: readonly unknown[], depth: number): unknown {
  const copy: unknown[] = []
  for (const value of array) {
    const item = copyOf(value, depth + 1)
    if (item === NOT_PLAIN) return NOT_PLAIN
    copy.push(item)
  }
  return Object.freeze(copy)
}
