import { CorruptDataError, InvalidPayloadError, isHoldfastError, messageOf } from './errors.js'

/** Turns values into text and back, so that a value read from a store is the same as the one written. */
export interface Codec {
  /** @throws InvalidPayloadError for what it can't keep, also because it is nested too deeply or too long: nothing was written. */
  encode(value: unknown): string
  /** @throws CorruptDataError for text that can't come from {@link encode}. */
  decode(text: string): unknown
}

/** The one property of an object that stands for a value JSON has no word for: `{"$holdfast":["Date",0]}`. */
const TAG = '$holdfast'

/**
 * JSON, and beyond it `undefined`, `NaN`, `±Infinity`, `-0`, `bigint`, `Date`, `Map`, `Set`, `RegExp`, `URL`, `Buffer`,
 * `ArrayBuffer` and typed arrays, at any depth and as keys of maps. Plain JSON stays plain JSON, byte for byte. Refuses
 * what would come back as something else: functions, symbols, instances of classes (also of those that extend one of these),
 * cycles. Objects come back with the ordinary prototype and getters as values; properties that someone has put on an array or
 * another built-in are left out.
 */
export const jsonCodec: Codec = {
  encode(value) {
    try {
      return JSON.stringify(pack(value, undefined))
    } catch (error) {
      if (isHoldfastError(error)) throw error
      // The stack or the longest string is used up, a buffer was transferred, a getter threw.
      throw new InvalidPayloadError(`can't be encoded: ${messageOf(error)}`, [], { cause: error })
    }
  },

  decode(text) {
    try {
      const parsed: unknown = JSON.parse(text)
      return text.includes(`"${TAG}"`) ? unpack(parsed) : parsed
    } catch (error) {
      throw new CorruptDataError(`can't be decoded: ${messageOf(error)}`, { cause: error })
    }
  },
}

const tagged = (kind: string, ...content: unknown[]): object => ({ [TAG]: [kind, ...content] })

/**
 * Where the walk is: an object, which part of it is looked at, and the place of the object it stands in. A cycle is found by comparing with
 * one object above, the `mark`, and not with all: their set would cost more than the rest. Source: Brent 1980, the teleporting turtle.
 */
class Place {
  readonly #depth: number
  readonly mark: object
  key: string | number = ''

  constructor(
    object: object,
    readonly above: Place | undefined,
  ) {
    this.#depth = above ? above.#depth + 1 : 1
    const isPowerOfTwo = (this.#depth & (this.#depth - 1)) === 0
    this.mark = above && !isPowerOfTwo ? above.mark : object
  }
}

/** `value` itself when JSON keeps it as it is, else a copy with tags. */
function pack(value: unknown, above: Place | undefined): unknown {
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
      return value === null ? null : packObject(value, above)
    default:
      return refuse(`a ${typeof value}`, above)
  }
}

function packObject(value: object, above: Place | undefined): unknown {
  if (value === above?.mark) return refuse('an object that contains itself', above)
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Array.prototype) return packArray(value as unknown[], value, above)
  if (prototype === Object.prototype || prototype === null) return packRecord(value as Record<string, unknown>, above)
  const kind = builtIns.get(prototype)
  if (kind === undefined)
    return refuse(`an instance of ${(value.constructor as { name?: string } | undefined)?.name || 'a class'}`, above)
  if (value instanceof Date) return tagged('Date', Number.isNaN(value.getTime()) ? null : value.getTime())
  if (value instanceof Map) return tagged('Map', packArray([...value].flat(), value, above))
  if (value instanceof Set) return tagged('Set', packArray([...value], value, above))
  if (value instanceof RegExp) return tagged('RegExp', value.source, value.flags)
  if (value instanceof URL) return tagged('URL', value.href)
  if (value instanceof ArrayBuffer) return tagged('ArrayBuffer', base64(new Uint8Array(value)))
  const { buffer, byteOffset, byteLength } = value as ArrayBufferView
  return tagged(kind, base64(new Uint8Array(buffer, byteOffset, byteLength)))
}

/** `array` itself when JSON keeps it as it is, else a copy: a copy of one would be a copy of all above it. @param object what it is the content of */
function packArray(array: readonly unknown[], object: object, above: Place | undefined): readonly unknown[] {
  let copy: unknown[] | undefined = 'toJSON' in array ? [] : undefined // JSON.stringify would call it
  const place = new Place(object, above)
  for (let i = 0; i < array.length; i++) {
    const item = array[i]
    place.key = i
    const packed = pack(item, place)
    if (packed !== item && !copy) copy = array.slice(0, i)
    copy?.push(packed)
  }
  return copy ?? array
}

