import { checkInteger, checkOneOf, invalid } from '../kernel/check.js'
import { isIn, networkOf, parseAddress, parseRange, type Address } from './address.js'

/** Whom to believe when asking where a request comes from, and how finely to tell addresses apart. */
export interface ClientAddressOptions {
  /**
   * The proxies in front of this server that are believed: how many there are, or their addresses (`'10.0.0.0/8'`,
   * `'2001:db8::1'`). What stands in the header is read from the right, and only as far as these have written it: the rest
   * may be the client's invention. A number is right only where every request passes that many. Integer ≥ 0, or a list.
   * @defaultValue 0: the header is not looked at
   */
  readonly trustProxy?: number | readonly string[] | undefined
  /**
   * The header that these proxies write, `x-forwarded-for` or `forwarded` (RFC 7239). The other is not looked at: a proxy
   * passes on what it does not know. @defaultValue `'x-forwarded-for'`
   */
  readonly forwardedHeader?: 'x-forwarded-for' | 'forwarded' | undefined
  /**
   * IPv6 addresses with so many first bits the same are one client. Integer in [1, 128].
   * @defaultValue 64: who has one address has a /64 of them
   */
  readonly ipv6Prefix?: number | undefined
}

/** What is known of where a request comes from. */
export interface Origin {
  /** A header of the request; several lines of it joined by commas. */
  header(name: string): string | undefined
  /** The other end of the connection. */
  address(): string | undefined
}

/** The key of requests whose address is unknown: they share it. */
const UNKNOWN = 'ip:unknown'

/** The key of the client that a request comes from. @throws InvalidOptionError when an option is out of its range. */
export function clientKeyOf({
  trustProxy = 0,
  forwardedHeader = 'x-forwarded-for',
  ipv6Prefix = 64,
}: ClientAddressOptions): (origin: Origin) => string {
  checkOneOf('forwardedHeader', forwardedHeader, ['x-forwarded-for', 'forwarded'])
  checkInteger('ipv6Prefix', ipv6Prefix, 1, 128)
  const isTrusted = trustOf(trustProxy)
  return (origin) => {
    const address = farthest(origin, forwardedHeader, isTrusted)
    return address ? `ip:${networkOf(address, ipv6Prefix)}` : UNKNOWN
  }
}

/** Whether the address that is `hops` before the connection belongs to a proxy that is believed. */
type Trust = (address: Address | undefined, hops: number) => boolean

function trustOf(trustProxy: number | readonly string[]): Trust {
  if (typeof trustProxy === 'number') {
    const count = checkInteger('trustProxy', trustProxy, 0)
    return (_, hops) => hops < count
  }
  if (!Array.isArray(trustProxy)) return invalid('trustProxy', 'a number of proxies or a list of addresses', trustProxy)
  const ranges = trustProxy.map(
    (text: unknown) =>
      (typeof text === 'string' ? parseRange(text) : undefined) ??
      invalid('trustProxy', 'addresses or ranges such as 10.0.0.0/8', text),
  )
  return (address) => address !== undefined && ranges.some((range) => isIn(address, range))
}

/** From the connection backwards, as far as those who tell it are believed. */
function farthest(origin: Origin, header: 'x-forwarded-for' | 'forwarded', isTrusted: Trust): Address | undefined {
  const near = origin.address()
  let address = near === undefined ? undefined : parseAddress(near)
  if (!isTrusted(address, 0)) return address
  const text = origin.header(header) ?? ''
  const told = header === 'forwarded' ? membersOf(text) : text.split(',').toReversed()
  for (let hops = 0; isTrusted(address, hops); hops++) {
    const member = told[hops]
    const before = member === undefined ? undefined : parseNode(header === 'forwarded' ? forOf(member) : member)
    if (!before) break // nobody knows who asked this proxy: it answers for them
    address = before
  }
  return address
}

/**
 * The members of `Forwarded`, the last first. Quotes are read from the right as well: an open quote of the client must not swallow
 * what the proxies wrote after it, and what they quote (the `Host` that the client sent) must not pass for a member.
 */
function membersOf(text: string): string[] {
  const members: string[] = []
  let end = text.length
  let isQuoted = false
  for (let i = end - 1; i >= 0; i--) {
    if (text[i] === '"') isQuoted = !isQuoted || isEscaped(text, i)
    else if (text[i] === ',' && !isQuoted) {
      members.push(text.slice(i + 1, end))
      end = i
    }
  }
  return [...members, text.slice(0, end)]
}

/** Whether an odd number of backslashes stands before `at`. */
function isEscaped(text: string, at: number): boolean {
  let first = at
  while (text[first - 1] === '\\') first--
  return (at - first) % 2 === 1
}

const PAIR = /(?:^|;)\s*([^\s;="]+)=(?:"((?:[^"\\]|\\.)*)"|([^;"]*))/g

/** What one proxy says in `Forwarded`: `by=…;for="[2001:db8::1]:4711"`. Nothing when it says it twice: one may be the client's. */
function forOf(member: string): string {
  const pairs = [...member.matchAll(PAIR)].filter(([, name]) => name!.toLowerCase() === 'for')
  const [, , quoted, token] = pairs[0] ?? []
  return pairs.length === 1 ? (quoted ?? token!) : ''
}

/** An address that may have a port and, then or not, IPv6 in brackets. */
function parseNode(text: string): Address | undefined {
  const trimmed = text.trim()
  const [, inBrackets] = /^\[([^\]]*)\](?::\d{1,5})?$/.exec(trimmed) ?? []
  return parseAddress(inBrackets ?? trimmed.replace(/^([\d.]{7,15}):\d{1,5}$/, '$1'))
}

/**
 * The key for an address that the application has found out itself, as the middleware would make it: `ip:203.0.113.9`, or
 * `ip:2001:db8:0:1::/64`. Text that is no address gives `ip:unknown`.
 * @param ipv6Prefix integer in [1, 128] @defaultValue 64
 * @throws InvalidOptionError when `ipv6Prefix` is out of its range.
 */
export function addressKey(address: string, ipv6Prefix: number = 64): string {
  checkInteger('ipv6Prefix', ipv6Prefix, 1, 128)
  const parsed = parseNode(address)
  return parsed ? `ip:${networkOf(parsed, ipv6Prefix)}` : UNKNOWN
}

/** A user's key so that it is never an address's: nobody takes another's bucket by the name they choose. */
export const ownKey = (key: string): string => (/^(ip|key):/.test(key) ? `key:${key}` : key)
