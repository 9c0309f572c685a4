/** Something with a time at which it is to be looked at. */
export interface Dated {
  /** Epoch milliseconds; `Infinity`: never. */
  wakeAt: number
  /** Where it is queued now; kept by the queue. `Infinity`: nowhere. */
  queuedAt: number
}

interface Slot<T> {
  readonly at: number
  readonly order: number
  readonly item: T
}

/**
 * Items in the order of their time, then of their coming. A time that moves on costs nothing until the old one is reached, so
 * extending a lease is free. Source: binary heap with lazy deletion.
 */
export class DueQueue<T extends Dated> {
  readonly #heap: Slot<T>[] = []
  #order = 0

  /** To be called whenever `item.wakeAt` has changed. */
  update(item: T): void {
    if (item.wakeAt < item.queuedAt) this.#push(item)
  }

  /** Takes out the first item whose time is at most `now`. */
  take(now: number): T | undefined {
    while (this.#heap[0] && this.#heap[0].at <= now) {
      const { at, item } = this.#pop()
      if (item.queuedAt !== at) continue // it was queued earlier since, and taken there
      item.queuedAt = Infinity
      if (item.wakeAt <= now) return item
      this.update(item)
    }
    return undefined
  }

  /** The time of the first item; too early when that has moved on. `Infinity`: there is none. */
  get nextAt(): number {
    return this.#heap[0]?.at ?? Infinity
  }

  #push(item: T): void {
    item.queuedAt = item.wakeAt
    const heap = this.#heap
    heap.push({ at: item.wakeAt, order: this.#order++, item })
    for (let i = heap.length - 1; i > 0;) {
      const parent = (i - 1) >> 1
      if (!before(heap[i]!, heap[parent]!)) return
      ;[heap[i], heap[parent]] = [heap[parent]!, heap[i]!]
      i = parent
    }
  }

  #pop(): Slot<T> {
    const heap = this.#heap
    const first = heap[0]!
    const last = heap.pop()!
    if (heap.length > 0) heap[0] = last
    for (let i = 0; ;) {
      let least = i
      for (const child of [2 * i + 1, 2 * i + 2])
        if (child < heap.length && before(heap[child]!, heap[least]!)) least = child
      if (least === i) return first
      ;[heap[i], heap[least]] = [heap[least]!, heap[i]!]
      i = least
    }
  }
}

const before = <T>(a: Slot<T>, b: Slot<T>): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)
