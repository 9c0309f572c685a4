import { checkInteger } from '../kernel/check.js'
import type { Random } from '../kernel/random.js'

/**
 * The same numbers for the same seed, on every machine. Source: mulberry32 (Tommy Ettinger, public domain).
 * @param seed integer in [0, 2^32)
 */
export function seededRandom(seed: number): Random {
  let state = checkInteger('seed', seed, 0, 2 ** 32 - 1)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
