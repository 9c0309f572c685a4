/** Something with a time at which it is to be looked at. */
export interface Dated {
  /** Epoch milliseconds; `Infinity`: never. */
  wakeAt: number
  /** The time it stands in the queue with; kept by the queue. */
  queuedAt: number
  /** Where it stands in the queue; -1: nowhere. Kept by the queue. */
  slot: number
}

/**
 * Items in the order of their time. A time that moves on costs nothing until the old one is reached, so extending a lease is free;
 * an item without a time is not held. Source: binary heap whose items know their place.
 */
export class DueQueue<T extends Dated> {
  readonly #heap: T[] = []

  /** To be called whenever `item.wakeAt` has changed. */
  update(item: T): void {
    if (item.wakeAt === Infinity) this.#remove(item)
    else if (item.slot < 0) {
      item.queuedAt = item.wakeAt
      this.#up(item, this.#heap.length)
    } else if (item.wakeAt < item.queuedAt) {
      item.queuedAt = item.wakeAt
      this.#up(item, item.slot)
    }
  }

  /** Takes out the first item whose time is at most `now`. */
  take(now: number): T | undefined {
    for (let first; (first = this.#heap[0]) && first.queuedAt <= now;) {
      this.#remove(first)
      if (first.wakeAt <= now) return first
      this.update(first) // its time had moved on
    }
    return undefined
  }

  /** The time of the first item; too early when that has moved on. `Infinity`: there is none. */
  get nextAt(): number {
    return this.#heap[0]?.queuedAt ?? Infinity
  }

  #remove(item: T): void {
    const { slot } = item
    if (slot < 0) return
    item.slot = -1
    const last = this.#heap.pop()!
    if (last === item) return
    const parent = this.#heap[(slot - 1) >> 1]
    if (slot > 0 && last.queuedAt < parent!.queuedAt) this.#up(last, slot)
    else this.#down(last, slot)
  }

  #up(item: T, from: number): void {
    let slot = from
    while (slot > 0) {
      const above = (slot - 1) >> 1
      const parent = this.#heap[above]!
      if (parent.queuedAt <= item.queuedAt) break
      this.#put(parent, slot)
      slot = above
    }
    this.#put(item, slot)
  }

  #down(item: T, from: number): void {
    let slot = from
    for (;;) {
      let below = 2 * slot + 1
      const right = this.#heap[below + 1]
      if (right && right.queuedAt < this.#heap[below]!.queuedAt) below++
      const child = this.#heap[below]
      if (!child || child.queuedAt >= item.queuedAt) break
      this.#put(child, slot)
      slot = below
    }
    this.#put(item, slot)
  }

  #put(item: T, slot: number): void {
    this.#heap[slot] = item
    item.slot = slot
  }
}
