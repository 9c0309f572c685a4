import type { Basket } from './checkout.js'
import type { OrdersView, OrderView } from './read-model.js'
import { Rounds } from './rounds.js'

/** When it looks, and for what. */
export interface AdoptionOptions {
  /** Milliseconds between two looks. @defaultValue 1_000 */
  readonly everyMs?: number | undefined
  /** Whoever took an order in begins with it at once; one that was left alone for so many ms was left for good. @defaultValue 2_000 */
  readonly aloneMs?: number | undefined
  /** Orders that a look is at. @defaultValue 500 */
  readonly pageSize?: number | undefined
}

/**
 * An order is placed in one write and its checkout begun in another. A process that dies in between leaves an order that nobody
 * cares for: this looks for such orders and begins with them. To begin twice is harmless, for an order has one checkout.
 */
export class Adoption {
  readonly #rounds: Rounds
  readonly #aloneMs: number
  readonly #pageSize: number
  #after: string | undefined

  constructor(
    private readonly view: OrdersView,
    private readonly begin: (basket: Basket) => Promise<void>,
    { everyMs = 1_000, aloneMs = 2_000, pageSize = 500 }: AdoptionOptions = {},
  ) {
    this.#aloneMs = aloneMs
    this.#pageSize = pageSize
    this.#rounds = new Rounds(() => this.#look(), everyMs)
  }

  close(): Promise<void> {
    return this.#rounds.close()
  }

  /** One page: the next look goes on from there, and after the oldest with the newest. So a look costs the same, however many are open. */
  async #look(): Promise<void> {
    const before = Date.now() - this.#aloneMs
    const page = await this.view.list({ limit: this.#pageSize, status: 'placed', after: this.#after })
    const alone = page.filter(({ checkout, placedAt }) => !checkout && placedAt.getTime() < before)
    // oxlint-disable-next-line no-await-in-loop -- few, if any
    for (const order of alone) await this.#adopt(order)
    this.#after = page.length < this.#pageSize ? undefined : page.at(-1)?.id
  }

  /** One that can't be begun must not keep the others from it. It is tried again at the next look. */
  async #adopt({ id: orderId, items, shipTo, cents }: OrderView): Promise<void> {
    if (!this.#rounds.closed) await this.begin({ orderId, items, shipTo, cents }).catch(() => {})
  }
}
