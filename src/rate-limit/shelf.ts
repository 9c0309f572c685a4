const SMALLEST = 64

/**
 * When each of many buckets is full again, in ticks, with a pointer that goes round them. The numbers stand side by side,
 * without gaps, so that changing one makes no garbage and looking through them for full ones costs next to nothing.
 */
export class Shelf {
  readonly #placeOf = new Map<string, number>()
  readonly #keys: string[] = []
  #fullAt = new Float64Array(SMALLEST)
  #pointer = 0

  get size(): number {
    return this.#keys.length
  }

  /** The place of `key`, good until the next change to which keys are here; -1 when it is not here. */
  find(key: string): number {
    return this.#keys.length === 0 ? -1 : (this.#placeOf.get(key) ?? -1)
  }

  at(place: number): number {
    return this.#fullAt[place]!
  }

  setAt(place: number, fullAt: number): void {
    this.#fullAt[place] = fullAt
  }

  /** Puts in a key that is not here. */
  add(key: string, fullAt: number): void {
    const place = this.#keys.push(key) - 1
    if (place === this.#fullAt.length) this.#resize(2 * place)
    this.#placeOf.set(key, place)
    this.#fullAt[place] = fullAt
  }

  /** Returns whether `key` was here. */
  delete(key: string): boolean {
    const place = this.find(key)
    if (place >= 0) this.#remove(place)
    return place >= 0
  }

  /**
   * Forgets what is full, from the pointer to the end.
   * @param most how many buckets to look at
   * @returns how many of these it did not need, because the end came first; then the pointer is at the start again
   */
  sweep(now: number, most: number): number {
    for (let left = most; left > 0; left--) {
      if (this.#pointer >= this.#keys.length) {
        this.#pointer = 0
        return left
      }
      if (this.#fullAt[this.#pointer]! <= now) this.#remove(this.#pointer)
      else this.#pointer++
    }
    return 0
  }

  /** Forgets the bucket nearest to full among the next `sample`. Returns whether there was one. */
  evict(now: number, sample: number): boolean {
    let victim = -1
    for (let i = Math.min(sample, this.#keys.length); i > 0; i--) {
      if (this.#pointer >= this.#keys.length) this.#pointer = 0
      const place = this.#pointer++
      if (victim < 0 || this.#fullAt[place]! < this.#fullAt[victim]!) victim = place
      if (this.#fullAt[place]! <= now) break
    }
    if (victim >= 0) this.#remove(victim)
    return victim >= 0
  }

  /** Empties a place: the last bucket moves into it. */
  #remove(place: number): void {
    this.#placeOf.delete(this.#keys[place]!)
    const key = this.#keys.pop()!
    const last = this.#keys.length
    if (place < last) {
      this.#keys[place] = key
      this.#placeOf.set(key, place)
      this.#fullAt[place] = this.#fullAt[last]!
    }
    if (last >= SMALLEST && last < this.#fullAt.length / 4) this.#resize(this.#fullAt.length / 2)
  }

  #resize(length: number): void {
    const before = this.#fullAt
    this.#fullAt = new Float64Array(length)
    this.#fullAt.set(before.length > length ? before.subarray(0, length) : before)
  }
}
