import type { Limit } from './limit.js'

/*
 * `prefix{:key}rate:name`. Redis Cluster places a key by what stands between the first `{` and the first `}` after it, if
 * that is not empty: so all buckets of a key share a place, and the colon keeps it from being empty. In the key, `}` is
 * escaped, so that no two pairs of key and limit give the same name, and so are halves of surrogate pairs, which UTF-8 has
 * no bytes for: all of them would become the same replacement character.
 */

const ESCAPED = /[%}\p{Cs}]/gu

/** What the names of all buckets of `key` begin with. */
export const placeOf = (prefix: string, key: string): string =>
  `${prefix}{:${key.replace(ESCAPED, (c) => `%${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}}`

/** What the name of a limit's bucket ends with. Another rate is another bucket: its ticks are not comparable. */
export const suffixOf = ({ name, refillPerSecond }: Limit): string =>
  `${refillPerSecond}:${name.replace(/[%\p{Cs}]/gu, (c) => `%${c.charCodeAt(0).toString(16).padStart(4, '0')}`)}`

/** The slot of `key` in a Redis Cluster: CRC16 (XMODEM) of its hash tag, modulo 16384. */
export function slotOf(key: string): number {
  const open = key.indexOf('{')
  const close = open < 0 ? -1 : key.indexOf('}', open + 1)
  const tag = close > open + 1 ? key.slice(open + 1, close) : key
  let crc = 0
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
    crc &= 0xffff
  }
  return crc % 16_384
}
