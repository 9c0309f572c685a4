const LARGEST = 500
const MOST_UNDER_WAY = 2
const SOON = Promise.resolve()

interface Waiting<T, R> {
  readonly one: T
  readonly resolve: (answer: R) => void
  readonly reject: (error: unknown) => void
}

/** Sends what comes at one moment, or while two calls are under way, together in one call. */
export class Grouped<T, R> {
  #waiting: Waiting<T, R>[] = []
  #underWay = 0
  #scheduled = false

  /**
   * @param send answers in the order of what it is given
   * @param most what goes in one call together has at most this size, unless it is a single one
   */
  constructor(
    private readonly send: (all: readonly T[]) => Promise<readonly R[]>,
    private readonly most?: { readonly size: number; readonly sizeOf: (one: T) => number },
  ) {}

  /** Rejects with what `send` threw, for whichever of them. */
  add(one: T): Promise<R> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ one, resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#underWay === MOST_UNDER_WAY) return
    this.#scheduled = true
    void SOON.then(this.#flush)
  }

  /** How many of those that wait go in one call. */
  #count(): number {
    if (!this.most) return LARGEST
    let left = this.most.size
    const first = this.#waiting.slice(0, LARGEST)
    const tooMuch = first.findIndex(({ one }, i) => (left -= this.most!.sizeOf(one)) < 0 && i > 0)
    return tooMuch < 0 ? LARGEST : tooMuch
  }

  readonly #flush = async (): Promise<void> => {
    this.#scheduled = false
    const batch = this.#waiting.splice(0, this.#count())
    if (batch.length === 0) return
    this.#underWay++
    if (this.#waiting.length > 0) this.#schedule()
    try {
      const answers = await this.send(batch.map(({ one }) => one))
      for (let i = 0; i < batch.length; i++) batch[i]!.resolve(answers[i] as R)
    } catch (error) {
      for (const { reject } of batch) reject(error)
    } finally {
      this.#underWay--
      if (this.#waiting.length > 0) this.#schedule()
    }
  }
}
