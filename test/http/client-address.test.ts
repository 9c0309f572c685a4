import { describe, expect, test } from 'vitest'
import { clientKeyOf, ownKey, type ClientAddressOptions } from '../../src/http/client-address.js'
import { fc, prop } from '../support/prop.js'

const clientOf = (
  options: ClientAddressOptions,
  address: string | undefined,
  headers: Record<string, string> = {},
): string => clientKeyOf(options)({ header: (name) => headers[name], address: () => address })

const chain = (options: ClientAddressOptions, ...hops: readonly string[]): string =>
  clientOf(options, hops.at(-1), { 'x-forwarded-for': hops.slice(0, -1).join(', ') })

describe('proxies by their number', () => {
  test.each([
    [0, 'ip:10.0.0.2'],
    [1, 'ip:10.0.0.1'],
    [2, 'ip:203.0.113.9'],
    [3, 'ip:6.6.6.6'],
    [9, 'ip:6.6.6.6'],
  ])('%d of them lead to %s', (trustProxy, expected) =>
    expect(chain({ trustProxy }, '6.6.6.6', '203.0.113.9', '10.0.0.1', '10.0.0.2')).toBe(expected),
  )

  prop(
    'what the client writes before them changes nothing, in either header',
    [fc.string(), fc.ipV4(), fc.integer({ min: 1, max: 4 })],
    (forged, client, trustProxy) => {
      const others = Array.from({ length: trustProxy - 1 }, (_, i) => `10.0.0.${i}`)
      const behind = [client, ...others]
      const headers = {
        'x-forwarded-for': [forged, ...behind].join(', '),
        forwarded: [forged, ...behind.map((it) => `for=${it};proto=https`)].join(', '),
      }
      for (const forwardedHeader of ['x-forwarded-for', 'forwarded'] as const) {
        expect(clientOf({ trustProxy, forwardedHeader }, '10.9.9.9', headers)).toBe(`ip:${client}`)
      }
    },
  )

  test('a socket without an address may stand behind them', () => {
    expect(clientOf({ trustProxy: 1 }, undefined, { 'x-forwarded-for': '203.0.113.9' })).toBe('ip:203.0.113.9')
    expect(clientOf({}, undefined)).toBe('ip:unknown')
  })
})

describe('proxies by their addresses', () => {
  const trustProxy = ['10.0.0.0/8', '2001:db8:ffff::/48']

  test('are passed as far as they reach, and no farther', () => {
    expect(chain({ trustProxy }, '6.6.6.6', '203.0.113.9', '10.0.0.1', '2001:db8:ffff::1')).toBe('ip:203.0.113.9')
    expect(chain({ trustProxy }, '6.6.6.6', '203.0.113.9')).toBe('ip:203.0.113.9')
    expect(chain({ trustProxy }, '10.0.0.3', '10.0.0.1')).toBe('ip:10.0.0.3')
    expect(chain({ trustProxy }, '203.0.113.9', '::ffff:10.0.0.1')).toBe('ip:203.0.113.9')
  })

  prop(
    'whoever is not one of them is taken by the connection’s address, whatever the header says',
    [fc.string(), fc.ipV4()],
    (forged, client) => {
      fc.pre(!client.startsWith('10.'))
      expect(clientOf({ trustProxy }, client, { 'x-forwarded-for': forged, forwarded: forged })).toBe(`ip:${client}`)
    },
  )
})

