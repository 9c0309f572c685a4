import { LRUCache } from 'lru-cache'
import { newCache } from 'transitory'
import { HIGHEST, type Trace } from './cache-traces.js'

/** The part of the requests that a cache of `size` entries answers. */
export type Policy = (trace: Trace, size: number) => number

const names = Array.from({ length: HIGHEST }, (_, i) => `product-${i}`)

function hitRatio(trace: Trace, isHit: (key: number) => boolean): number {
  let hits = 0
  for (const key of trace) if (isHit(key)) hits++
  return hits / trace.length
}

export const lru: Policy = (trace, size) => {
  const cache = new LRUCache<string, number>({ max: size })
  return hitRatio(trace, (key) => {
    const name = names[key]!
    if (cache.get(name) !== undefined) return true
    cache.set(name, key)
    return false
  })
}

/** W-TinyLFU (Einziger, Friedman, Manes, *TinyLFU*, 2017), of transitory. */
export const wTinyLfu: Policy = (trace, size) => {
  const cache = newCache<string, number>().maxSize(size).build()
  return hitRatio(trace, (key) => {
    const name = names[key]!
    if (cache.getIfPresent(name) !== null) return true
    cache.set(name, key)
    if (cache.size > size) cache.cleanUp() // else it takes a hundredth more than it is given
    return false
  })
}

/** S3-FIFO (Yang and others, *FIFO queues are all you need for cache eviction*, 2023), as in its listing: no package has it. */
export const s3Fifo: Policy = (trace, size) => {
  const forSmall = Math.max(1, Math.floor(size / 10))
  const small = new Fifo()
  const main = new Fifo()
  const ghost = new Fifo()
  const held = new Uint8Array(names.length)
  const ghostly = new Uint8Array(names.length)
  const uses = new Uint8Array(names.length)

  const evictMain = (): void => {
    for (let key = main.take(); ; key = main.take()) {
      if (uses[key] === 0) return void (held[key] = 0)
      uses[key]!--
      main.add(key)
    }
  }
  const evictSmall = (): void => {
    while (small.length > 0) {
      const key = small.take()
      if (uses[key]! > 1) {
        uses[key] = 0
        main.add(key)
        if (main.length > size - forSmall) return evictMain()
      } else {
        held[key] = 0
        ghostly[key]!++
        ghost.add(key)
        if (ghost.length > size - forSmall) ghostly[ghost.take()]!--
        return
      }
    }
  }
  return hitRatio(trace, (key) => {
    if (held[key] === 1) {
      uses[key] = Math.min(3, uses[key]! + 1)
      return true
    }
    while (small.length + main.length >= size) {
      if (small.length >= forSmall) evictSmall()
      else evictMain()
    }
    held[key] = 1
    uses[key] = 0
    if (ghostly[key]! > 0) main.add(key)
    else small.add(key)
    return false
  })
}

/** The roof (Belady 1966): what is asked for latest goes first, at once if that is the new one. */
export const optimal: Policy = (trace, size) => {
  const next = new Uint32Array(trace.length)
  const seen = new Map<number, number>()
  for (let i = trace.length - 1; i >= 0; i--) {
    next[i] = seen.get(trace[i]!) ?? trace.length + i // never again
    seen.set(trace[i]!, i)
  }
  // By the place of their next request, which tells the key too. Places that have gone by stay in the heap: they are lower.
  const latest = new Heap()
  const held = new Set<number>()
  return (
    next.reduce((hits, place, i) => {
      const key = trace[i]!
      const isHit = held.has(key)
      held.add(key)
      latest.add(place)
      if (held.size > size) {
        const last = latest.take()
        held.delete(trace[last % trace.length]!)
      }
      return isHit ? hits + 1 : hits
    }, 0) / trace.length
  )
}

/** A queue that keeps what it gave: a trace is short. */
class Fifo {
  readonly #keys: number[] = []
  #taken = 0

  get length(): number {
    return this.#keys.length - this.#taken
  }

  add(key: number): void {
    this.#keys.push(key)
  }

  take(): number {
    return this.#keys[this.#taken++]!
  }
}

/** The highest number first. */
class Heap {
  readonly #numbers: number[] = []

  add(number: number): void {
    const all = this.#numbers
    let at = all.push(number) - 1
    for (let up = (at - 1) >> 1; at > 0 && all[up]! < number; up = (at - 1) >> 1) {
      all[at] = all[up]!
      at = up
    }
    all[at] = number
  }

  take(): number {
    const all = this.#numbers
    const highest = all[0]!
    const number = all.pop()!
    if (all.length === 0) return highest
    let at = 0
    for (;;) {
      let down = 2 * at + 1
      if (down + 1 < all.length && all[down + 1]! > all[down]!) down++
      if (down >= all.length || all[down]! <= number) break
      all[at] = all[down]!
      at = down
    }
    all[at] = number
    return highest
  }
}
