interface Node<T> {
  readonly item: T
  next: Node<T> | undefined
}

/** A line of items: an array's `shift` moves all that follow, this one costs the same at any length. @internal */
export class Fifo<T> {
  #first: Node<T> | undefined
  #last: Node<T> | undefined
  #length = 0

  get length(): number {
    return this.#length
  }

  /** The first item; `undefined` when there is none. */
  get first(): T | undefined {
    return this.#first?.item
  }

  /** All items, from the first. */
  *[Symbol.iterator](): Generator<T> {
    for (let node = this.#first; node; node = node.next) yield node.item
  }

  /** Adds `item` at the end. */
  push(item: T): void {
    const node = { item, next: undefined }
    if (this.#last) this.#last.next = node
    else this.#first = node
    this.#last = node
    this.#length++
  }

  /** Adds `item` at the front. */
  unshift(item: T): void {
    this.#first = { item, next: this.#first }
    this.#last ??= this.#first
    this.#length++
  }

  /** Takes the first item out; `undefined` when there is none. */
  shift(): T | undefined {
    const node = this.#first
    if (!node) return undefined
    this.#first = node.next
    if (!this.#first) this.#last = undefined
    this.#length--
    return node.item
  }
}
