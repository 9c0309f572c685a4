/** One who waits, between its neighbours. */
export interface Waiting {
  /** Called when it is its turn; it stands in no line then. */
  readonly enter: () => void
  before: Waiting | undefined
  behind: Waiting | undefined
}

/** A line, first come, first served. Leaving it costs the same from everywhere, which neither an array nor a `Set` can say. */
export class Line {
  #first: Waiting | undefined
  #last: Waiting | undefined
  #length = 0

  get length(): number {
    return this.#length
  }

  add(waiting: Waiting): void {
    waiting.before = this.#last
    if (this.#last) this.#last.behind = waiting
    else this.#first = waiting
    this.#last = waiting
    this.#length++
  }

  /** The first, who leaves the line; `undefined` when it is empty. */
  shift(): Waiting | undefined {
    const first = this.#first
    if (first) this.remove(first)
    return first
  }

  /** @param waiting one that stands in this line */
  remove(waiting: Waiting): void {
    const { before, behind } = waiting
    if (before) before.behind = behind
    else this.#first = behind
    if (behind) behind.before = before
    else this.#last = before
    this.#length--
  }
}
