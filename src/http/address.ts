/** An internet address as eight groups of 16 bits. IPv4 stands there as IPv6 carries it: `::ffff:a.b.c.d`. */
export type Address = readonly number[]

/** A range of addresses: those whose first `bits` bits are the same. */
export interface Range {
  readonly address: Address
  /** Of 128. */
  readonly bits: number
}

/** The longest address there is, zone included, is shorter. */
const MAX_LENGTH = 100

/** The address that `text` is; `undefined` when it is none. An IPv6 zone (`%eth0`) is left out. */
export function parseAddress(text: string): Address | undefined {
  if (text.length > MAX_LENGTH) return undefined
  const v4 = parseV4(text)
  if (v4) return [0, 0, 0, 0, 0, 0xffff, ...v4]
  const [head, tail, more] = text.replace(/%[^%]+$/, '').split('::')
  if (more !== undefined) return undefined
  const first = groupsOf(head!, tail === undefined)
  if (tail === undefined) return first?.length === 8 ? first : undefined
  const last = groupsOf(tail, true)
  if (!first || !last || first.length + last.length > 7) return undefined
  return [...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last]
}

function parseV4(text: string): [number, number] | undefined {
  const found = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  const bytes = found?.slice(1) ?? []
  if (!found || bytes.some((byte) => Number(byte) > 255 || (byte.length > 1 && byte.startsWith('0')))) return undefined
  const [a, b, c, d] = bytes.map(Number) as [number, number, number, number]
  return [a * 256 + b, c * 256 + d]
}

/** @param atEnd whether the address ends here: an IPv4 address may stand there */
function groupsOf(text: string, atEnd: boolean): number[] | undefined {
  if (text === '') return []
  const parts = text.split(':')
  const v4 = atEnd ? parseV4(parts.at(-1)!) : undefined
  if (v4) parts.pop()
  if (!parts.every((part) => /^[0-9a-f]{1,4}$/i.test(part))) return undefined
  return [...parts.map((part) => parseInt(part, 16)), ...(v4 ?? [])]
}

const isV4 = (address: Address): boolean => address[5] === 0xffff && address.slice(0, 5).every((group) => group === 0)

/** The range that `text` is: `10.0.0.0/8`, `2001:db8::/32`, or one address. `undefined` when it is none. */
export function parseRange(text: string): Range | undefined {
  const [start, length, more] = text.split('/')
  const address = parseAddress(start!)
  if (!address || more !== undefined) return undefined
  const width = start!.includes(':') ? 128 : 32
  if (length === undefined) return { address, bits: 128 }
  if (!/^\d{1,3}$/.test(length) || Number(length) > width) return undefined
  return { address, bits: 128 - width + Number(length) }
}

/** Whether `address` is in `range`. */
export function isIn(address: Address, { address: start, bits }: Range): boolean {
  return address.every((group, i) => {
    const mask = maskOf(bits - i * 16)
    return (group & mask) === (start[i]! & mask)
  })
}

/** The first `bits` of 16 bits: none below 0, all above 16. */
const maskOf = (bits: number): number => (0xffff << (16 - Math.min(16, Math.max(0, bits)))) & 0xffff

/**
 * `address` as text that is the same for all addresses that one user has: of IPv4 all of it, of IPv6 the first
 * `ipv6Prefix` bits, because a provider gives each customer at least a /64 to choose addresses from.
 */
export function networkOf(address: Address, ipv6Prefix: number): string {
  if (isV4(address)) return [address[6]! >> 8, address[6]! & 255, address[7]! >> 8, address[7]! & 255].join('.')
  const kept = Math.ceil(ipv6Prefix / 16)
  const groups = address.slice(0, kept).map((group, i) => (group & maskOf(ipv6Prefix - i * 16)).toString(16))
  return `${groups.join(':')}${kept < 8 ? '::' : ''}/${ipv6Prefix}`
}
