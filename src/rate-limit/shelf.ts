/** When each of many buckets is full again, in ticks, with a pointer that goes round them. A plain Map plus that. */
export class Shelf {
  readonly #fullAt = new Map<string, number>()
  /** Kept between calls: a new iterator would start over, and step over everything deleted since. */
  #pointer: Iterator<[string, number]> | undefined

  get size(): number {
    return this.#fullAt.size
  }

  get(key: string): number | undefined {
    return this.#fullAt.size > 0 ? this.#fullAt.get(key) : undefined
  }

  has(key: string): boolean {
    return this.#fullAt.size > 0 && this.#fullAt.has(key)
  }

  set(key: string, fullAt: number): void {
    this.#fullAt.set(key, fullAt)
  }

  delete(key: string): boolean {
    return this.#fullAt.size > 0 && this.#fullAt.delete(key)
  }

  /**
   * Forgets what is full, from the pointer to the end.
   * @param most how many buckets to look at
   * @returns how many of these it did not need, because the end came first; then the pointer is at the start again
   */
  sweep(now: number, most: number): number {
    for (let left = most; left > 0; left--) {
      const next = this.#next()
      if (!next) return left
      if (next[1] <= now) this.#fullAt.delete(next[0])
    }
    return 0
  }

  /** Forgets the bucket nearest to full among the next `sample`. Returns whether there was one. */
  evict(now: number, sample: number): boolean {
    let victim: [string, number] | undefined
    for (let i = Math.min(sample, this.#fullAt.size); i > 0; i--) {
      const next = this.#next() ?? this.#next()
      if (!next) break
      if (!victim || next[1] < victim[1]) victim = next
      if (next[1] <= now) break
    }
    return victim !== undefined && this.#fullAt.delete(victim[0])
  }

  /** The next bucket; `undefined` once at the end. */
  #next(): [string, number] | undefined {
    this.#pointer ??= this.#fullAt.entries()
    const { done, value } = this.#pointer.next() as IteratorResult<[string, number], undefined>
    if (!done) return value
    this.#pointer = undefined
    return undefined
  }
}
