const KEPT = 256
const NEEDED = 32
const EVERY = 16

/**
 * A quantile of the latest 256 numbers: exact, but up to 16 numbers old, because sorting them costs more than all the rest.
 * Forgets what a server was like some hundred calls ago, which an estimate over all calls would not.
 */
export class RecentQuantile {
  readonly #quantile: number
  #ring: Float64Array | undefined // made at the first number: who is never called owns none
  #count = 0
  #value: number | undefined

  /** @param quantile in (0, 1) */
  constructor(quantile: number) {
    this.#quantile = quantile
  }

  /** `undefined` until 32 numbers were seen. */
  get value(): number | undefined {
    return this.#value
  }

  add(number: number): void {
    const ring = (this.#ring ??= new Float64Array(KEPT))
    ring[this.#count++ % KEPT] = number
    if (this.#count < NEEDED || this.#count % EVERY !== 0) return
    const sorted = ring.subarray(0, this.#count).toSorted()
    this.#value = sorted[Math.floor(this.#quantile * sorted.length)]
  }
}
