/** Requests: numbers of keys, from 0 on. */
export type Trace = Uint32Array

export const REQUESTS = 400_000
/** Keys that are asked for all the time. Those of scans and sessions lie above. */
export const KEYS = 50_000
/** No key lies above. */
export const HIGHEST = KEYS + REQUESTS + 300

/** Numbers in [0, 1), the same in each run. Marsaglia's xorshift, 32 bits. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
}

/** Ranks from 0 on, the k-th of which comes with a chance that falls as k to the power of `-skew`. */
function zipfian(skew: number, random: () => number): () => number {
  const upTo = new Float64Array(KEYS)
  let sum = 0
  for (let rank = 0; rank < KEYS; rank++) upTo[rank] = sum += (rank + 1) ** -skew
  return () => {
    const wanted = random() * sum
    let [low, high] = [0, KEYS - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (upTo[middle]! < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}

const trace = (request: (i: number) => number): Trace => Uint32Array.from({ length: REQUESTS }, (_, i) => request(i))

/** Each request by itself: what was popular stays so. */
export const zipf = (skew: number): Trace => trace(zipfian(skew, randomFrom(1)))

/** After each hundredth request a popular key and any other change their places. */
export function drifting(skew: number): Trace {
  const random = randomFrom(2)
  const rank = zipfian(skew, random)
  const keys = Uint32Array.from({ length: KEYS }, (_, i) => i)
  return trace((i) => {
    if (i % 100 === 0) {
      const [one, other] = [rank(), Math.floor(random() * KEYS)]
      ;[keys[one], keys[other]] = [keys[other]!, keys[one]!]
    }
    return keys[rank()]!
  })
}

/** The same `length` keys over and over. */
export const loop = (length: number): Trace => trace((i) => i % length)

/** Of each 6,000 requests, 2,000 in a row are for keys that nobody asked for before or will again. */
export function scans(skew: number): Trace {
  const rank = zipfian(skew, randomFrom(3))
  return trace((i) => (i % 6_000 < 4_000 ? rank() : KEYS + i))
}

/** Half of the requests are for 300 keys that are in use now: for each about 20 times, then never again. */
export function sessions(skew: number): Trace {
  const random = randomFrom(4)
  const rank = zipfian(skew, random)
  const inUse = Uint32Array.from({ length: 300 }, (_, i) => KEYS + i)
  return trace((i) => {
    if (i % 2 === 0) return rank()
    const one = Math.floor(random() * inUse.length)
    const key = inUse[one]!
    if (random() < 1 / 20) inUse[one] = KEYS + inUse.length + i
    return key
  })
}
