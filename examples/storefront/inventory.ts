import type { SqlQueryable } from 'holdfast'
import { skus, type Item, type Sku } from './catalogue.js'

/** The shelves do not hold what was ordered. Nothing was set aside. */
export class OutOfStock extends Error {
  override readonly name = 'OutOfStock'
}

/** Nobody can get at the shelves. Nothing was put back. */
export class StockRoomLocked extends Error {
  override readonly name = 'StockRoomLocked'
}

/** Below this the supplier comes, and brings so many. */
export const LOW = 100
export const DELIVERY = 1_000

/**
 * The stock room. Every call may come twice (a retry, a message delivered again) and in the wrong order (a release that
 * overtakes its reservation): each order has one entry, and a released order can't be reserved for again.
 */
export interface StockRoom {
  /** A switch of the page: as if every shelf were empty. */
  empty: boolean
  /** A switch of the page: nothing can be put back. */
  locked: boolean
  /** How many orders have stock set aside for them or taken. */
  readonly held: number | Promise<number>
  /** Sets `items` aside. @param tx the transaction of its database to do it in @throws OutOfStock */
  reserve(orderId: string, items: readonly Item[], tx?: SqlQueryable): void | Promise<void>
  /** Puts back what was set aside for the order. @returns whether anything ever was @throws StockRoomLocked */
  release(orderId: string, tx?: SqlQueryable): boolean | Promise<boolean>
}

/** A stock room in memory. */
export class Inventory implements StockRoom {
  empty = false
  locked = false
  readonly #shelves = new Map<Sku, number>(skus.map((sku) => [sku, DELIVERY]))
  readonly #orders = new Map<string, { readonly items: readonly Item[]; readonly released: boolean }>()
  #held = 0

  get held(): number {
    return this.#held
  }

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

  release(orderId: string): boolean {
    if (this.locked) throw new StockRoomLocked('the stock room is locked')
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
