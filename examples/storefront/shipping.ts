import type { SqlQueryable } from 'holdfast'

/** The carrier does not go there. Nothing was booked. */
export class Undeliverable extends Error {
  override readonly name = 'Undeliverable'
}

/** The van has broken down: nothing was picked up. */
export class VanBroken extends Error {
  override readonly name = 'VanBroken'
}

export const isNowhere = (shipTo: string): boolean => /^atlantis$/i.test(shipTo)
export const trackingOf = (orderId: string): string => `HF-${orderId.slice(-8).toUpperCase()}`

/** The carrier's booking desk. As in the stock room, calls may come twice and in the wrong order. */
export interface ParcelDesk {
  /** A switch of the page: nothing is picked up. */
  broken: boolean
  /** How many parcels are booked and not withdrawn. */
  readonly booked: number | Promise<number>
  /** Books a parcel. @param tx the transaction of its database to do it in @returns its tracking number. @throws Undeliverable */
  book(orderId: string, shipTo: string, tx?: SqlQueryable): string | Promise<string>
  /** Sends the van. @throws VanBroken */
  pickUp(): void
  /** Withdraws the parcel. @returns whether one was ever booked */
  withdraw(orderId: string, tx?: SqlQueryable): boolean | Promise<boolean>
}

/** A booking desk in memory. */
export class Carrier implements ParcelDesk {
  readonly #parcels = new Map<string, { readonly tracking: string | undefined; readonly withdrawn: boolean }>()
  broken = false
  #booked = 0

  get booked(): number {
    return this.#booked
  }

  book(orderId: string, shipTo: string): string {
    const known = this.#parcels.get(orderId)
    if (known?.withdrawn) throw new Undeliverable('the order was cancelled meanwhile')
    if (known?.tracking) return known.tracking
    if (isNowhere(shipTo)) throw new Undeliverable(`no parcels to ${shipTo}`)
    const tracking = trackingOf(orderId)
    this.#parcels.set(orderId, { tracking, withdrawn: false })
    this.#booked++
    return tracking
  }

  pickUp(): void {
    if (this.broken) throw new VanBroken('the van has broken down')
  }

  withdraw(orderId: string): boolean {
    const before = this.#parcels.get(orderId)
    this.#parcels.set(orderId, { tracking: before?.tracking, withdrawn: true })
    if (!before?.tracking) return false
    if (!before.withdrawn) this.#booked--
    return true
  }
}
