import type { Basket } from './checkout.js'
import type { OrdersView } from './read-model.js'

const LOOK_MS = 1_000
/** Whoever took an order in begins with it at once; one that was left alone for so long was left for good. */
const ALONE_MS = 2_000

/**
 * An order is placed in one write and its checkout begun in another. A process that dies in between leaves an order that nobody
 * cares for: this looks for such orders and begins with them. To begin twice is harmless, for an order has one checkout.
 */
export class Adoption {
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()
  #closed = false

  constructor(
    private readonly view: OrdersView,
    private readonly begin: (basket: Basket) => Promise<void>,
  ) {
    this.#next()
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#looking
  }

  #next(): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => {
      this.#looking = this.#look()
        .catch(() => {}) // the database is away: the next time
        .finally(() => this.#next())
    }, LOOK_MS).unref()
  }

  async #look(): Promise<void> {
    const before = Date.now() - ALONE_MS
    const placed = await this.view.list({ limit: 1_000, status: 'placed' })
    for (const { id: orderId, items, shipTo, cents, checkout, placedAt } of placed) {
      if (this.#closed) return
      // oxlint-disable-next-line no-await-in-loop -- few, if any
      if (!checkout && placedAt.getTime() < before) await this.begin({ orderId, items, shipTo, cents })
    }
  }
}
