import type { SqlQueryable } from 'holdfast'

/** What became of a charge, as far as the shop knows. `refused`: no money moved, and none will. */
export type ChargeState = 'asked' | 'charged' | 'unknown' | 'refused' | 'refunded'

/** What the payment service remembers of each order: what it must give back when the order is cancelled. */
export interface PaymentNotes {
  /**
   * Before the provider is asked for the money. The same message may be in two hands: one who died, or is thought to be dead, and the next.
   * @returns whether it may be asked: not when what came of it is written down already
   */
  begin(orderId: string): boolean | Promise<boolean>
  /** Writes down that one who has asked got a clear no. @returns the state: `unknown` when somebody else has asked as well */
  refuse(orderId: string, tx?: SqlQueryable): ChargeState | Promise<ChargeState>
  /** @param tx the transaction of its database to do it in */
  write(orderId: string, state: ChargeState, tx?: SqlQueryable): void | Promise<void>
  /** @returns how it stands when money has moved, or may have, and was not given back */
  owed(orderId: string): ChargeState | undefined | Promise<ChargeState | undefined>
}

export const isOwed = (state: ChargeState | undefined): boolean =>
  state !== undefined && state !== 'refused' && state !== 'refunded'

/** Notes in memory, of a conversation in memory. */
export class MemoryPaymentNotes implements PaymentNotes {
  readonly #notes = new Map<string, { state: ChargeState; asks: number }>()

  begin(orderId: string): boolean {
    const note = this.#notes.get(orderId) ?? { state: 'asked', asks: 0 }
    note.asks++
    this.#notes.set(orderId, note)
    return note.state === 'asked'
  }

  refuse(orderId: string): ChargeState {
    const state = this.#notes.get(orderId)?.asks === 1 ? 'refused' : 'unknown'
    this.write(orderId, state)
    return state
  }

  write(orderId: string, state: ChargeState): void {
    const note = this.#notes.get(orderId)
    if (note) note.state = state
  }

  owed(orderId: string): ChargeState | undefined {
    const state = this.#notes.get(orderId)?.state
    return isOwed(state) ? state : undefined
  }
}
