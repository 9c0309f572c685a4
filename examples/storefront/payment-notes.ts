import type { SqlQueryable } from 'holdfast'

/** What became of a charge, as far as the shop knows. `refused`: no money moved. */
export type ChargeState = 'asked' | 'charged' | 'unknown' | 'refused' | 'refunded'

/** What the payment service remembers of each order: what it must give back when the order is cancelled. */
export interface PaymentNotes {
  /** Before the provider is asked for the money. @returns whether it was asked before: who did so may have died before the answer */
  begin(orderId: string): boolean | Promise<boolean>
  /** @param tx the transaction of its database to do it in */
  write(orderId: string, state: ChargeState, tx?: SqlQueryable): void | Promise<void>
  /** Whether money may have moved and was not given back. */
  owes(orderId: string): boolean | Promise<boolean>
}

const owed: readonly (ChargeState | undefined)[] = ['asked', 'charged', 'unknown']

/** Notes in memory. */
export class MemoryPaymentNotes implements PaymentNotes {
  readonly #states = new Map<string, ChargeState>()

  begin(orderId: string): boolean {
    const again = this.#states.has(orderId)
    if (!again) this.#states.set(orderId, 'asked')
    return again
  }

  write(orderId: string, state: ChargeState): void {
    this.#states.set(orderId, state)
  }

  owes(orderId: string): boolean {
    return owed.includes(this.#states.get(orderId))
  }
}
