import { BlockList, isIP, isIPv4 } from 'node:net'
import { describe, expect, test } from 'vitest'
import { isIn, networkOf, parseAddress, parseRange } from '../../src/http/address.js'
import { addressKey } from 'holdfast/http'
import { fc, prop } from '../support/prop.js'

// The independent witness is Node's own `net`.

const near = fc
  .array(
    fc.constantFrom('1', '0', 'ff', 'FFFF', '12345', '::', ':', '.', '255', '256', '01', '1.2.3.4', 'g', ' ', '/'),
    { maxLength: 9 },
  )
  .map((pieces) => pieces.join(''))
const text = fc.oneof(fc.ipV4(), fc.ipV6(), near, fc.string())

describe('an address', () => {
  prop(
    'is read when Node takes it for one, and only then',
    [text],
    (it) => {
      fc.pre(!it.includes('%')) // zones: below
      expect(parseAddress(it) !== undefined, it).toBe(isIP(it) !== 0)
    },
    { numRuns: 1_000 },
  )

  prop('of IPv6 is the same however it is written', [fc.ipV6()], (it) => {
    const canonical = new URL(`http://[${it}]`).hostname.slice(1, -1)
    expect(parseAddress(canonical)).toEqual(parseAddress(it))
    expect(parseAddress(it.toUpperCase())).toEqual(parseAddress(it))
  })

  prop('of IPv4 is the same when it comes as IPv6', [fc.ipV4()], (it) => {
    expect(parseAddress(`::ffff:${it}`)).toEqual(parseAddress(it))
    expect(addressKey(`::FFFF:${it}`)).toBe(`ip:${it}`)
    expect(addressKey(`${it}:8080`)).toBe(`ip:${it}`)
  })

  test('leaves its zone out', () => expect(parseAddress('fe80::1%eth0')).toEqual(parseAddress('fe80::1')))
})

describe('a range', () => {
  const ip = fc.oneof(fc.ipV4(), fc.ipV6())
  prop('holds what Node’s own list holds', [ip, ip, fc.nat(128)], (start, address, length) => {
    const family = isIPv4(start) ? 'ipv4' : 'ipv6'
    const bits = Math.min(length, family === 'ipv4' ? 32 : 128)
    fc.pre(isIPv4(start) === isIPv4(address))
    const list = new BlockList()
    list.addSubnet(start, bits, family)
    expect(isIn(parseAddress(address)!, parseRange(`${start}/${bits}`)!)).toBe(list.check(address, family))
  })

  prop('without a length is one address', [ip, ip], (it, other) => {
    const range = parseRange(it)!
    expect(isIn(parseAddress(it)!, range)).toBe(true)
    const isSame = parseAddress(other)!.every((group, i) => group === parseAddress(it)![i])
    expect(isIn(parseAddress(other)!, range)).toBe(isSame)
  })

  test.each(['10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/8/8', 'loopback', '10.0.0.0/-1', '10.0.0.0/08x', ''])(
    '%j is none',
    (it) => expect(parseRange(it)).toBeUndefined(),
  )
})

describe('a network', () => {
  prop(
    'is the same for addresses with the same first bits, and for no others',
    [fc.ipV6(), fc.nat(127), fc.integer({ min: 1, max: 128 })],
    (it, bit, prefix) => {
      const address = parseAddress(it)!
      fc.pre(!it.toLowerCase().includes('ffff'))
      const other = address.map((group, i) => (i === bit >> 4 ? group ^ (0x8000 >> (bit & 15)) : group))
      fc.pre(!(other[5] === 0xffff || address[5] === 0xffff))
      expect(networkOf(other, prefix) === networkOf(address, prefix)).toBe(bit >= prefix)
    },
  )

  test.each([
    ['2001:db8:0:1:2:3:4:5', 64, '2001:db8:0:1::/64'],
    ['2001:db8:0:1:2:3:4:5', 56, '2001:db8:0:0::/56'],
    ['2001:db8:0:1ff:2:3:4:5', 56, '2001:db8:0:100::/56'],
    ['2001:db8:0:1:2:3:4:5', 128, '2001:db8:0:1:2:3:4:5/128'],
    ['::ffff:192.0.2.1', 64, '192.0.2.1'],
  ])('of %s is told by its first %d bits', (it, prefix, expected) =>
    expect(networkOf(parseAddress(it)!, prefix)).toBe(expected),
  )

  test('what is no address is one unknown client', () => {
    expect(['', 'unknown', '_hidden', '1.2.3', '::1::'].map((it) => addressKey(it))).toEqual(
      Array(5).fill('ip:unknown'),
    )
  })
})
