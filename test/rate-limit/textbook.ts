/**
 * The token bucket as textbooks have it: a number of tokens, and when it was last looked at. Fractions are exact, so that it
 * can be compared with step by step. Knows nothing of ticks or of the time at which it is full.
 */
export class TextbookBucket {
  /** Everything is counted in this many parts of a token. */
  readonly #parts: bigint
  readonly #capacity: bigint
  #tokens: bigint
  #at = 0n

  /** @param rate tokens per second as a fraction */
  constructor(
    capacity: number,
    readonly rate: readonly [over: number, under: number],
    initial: number = capacity,
  ) {
    this.#parts = 1_000_000n * BigInt(rate[1])
    this.#capacity = BigInt(capacity) * this.#parts
    this.#tokens = BigInt(initial) * this.#parts
  }

  /** Lets time pass, up to `micros` since the start. */
  at(micros: number): this {
    const refill = (BigInt(micros) - this.#at) * BigInt(this.rate[0])
    this.#tokens = this.#tokens + refill < this.#capacity ? this.#tokens + refill : this.#capacity
    this.#at = BigInt(micros)
    return this
  }

  tryTake(cost: number): boolean {
    if (this.tokens < BigInt(cost)) return false
    this.take(cost)
    return true
  }

  /** Takes without asking; a negative cost gives back, up to the capacity. */
  take(cost: number): void {
    const left = this.#tokens - BigInt(cost) * this.#parts
    this.#tokens = left < this.#capacity ? left : this.#capacity
  }

  /** Whole tokens, rounded down. */
  get tokens(): bigint {
    const whole = this.#tokens / this.#parts
    return this.#tokens < 0n && whole * this.#parts !== this.#tokens ? whole - 1n : whole
  }

  /** Tokens, as near as a double comes. */
  get level(): number {
    return Number(this.#tokens) / Number(this.#parts)
  }

  /** µs until `cost` tokens are there, rounded up. */
  microsUntil(cost: number): number {
    const missing = BigInt(cost) * this.#parts - this.#tokens
    const rate = BigInt(this.rate[0])
    return missing <= 0n ? 0 : Number((missing + rate - 1n) / rate)
  }
}
