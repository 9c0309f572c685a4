/** The carrier does not go there. Nothing was booked. */
export class Undeliverable extends Error {
  override readonly name = 'Undeliverable'
}

/** The van has broken down: nothing was picked up. */
export class VanBroken extends Error {
  override readonly name = 'VanBroken'
}

/** The carrier's booking desk. As in the stock room, calls may come twice and in the wrong order. */
export class Carrier {
  readonly #parcels = new Map<string, { readonly tracking: string | undefined; readonly withdrawn: boolean }>()
  /** A switch of the page: nothing is picked up. */
  broken = false
  #booked = 0

  /** How many parcels are booked and not withdrawn. */
  get booked(): number {
    return this.#booked
  }

  /** Books a parcel. @returns its tracking number. @throws Undeliverable */
  book(orderId: string, shipTo: string): string {
    const known = this.#parcels.get(orderId)
    if (known?.withdrawn) throw new Undeliverable('the order was cancelled meanwhile')
    if (known?.tracking) return known.tracking
    if (/^atlantis$/i.test(shipTo)) throw new Undeliverable(`no parcels to ${shipTo}`)
    const tracking = `HF-${orderId.slice(-8).toUpperCase()}`
    this.#parcels.set(orderId, { tracking, withdrawn: false })
    this.#booked++
    return tracking
  }

  /** Sends the van. @throws VanBroken */
  pickUp(): void {
    if (this.broken) throw new VanBroken('the van has broken down')
  }

  /** Withdraws the parcel. @returns whether one was ever booked */
  withdraw(orderId: string): boolean {
    const before = this.#parcels.get(orderId)
    this.#parcels.set(orderId, { tracking: before?.tracking, withdrawn: true })
    if (!before?.tracking) return false
    if (!before.withdrawn) this.#booked--
    return true
  }
}
