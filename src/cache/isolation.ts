import { InvalidPayloadError } from '../kernel/errors.js'

/** A structured clone. @throws InvalidPayloadError when there can be none. */
export function clone<T>(value: T): T {
  try {
    return structuredClone(value)
  } catch (cause) {
    throw new InvalidPayloadError("a value that can't be cloned does not go with isolate 'clone'", [], { cause })
  }
}

/** Makes plain objects and arrays read-only, at any depth. Everything else stays as it is. @returns `value` */
export function deepFreeze<T>(value: T): T {
  const seen = new Set<unknown>([value]) // what is frozen already may have parts that are not
  for (const part of seen) {
    if (typeof part !== 'object' || part === null) continue
    const prototype: unknown = Object.getPrototypeOf(part)
    if (!Array.isArray(part) && prototype !== Object.prototype && prototype !== null) continue
    for (const inner of Object.values(Object.freeze(part))) seen.add(inner)
  }
  return value
}

/** Roughly how many bytes `value` takes: text at two a character, numbers at eight, sixteen for each object. Cycles count once. */
export function sizeOf(value: unknown): number {
  const seen = new Set<object>()
  let size = 0
  const count = (part: unknown): void => {
    if (typeof part === 'string') size += 2 * part.length
    else if (typeof part !== 'object' || part === null) size += 8
    else seen.add(part)
  }
  count(value)
  // The set grows while it is walked: no recursion, so that no depth is too much.
  for (const part of seen) {
    size += 16
    if (ArrayBuffer.isView(part) || part instanceof ArrayBuffer) size += part.byteLength
    else if (part instanceof Set) for (const item of part) count(item)
    else if (part instanceof Map)
      for (const [key, item] of part) {
        count(key)
        count(item)
      }
    else {
      const isArray = Array.isArray(part)
      for (const [key, item] of Object.entries(part)) {
        if (!isArray) size += 2 * key.length
        count(item)
      }
    }
  }
  return size
}
