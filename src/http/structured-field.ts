/** A bare item (RFC 9651, 3.3): an Integer and a Decimal are different things, so its kind stands beside its value. */
export type BareItem =
  | { readonly kind: 'integer' | 'decimal' | 'date'; readonly value: number }
  | { readonly kind: 'string' | 'token' | 'display'; readonly value: string }
  /** In base64, with its padding. */
  | { readonly kind: 'bytes'; readonly value: string }
  | { readonly kind: 'boolean'; readonly value: boolean }

/** A member of a list: a bare item and what is said of it. */
export interface Item {
  readonly bare: BareItem
  /** In the order of the field; of two with the same name, the last. */
  readonly params: ReadonlyMap<string, BareItem>
}

/** No server sends a list of policies that is longer; who reads it should not work harder than this. */
const MAX_LENGTH = 16_384

// One alternative per kind of item; no two begin alike but the numbers, whose lengths are bounded: time grows with the length alone.
const BARE =
  /(-?\d{1,12}\.\d{1,3})(?![\d.])|(-?\d{1,15})(?![\d.])|"((?:[ !#-[\]-~]|\\["\\])*)"|([A-Za-z*][\w!#$%&'*+\-.^`|~:/]*)|:([A-Za-z0-9+/]*={0,2}):|\?([01])|@(-?\d{1,15})(?![\d.])|%"((?:[ !#$&-~]|%[0-9a-f]{2})*)"/y
const PARAM = /; *([a-z*][a-z0-9_\-.*]*)(=)?/y
const SPACES = / */y
const BLANKS = /[ \t]*/y

/**
 * The items of a structured field that is a List, in their order. `undefined` when it is none, or when it has an inner list
 * (none of the fields here has one). Never throws. Source: RFC 9651, 4.2.1.
 */
export function parseItems(text: string): readonly Item[] | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const reader = new Reader(text)
  const items: Item[] = []
  reader.take(SPACES)
  while (!reader.atEnd) {
    const item = reader.item()
    if (!item) return undefined
    items.push(item)
    reader.take(BLANKS)
    if (reader.atEnd) break
    if (!reader.comma()) return undefined
  }
  return items
}

class Reader {
  #at = 0

  constructor(readonly text: string) {}

  get atEnd(): boolean {
    return this.#at === this.text.length
  }

  take(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.text)
    if (found) this.#at = pattern.lastIndex
    return found
  }

  /** Whether there is a comma here, and something after it. */
  comma(): boolean {
    if (this.text[this.#at] !== ',') return false
    this.#at++
    this.take(BLANKS)
    return !this.atEnd
  }

  item(): Item | undefined {
    const bare = this.bare()
    if (!bare) return undefined
    const params = new Map<string, BareItem>()
    while (this.text[this.#at] === ';') {
      const found = this.take(PARAM)
      if (!found) return undefined
      const value: BareItem | undefined = found[2] ? this.bare() : { kind: 'boolean', value: true }
      if (!value) return undefined
      params.set(found[1]!, value)
    }
    return { bare, params }
  }

  bare(): BareItem | undefined {
    const found = this.take(BARE)
    if (!found) return undefined
    const [, decimal, integer, string, token, bytes, boolean, date, display] = found
    if (decimal !== undefined) return { kind: 'decimal', value: Number(decimal) }
    if (integer !== undefined) return { kind: 'integer', value: Number(integer) }
    if (string !== undefined) return { kind: 'string', value: string.replace(/\\(.)/g, '$1') }
    if (token !== undefined) return { kind: 'token', value: token }
    if (boolean !== undefined) return { kind: 'boolean', value: boolean === '1' }
    if (date !== undefined) return { kind: 'date', value: Number(date) }
    try {
      return display === undefined
        ? { kind: 'bytes', value: btoa(atob(bytes!)) }
        : { kind: 'display', value: decodeURIComponent(display) }
    } catch {
      return undefined // bytes that are no base64, or no UTF-8
    }
  }
}

/** `text` as a String item. Only what a header can carry unharmed may stand there: all else comes percent-encoded. */
export function stringItem(text: string): string {
  const ascii = text.replace(/[^ -~]/gu, (char) =>
    [...new TextEncoder().encode(char)].map((byte) => `%${byte.toString(16).padStart(2, '0').toUpperCase()}`).join(''),
  )
  return `"${ascii.replace(/["\\]/g, '\\$&')}"`
}

/** `value` as an Integer item, which has 15 digits at most. @param value integer ≥ 0, or Infinity */
export const integerItem = (value: number): string => String(Math.min(value, 999_999_999_999_999))
