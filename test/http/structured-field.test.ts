import { parseList, Token, DisplayString, serializeList, type Item as TheirItem } from 'structured-headers'
import { describe, expect, test } from 'vitest'
import { integerItem, parseItems, stringItem, type BareItem } from '../../src/http/structured-field.js'
import { fc, prop } from '../support/prop.js'

// The independent witness is the parser of `structured-headers`. It reads nothing behind a Date: these have examples.

const ascii = fc.string({ unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)) })
const bare = fc.oneof(
  fc.integer({ min: -999_999_999_999_999, max: 999_999_999_999_999 }),
  ascii,
  fc.boolean(),
  fc.stringMatching(/^[A-Za-z*][a-z0-9:/.!]{0,8}$/).map((text) => new Token(text)),
  fc.uint8Array({ maxLength: 20 }),
  fc.string({ unit: 'grapheme' }).map((text) => new DisplayString(text)),
)
const item: fc.Arbitrary<TheirItem> = fc.tuple(
  bare,
  fc.array(fc.tuple(fc.stringMatching(/^[a-z*][a-z0-9_.*-]{0,5}$/), bare), { maxLength: 4 }).map((all) => new Map(all)),
)

/** What we read, as they would say it. */
const valueOf = ({ kind, value }: BareItem): unknown => {
  if (kind === 'token') return `token ${value}`
  if (kind === 'display') return `display ${value}`
  if (kind === 'bytes') return `bytes ${value}`
  return kind === 'date' ? `date ${value}` : value
}
const theirValue = (value: unknown): unknown => {
  if (value instanceof Token) return `token ${value.toString()}`
  if (value instanceof DisplayString) return `display ${value.toString()}`
  if (value instanceof Date) return `date ${value.getTime() / 1_000}`
  if (value instanceof ArrayBuffer) return `bytes ${Buffer.from(value).toString('base64')}`
  return ArrayBuffer.isView(value) ? `bytes ${Buffer.from(value as Uint8Array).toString('base64')}` : value
}
const ours = (text: string): unknown =>
  parseItems(text)?.map(({ bare: it, params }) => [valueOf(it), [...params].map(([k, v]) => [k, valueOf(v)])])
const theirs = (text: string): unknown => {
  try {
    const all = parseList(text)
    if (all.some(([value]) => Array.isArray(value))) return undefined // an inner list
    return all.map(([value, params]) => [theirValue(value), [...params].map(([k, v]) => [k, theirValue(v)])])
  } catch {
    return undefined
  }
}

describe('a list', () => {
  prop('that anyone serialises is read as it was', [fc.array(item, { maxLength: 4 })], (items) => {
    const text = serializeList(items)
    expect(ours(text)).toEqual(theirs(text))
    expect(parseItems(text)).toHaveLength(items.length)
  })

  // Pieces of fields, so that what is nearly right comes up often.
  const piece = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        ...'",;=:?%-.* \t()\\'.split(''),
        'a',
        'q=',
        ';r=1',
        '"x"',
        '1',
        '1.5',
        '?1',
        ':YQ==:',
        '%"f%c3%bc"',
        ', ',
      ),
    },
    { weight: 1, arbitrary: fc.string({ maxLength: 3 }) },
  )
  prop(
    'of whatever kind is read as the reference does, or refused as it does',
    [fc.array(piece, { maxLength: 12 })],
    (pieces) => {
      const text = pieces.join('')
      expect(ours(text)).toEqual(theirs(text))
    },
    { numRuns: 1_000 },
  )

  test.each([
    ['', []],
    [
      '  "a" \t,\t "b"  ',
      [
        ['a', []],
        ['b', []],
      ],
    ],
    ['"a\\"b\\\\"', [['a"b\\', []]]],
    [
      '1;a;b=?0;a=2',
      [
        [
          1,
          [
            ['a', 2],
            ['b', false],
          ],
        ],
      ],
    ],
    ['999999999999999', [[999_999_999_999_999, []]]],
    [
      '@0;a=@-5, @1659578233',
      [
        ['date 0', [['a', 'date -5']]],
        ['date 1659578233', []],
      ],
    ],
  ])('%j is read', (text, expected) => expect(ours(text)).toEqual(expected))

  test.each([
    '1,',
    ',1',
    '1 1',
    '"a',
    '"ü"',
    '"\u0001"',
    '1000000000000000',
    '1.2345',
    '@1.5',
    '@',
    '@a',
    '1.',
    '--1',
    '(1 2)',
    '1;A=1',
    '1;=1',
    ':a:',
    ':%%%%:',
    '%"%ff"',
    '?2',
    '{}',
    '"a\\n"',
    '\t1',
  ])('%j is none', (text) => expect(parseItems(text)).toBeUndefined())

  test('a hostile field of any length is read in a time that grows with its length alone, or the test would not end', () => {
    for (const part of ['"', '\\"', ';', ';a', ' ', '1', '1.', ':a', 'a;b=', '%"', ', ', '"a",']) {
      parseItems(part.repeat(16_384 / part.length))
      parseItems(`"a${part.repeat(16_000 / part.length)}`)
      parseItems(`a;${part.repeat(16_000 / part.length)}`)
      parseItems(part.repeat(1_000_000))
    }
  })
})

describe('what we write', () => {
  prop(
    'is a String item that says the text, percent-encoded where a header can’t carry it',
    [fc.string({ unit: 'binary' })],
    (text) => {
      const [said] = parseItems(stringItem(text)) ?? []
      expect(said?.bare.kind).toBe('string')
      const wellFormed = Buffer.from(text).toString()
      if (!text.includes('%')) expect(decodeURIComponent(said?.bare.value as string)).toBe(wellFormed)
      if (/^[ -~]*$/.test(text)) expect(said?.bare.value).toBe(text)
    },
  )

  prop(
    'is an Integer item for any count',
    [fc.oneof(fc.nat(), fc.integer({ min: 0 }), fc.constantFrom(2 ** 53 - 1, Infinity))],
    (count) => {
      expect(parseItems(integerItem(count))?.[0]?.bare).toEqual({
        kind: 'integer',
        value: Math.min(count, 999_999_999_999_999),
      })
    },
  )
})