function packRecord(record: Record<string, unknown>, above: Place | undefined): unknown {
  if (typeof record['toJSON'] === 'function') return refuse('an object with toJSON', above) // JSON.stringify would call it
  let copy: [string, unknown][] | undefined
  const place = new Place(record, above)
  const keys = Object.keys(record)
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] as string
    const value = record[key]
    place.key = key
    const packed = pack(value, place)
    if (packed !== value && !copy) copy = keys.slice(0, i).map((k) => [k, record[k]])
    copy?.push([key, packed])
  }
  if (Object.getOwnPropertySymbols(record).length > 0) return refuse('an object with symbols as keys', above)
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
  if (Array.isArray(tag)) {
    if (Object.keys(value).length > 1) throw new TypeError(`a property beside '${TAG}'`)
    return untag(tag as [string, ...unknown[]])
  }
  for (const [key, item] of Object.entries(value)) {
    const unpacked = unpack(item)
    if (unpacked !== item)
      Object.defineProperty(value, key, { value: unpacked, writable: true, enumerable: true, configurable: true })
  }
  return value
}

function untag([kind, content, flags]: [string, ...unknown[]]): unknown {
  // What the constructors below would make of other types, `{ length: 1e9 }` for one, is not to be found out.
  const wrong = (): never => {
    throw new TypeError(`no content of a ${kind}`)
  }
  const text = (): string => (typeof content === 'string' ? content : wrong())
  const items = (): unknown[] => (Array.isArray(content) ? (unpack(content) as unknown[]) : wrong())
  const pairs = <K>(isKey: (key: unknown) => boolean): [K, unknown][] => {
    const flat = items()
    if (flat.length % 2 === 1) return wrong()
    return Array.from({ length: flat.length / 2 }, (_, i) => {
      const key = flat[2 * i]
      return [isKey(key) ? (key as K) : wrong(), flat[2 * i + 1]]
    })
  }
  switch (kind) {
    case 'undefined':
      return undefined
    case 'number':
      return NUMBERS.has(text()) ? Number(text()) : wrong()
    case 'bigint':
      return BigInt(text())
    case 'Date':
      return content === null || typeof content === 'number' ? new Date(content ?? NaN) : wrong()
    case 'Map':
      return new Map(pairs(() => true))
    case 'Set':
      return new Set(items())
    case 'Object':
      return Object.fromEntries(pairs<string>((key) => typeof key === 'string'))
    case 'RegExp':
      return typeof flags === 'string' ? new RegExp(text(), flags) : wrong()
    case 'URL':
      return new URL(text())
    case 'Buffer':
      return Buffer.from(text(), 'base64')
    case 'ArrayBuffer':
      return bytes(text())
    default: {
      const View = views.get(kind)
      if (View) return new View(bytes(text()))
      throw new TypeError(`unknown kind of value '${kind}': written by a newer version?`)
    }
  }
}

const NUMBERS = new Set(['-0', 'NaN', 'Infinity', '-Infinity'])

const VIEWS = [
  DataView,
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
]
const views = new Map<string, new (bytes: ArrayBuffer) => ArrayBufferView>(VIEWS.map((View) => [View.name, View]))

/** Names by prototype: an exact match, for what extends one of these would come back as what it extends. */
export const builtIns = new Map<unknown, string>(
  [Date, Map, Set, RegExp, URL, ArrayBuffer, Buffer, ...VIEWS].map((kind) => [kind.prototype, kind.name]),
)

const base64 = (b: Uint8Array): string => Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('base64')
const bytes = (text: string): ArrayBuffer => {
  const { buffer, byteOffset, byteLength } = Buffer.from(text, 'base64')
  return buffer.slice(byteOffset, byteOffset + byteLength) // a copy of its own: small Buffers share a pool
}

function refuse(what: string, place: Place | undefined): never {
  const path: (string | number)[] = []
  for (let at = place; at; at = at.above) path.unshift(at.key)
  const where = path.length > 0 ? `at ${path.join('.')}` : 'at the top'
  throw new InvalidPayloadError(`${what} ${where} can't be stored and read back as it is`, [
    { message: `${what} can't be stored`, path },
  ])
}
