import { CorruptDataError, InvalidPayloadError } from './errors.js'

/** Turns values into text and back, so that a value read from a store is the same as the one written. */
export interface Codec {
  /** @throws InvalidPayloadError for what it can't keep: nothing was written. */
  encode(value: unknown): string
  /** @throws CorruptDataError for text that {@link encode} did not make. */
  decode(text: string): unknown
}

/** The one property of an object that stands for a value JSON has no word for: `{"$holdfast":["Date",0]}`. */
const TAG = '$holdfast'

/**
 * JSON, and beyond it `undefined`, `NaN`, `±Infinity`, `-0`, `bigint`, `Date`, `Map`, `Set`, `RegExp`, `URL`, `Buffer`,
 * `ArrayBuffer` and typed arrays, at any depth and as keys of maps. Plain JSON stays plain JSON, byte for byte. Refuses
 * what would come back as something else: functions, symbols, instances of classes, cycles. Objects come back with the
 * ordinary prototype.
 */
export const jsonCodec: Codec = {
  encode: (value) => JSON.stringify(pack(value, [], new Set())),

  decode(text) {
    try {
      const parsed: unknown = JSON.parse(text)
      return text.includes(`"${TAG}"`) ? unpack(parsed) : parsed
    } catch (error) {
      throw new CorruptDataError(`can't be decoded: ${(error as Error).message}`, { cause: error })
    }
  },
}

type Path = (string | number)[]
const tagged = (kind: string, ...content: unknown[]): object => ({ [TAG]: [kind, ...content] })

/** `value` itself when JSON keeps it as it is, else a copy with tags. */
function pack(value: unknown, path: Path, above: Set<object>): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0)
        ? value
        : tagged('number', Object.is(value, -0) ? '-0' : `${value}`)
    case 'undefined':
      return tagged('undefined')
    case 'bigint':
      return tagged('bigint', `${value}`)
    case 'object':
      return value === null ? null : packObject(value, path, above)
    default:
      return refuse(`a ${typeof value}`, path)
  }
}

function packObject(value: object, path: Path, above: Set<object>): unknown {
  if (above.has(value)) return refuse('an object that contains itself', path)
  above.add(value)
  try {
    const prototype: unknown = Object.getPrototypeOf(value)
    if (Array.isArray(value)) return packArray(value, path, above)
    if (prototype === Object.prototype || prototype === null)
      return packRecord(value as Record<string, unknown>, path, above)
    if (value instanceof Date) return tagged('Date', Number.isNaN(value.getTime()) ? null : value.getTime())
    if (value instanceof Map) return tagged('Map', packArray([...value].flat(), path, above))
    if (value instanceof Set) return tagged('Set', packArray([...value], path, above))
    if (value instanceof RegExp) return tagged('RegExp', value.source, value.flags)
    if (value instanceof URL) return tagged('URL', value.href)
    if (value instanceof ArrayBuffer) return tagged('ArrayBuffer', base64(new Uint8Array(value)))
    if (ArrayBuffer.isView(value)) {
      const kind = Buffer.isBuffer(value) ? 'Buffer' : Object.prototype.toString.call(value).slice(8, -1)
      if (kind in views) return tagged(kind, base64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)))
    }
    return refuse(`an instance of ${(value.constructor as { name?: string } | undefined)?.name || 'a class'}`, path)
  } finally {
    above.delete(value)
  }
}

function packArray(array: readonly unknown[], path: Path, above: Set<object>): unknown[] {
  return Array.from(array, (item, i) => {
    path.push(i)
    const packed = pack(item, path, above)
    path.pop()
    return packed
  })
}

function packRecord(record: Record<string, unknown>, path: Path, above: Set<object>): unknown {
  let copy: [string, unknown][] | undefined
  const keys = Object.keys(record)
  for (const [i, key] of keys.entries()) {
    const value = record[key]
    path.push(key)
    const packed =
      key === 'toJSON' && typeof value === 'function' ? refuse('an object with toJSON', path) : pack(value, path, above)
    path.pop()
    if (packed !== value && !copy) copy = keys.slice(0, i).map((k) => [k, record[k]])
    copy?.push([key, packed])
  }
  if (Object.getOwnPropertySymbols(record).length > 0) return refuse('an object with symbols as keys', path)
  if (TAG in record) return tagged('Object', (copy ?? Object.entries(record)).flat())
  return copy ? Object.fromEntries(copy) : record
}

/** Works on what JSON.parse made, in place. */
function unpack(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) value[i] = unpack(value[i])
    return value
  }
  const tag: unknown = (value as Record<string, unknown>)[TAG]
  if (Array.isArray(tag)) return untag(tag as [string, ...unknown[]])
  for (const [key, item] of Object.entries(value)) {
    const unpacked = unpack(item)
    if (unpacked !== item)
      Object.defineProperty(value, key, { value: unpacked, writable: true, enumerable: true, configurable: true })
  }
  return value
}

function untag([kind, content, flags]: [string, ...unknown[]]): unknown {
  const items = (): unknown[] => unpack(content) as unknown[]
  const pairs = (): [string, unknown][] => {
    const flat = items()
    return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i] as string, flat[2 * i + 1]])
  }
  switch (kind) {
    case 'undefined':
      return undefined
    case 'number':
      return Number(content)
    case 'bigint':
      return BigInt(content as string)
    case 'Date':
      return new Date((content as number | null) ?? NaN)
    case 'Map':
      return new Map(pairs())
    case 'Set':
      return new Set(items())
    case 'Object':
      return Object.fromEntries(pairs())
    case 'RegExp':
      return new RegExp(content as string, flags as string)
    case 'URL':
      return new URL(content as string)
    case 'Buffer':
      return Buffer.from(content as string, 'base64')
    case 'ArrayBuffer':
      return bytes(content as string)
    default: {
      const view = views[kind as keyof typeof views]
      if (view) return view(bytes(content as string))
      throw new TypeError(`unknown kind of value '${kind}': written by a newer version?`)
    }
  }
}

const views = {
  Buffer: (b: ArrayBuffer) => Buffer.from(b),
  DataView: (b: ArrayBuffer) => new DataView(b),
  Int8Array: (b: ArrayBuffer) => new Int8Array(b),
  Uint8Array: (b: ArrayBuffer) => new Uint8Array(b),
  Uint8ClampedArray: (b: ArrayBuffer) => new Uint8ClampedArray(b),
  Int16Array: (b: ArrayBuffer) => new Int16Array(b),
  Uint16Array: (b: ArrayBuffer) => new Uint16Array(b),
  Int32Array: (b: ArrayBuffer) => new Int32Array(b),
  Uint32Array: (b: ArrayBuffer) => new Uint32Array(b),
  Float32Array: (b: ArrayBuffer) => new Float32Array(b),
  Float64Array: (b: ArrayBuffer) => new Float64Array(b),
  BigInt64Array: (b: ArrayBuffer) => new BigInt64Array(b),
  BigUint64Array: (b: ArrayBuffer) => new BigUint64Array(b),
}

const base64 = (b: Uint8Array): string => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('base64')
const bytes = (text: string): ArrayBuffer => {
  const { buffer, byteOffset, byteLength } = Buffer.from(text, 'base64')
  return buffer.slice(byteOffset, byteOffset + byteLength) // a copy of its own: small Buffers share a pool
}

function refuse(what: string, path: Path): never {
  const at = path.length > 0 ? `at ${path.join('.')}` : 'at the top'
  throw new InvalidPayloadError(`${what} ${at} can't be stored and read back as it is`, [
    { message: `${what} can't be stored`, path: [...path] },
  ])
}
