/** Looks after something again and again, one look after the other. What fails is looked at the next time. */
export class Rounds {
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<unknown> = Promise.resolve()
  #closed = false

  /** @param look may ask {@link closed} and leave off early */
  constructor(
    private readonly look: () => Promise<unknown>,
    private readonly everyMs: number,
  ) {
    this.#next()
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Ends with the look that is under way. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#looking
  }

  #next(): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => {
      this.#looking = this.look()
        .catch(() => {}) // the database is away
        .finally(() => this.#next())
    }, this.everyMs).unref()
  }
}
