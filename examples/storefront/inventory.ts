import { skus, type Item, type Sku } from './catalogue.js'

/** The shelves do not hold what was ordered. Nothing was set aside. */
export class OutOfStock extends Error {
  override readonly name = 'OutOfStock'
}

const LOW = 100
const DELIVERY = 1_000

/**
 * The stock room. Every call may come twice (a retry, a message delivered again) and in the wrong order (a release that
 * overtakes its reservation): each order has one entry, and a released order can't be reserved for again.
 */
export class Inventory {
  /** A switch of the page: as if every shelf were empty. */
  empty = false
  readonly #shelves = new Map<Sku, number>(skus.map((sku) => [sku, DELIVERY]))
  readonly #orders = new Map<string, { readonly items: readonly Item[]; readonly released: boolean }>()
  #held = 0

  /** How many orders have stock set aside for them or taken. */
  get held(): number {
    return this.#held
  }

  /** Sets `items` aside. @throws OutOfStock */
  reserve(orderId: string, items: readonly Item[]): void {
    const known = this.#orders.get(orderId)
    if (known?.released) throw new OutOfStock('the order was cancelled meanwhile')
    if (known) return
    const short = items.find(({ sku, quantity }) => this.empty || this.#left(sku) < quantity)
    if (short) throw new OutOfStock(`no ${short.sku} left`)
    for (const { sku, quantity } of items) this.#move(sku, -quantity)
    this.#orders.set(orderId, { items, released: false })
    this.#held++
  }

  /** Puts back what was set aside for the order. @returns whether anything ever was */
  release(orderId: string): boolean {
    const before = this.#orders.get(orderId)
    if (!before?.items.length) {
      this.#orders.set(orderId, { items: [], released: true })
      return false
    }
    if (before.released) return true
    for (const { sku, quantity } of before.items) this.#move(sku, quantity)
    this.#orders.set(orderId, { items: before.items, released: true })
    this.#held--
    return true
  }

  #left(sku: Sku): number {
    return this.#shelves.get(sku) ?? 0
  }

  #move(sku: Sku, by: number): void {
    const left = this.#left(sku) + by
    this.#shelves.set(sku, left < LOW ? left + DELIVERY : left) // the supplier comes when a shelf runs low
  }
}
