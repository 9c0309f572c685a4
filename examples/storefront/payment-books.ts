/** A charge in the provider's books. `void`: refunded before it was made, and so never to be made. */
export interface Charge {
  readonly key: string
  readonly cents: number
  readonly state: 'charged' | 'refunded' | 'void'
}

/** How many charges there are of each kind. */
export type BookCounts = Readonly<Record<Charge['state'], number>>

/** The provider's books: a charge per key, whatever comes twice, at the same time, or in the wrong order. */
export interface PaymentBooks {
  find(key: string): Charge | undefined | Promise<Charge | undefined>
  /** Writes down a charge, unless there is an entry for this key. @returns the entry */
  charge(key: string, cents: number): Charge | Promise<Charge>
  /** Gives back what was charged, or sees to it that nothing will be. @returns the entry */
  refund(key: string): Charge | Promise<Charge>
  counts(): BookCounts | Promise<BookCounts>
}

/** Books in memory: they end with the provider. */
export class MemoryPaymentBooks implements PaymentBooks {
  readonly #charges = new Map<string, Charge>()
  readonly #counts = { charged: 0, refunded: 0, void: 0 }

  find(key: string): Charge | undefined {
    return this.#charges.get(key)
  }

  charge(key: string, cents: number): Charge {
    return this.#charges.get(key) ?? this.#write({ key, cents, state: 'charged' })
  }

  refund(key: string): Charge {
    const known = this.#charges.get(key)
    if (!known) return this.#write({ key, cents: 0, state: 'void' })
    return known.state === 'charged' ? this.#write({ ...known, state: 'refunded' }) : known
  }

  counts(): BookCounts {
    return { ...this.#counts }
  }

  #write(charge: Charge): Charge {
    const before = this.#charges.get(charge.key)
    if (before) this.#counts[before.state]--
    this.#counts[charge.state]++
    this.#charges.set(charge.key, charge)
    return charge
  }
}