describe('what a proxy writes', () => {
  const xff = (text: string): string => clientOf({ trustProxy: 1 }, '10.0.0.1', { 'x-forwarded-for': text })
  const forwarded = (text: string): string =>
    clientOf({ trustProxy: 1, forwardedHeader: 'forwarded' }, '10.0.0.1', { forwarded: text })

  test.each([
    ['203.0.113.9', 'ip:203.0.113.9'],
    [' 203.0.113.9:4711 ', 'ip:203.0.113.9'],
    ['[2001:db8::1]:4711', 'ip:2001:db8:0:0::/64'],
    ['2001:db8::1', 'ip:2001:db8:0:0::/64'],
    ['::ffff:203.0.113.9', 'ip:203.0.113.9'],
  ])('X-Forwarded-For: %s is %s', (text, expected) => expect(xff(text)).toBe(expected))

  test.each([
    ['for=203.0.113.9', 'ip:203.0.113.9'],
    ['by=10.0.0.1; For="203.0.113.9:80";proto=http', 'ip:203.0.113.9'],
    ['for="[2001:db8::1]:4711"', 'ip:2001:db8:0:0::/64'],
    ['for=6.6.6.6, for=203.0.113.9', 'ip:203.0.113.9'],
    ['for=203.0.113.9;host="a,b;c"', 'ip:203.0.113.9'],
  ])('Forwarded: %s is %s', (text, expected) => expect(forwarded(text)).toBe(expected))

  test.each(['', 'unknown', '_secret', '203.0.113.9, ', 'for=', '999.1.1.1', 'x'.repeat(10_000)])(
    'when it is no address (%j), the proxy stands for its client',
    (text) => {
      expect(xff(text)).toBe('ip:10.0.0.1')
      expect(forwarded(text)).toBe('ip:10.0.0.1')
    },
  )

  prop(
    'in quotes is what the client chose: it never passes for an address, wherever it stands',
    [
      fc.string({ unit: fc.constantFrom(',', ';', '"', '\\', ' ', 'for=6.6.6.6', 'FOR="6.6.6.6"', 'x') }),
      fc.constantFrom('host', 'proto', 'x-user'),
      fc.string({ unit: fc.constantFrom(',', ';', '"', '\\', 'for=6.6.6.6') }),
    ],
    (chosen, name, forged) => {
      const pair = `${name}="${chosen.replace(/["\\]/g, '\\$&')}"`
      for (const said of [
        `${pair};for=203.0.113.9`,
        `for="203.0.113.9:80";${pair}`,
        `by=10.0.0.1;${pair}; for=203.0.113.9`,
      ]) {
        expect(forwarded(`${forged}, ${said}`)).toBe('ip:203.0.113.9')
      }
    },
  )

  test('twice in one breath is not believed: one of them may be the client’s', () => {
    expect(forwarded('for=203.0.113.9;host=x;for=6.6.6.6')).toBe('ip:10.0.0.1')
  })

  test('the header that it does not write is not looked at', () => {
    const headers = { forwarded: 'for=6.6.6.6' }
    expect(clientOf({ trustProxy: 1 }, '10.0.0.1', headers)).toBe('ip:10.0.0.1')
    const other = { 'x-forwarded-for': '6.6.6.6' }
    expect(clientOf({ trustProxy: 1, forwardedHeader: 'forwarded' }, '10.0.0.1', other)).toBe('ip:10.0.0.1')
  })
})

test('options that make no sense are refused at construction', () => {
  const wrong: unknown[] = [
    { trustProxy: -1 },
    { trustProxy: 1.5 },
    { trustProxy: true },
    { trustProxy: 'loopback' },
    { trustProxy: ['nonsense'] },
    { trustProxy: [7] },
    { forwardedHeader: 'x-real-ip' },
    { ipv6Prefix: 0 },
    { ipv6Prefix: 129 },
  ]
  for (const options of wrong) {
    expect(() => clientKeyOf(options as ClientAddressOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    )
  }
})

const prefix = fc.constantFrom('', 'ip:', 'key:', 'key:ip:', 'key:key:')
prop(
  'keys of users are never those of addresses, and stay apart',
  [fc.constantFrom('', '203.0.113.9'), fc.string(), prefix, prefix],
  (a, b, before, other) => {
    const all = [a, b].flatMap((it) => [before + it, other + it])
    for (const key of all) expect(ownKey(key).startsWith('ip:')).toBe(false)
    expect(new Set(all.map(ownKey)).size).toBe(new Set(all).size)
  },
)
