import { createHash } from 'node:crypto'
import { checkString } from '../kernel/check.js'
import { builtIns } from '../kernel/codec.js'
import { InvalidPayloadError } from '../kernel/errors.js'

/**
 * The keys and tags of one namespace among all others. A namespace's own are written `~5:users:key` (length and name of each
 * level, then a colon); those of the root as they are, but with `~:` before a `~`. So no two strings are ever the same key.
 */
export class Space {
  /** Names all entries of this namespace and of those around it, as tags: clearing one is invalidating its tag. */
  readonly tags: readonly string[]

  private constructor(
    private readonly path: string,
    outer: readonly string[],
  ) {
    this.tags = path === '' ? outer : [...outer, path]
  }

  static readonly root = new Space('', [])

  /** @param kind `n`amespace or `w`rapped function: two of the same name do not meet */
  inner(kind: 'n' | 'w', name: string): Space {
    return new Space(`${this.path || '~'}${kind === 'w' ? 'w' : ''}${name.length}:${name}`, this.tags)
  }

  /** The name of a key or tag in the levels. @throws InvalidOptionError when it is no string. */
  nameOf(key: string): string {
    if (typeof key !== 'string') checkString('key', key, 0)
    if (this.path !== '') return `${this.path}:${key}`
    return key.charCodeAt(0) === TILDE ? `~:${key}` : key
  }
}

const TILDE = 126

/** Arguments longer than this, encoded, are replaced by their digest. */
const MAX_KEY = 200

/** A text for a list of arguments: the same for equal ones, whatever the order of properties, and never for others. */
export function keyOfArguments(args: readonly unknown[]): string {
  const text = canonical(args, [])
  // UTF-16, because in UTF-8 all halves of surrogate pairs are the same replacement character.
  return text.length <= MAX_KEY ? text : `#${createHash('sha256').update(text, 'utf16le').digest('base64url')}`
}

/** Every kind of value begins with a letter of its own and either has a length or an end, so that no two run together. */
function canonical(value: unknown, above: readonly object[]): string {
  switch (typeof value) {
    case 'undefined':
      return 'u'
    case 'boolean':
      return value ? 't' : 'f'
    case 'number':
      return `n${Object.is(value, -0) ? '-0' : value};`
    case 'bigint':
      return `i${value};`
    case 'string':
      return `s${value.length}:${value}`
    case 'object':
      return value === null ? 'l' : canonicalObject(value, above)
    default:
      return refuse(`a ${typeof value}`)
  }
}

function canonicalObject(value: object, above: readonly object[]): string {
  if (above.includes(value)) return refuse('an object that contains itself')
  const path = [...above, value]
  const part = (item: unknown): string => canonical(item, path)
  const prototype: unknown = Object.getPrototypeOf(value)
  const isPlain = prototype === Object.prototype || prototype === null || prototype === Array.prototype
  // What extends a built-in may hold more than that shows.
  if (!isPlain && !builtIns.has(prototype)) return refuse('an instance of a class')
  if (Array.isArray(value)) return `[${Array.from(value, part).join('')}]`
  if (value instanceof Date) return `d${value.getTime()};`
  if (value instanceof Map) return `m${sorted([...value].map(([k, v]) => part(k) + part(v)))};`
  if (value instanceof Set) return `e${sorted([...value].map(part))};`
  if (value instanceof RegExp) return `r${part(value.source)}${part(value.flags)}`
  if (value instanceof URL) return `h${part(value.href)}`
  if (value instanceof ArrayBuffer) return `b${part('ArrayBuffer')}${part(base64(new Uint8Array(value)))}`
  if (ArrayBuffer.isView(value)) {
    const kind = Buffer.isBuffer(value) ? 'Buffer' : Object.prototype.toString.call(value).slice(8, -1)
    return `b${part(kind)}${part(base64(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)))}`
  }
  if (Object.getOwnPropertySymbols(value).length > 0) return refuse('an object with symbols as keys')
  return `o${sorted(Object.entries(value).map(([k, v]) => part(k) + part(v)))};`
}

const sorted = (parts: string[]): string => parts.toSorted().join('')
const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')

function refuse(what: string): never {
  throw new InvalidPayloadError(`${what} among the arguments has no key of its own: pass \`key\``)
}
