import type { CommandBus } from 'holdfast/cqrs'
import type { Item } from './catalogue.js'
import type { ShopCommands } from './commands.js'
import type { StockRoom } from './inventory.js'
import type { CancelReason } from './order.js'
import type { PaymentClient } from './payment-client.js'
import type { PaymentNotes } from './payment-notes.js'
import type { ParcelDesk } from './shipping.js'

/** The two ways to take an order through payment, stock and shipping. They share everything but who decides what is next. */
export const checkoutKinds = ['orchestrated', 'choreographed'] as const
export type CheckoutKind = (typeof checkoutKinds)[number]

/** What a checkout needs to know of an order. */
export interface Basket {
  readonly orderId: string
  readonly items: readonly Item[]
  readonly shipTo: string
  readonly cents: number
}

/** What a checkout works with. */
export interface Services {
  readonly commands: CommandBus<ShopCommands>
  readonly payments: PaymentClient
  readonly inventory: StockRoom
  readonly carrier: ParcelDesk
  /** Of the choreographed checkout: a saga has its journal. @defaultValue in memory */
  readonly notes?: PaymentNotes | undefined
  /** Events, stock and sagas are in one database, so that one transaction can change all three. @defaultValue false */
  readonly oneDatabase?: boolean | undefined
}

/** Takes orders to one of two ends: all done, or all undone. There is no third. */
export interface Checkout {
  readonly kind: CheckoutKind
  /** Begins; the rest follows by itself. Again for the same order: harmless. */
  start(basket: Basket): Promise<void>
  /** Turns back now: the customer has asked for it, and the order has agreed. */
  cancel(orderId: string): Promise<void>
  /** How many there are of each status since the start, and the `limit` newest. */
  view(limit: number): CheckoutsView
  close(): Promise<void>
}

/** Checkouts as the page shows them. */
export interface CheckoutsView {
  readonly counts: Readonly<Record<CheckoutStatus, number>>
  readonly recent: readonly CheckoutView[]
}

export interface CheckoutView {
  readonly orderId: string
  readonly kind: CheckoutKind
  /** When it began, epoch milliseconds. */
  readonly at: number
  readonly status: CheckoutStatus
  readonly steps: readonly { readonly name: string; readonly state: StepState }[]
}

/** `parked`: it waits for somebody to decide. */
export type CheckoutStatus = 'running' | 'completed' | 'compensating' | 'compensated' | 'parked'

/** `unknown`: it got no answer, so it must be undone like one that is done. `stuck`: it could not be undone. */
export type StepState = 'waiting' | 'running' | 'done' | 'failed' | 'unknown' | 'undone' | 'stuck'

const reasons: Readonly<Record<string, CancelReason>> = {
  OutOfStock: 'out-of-stock',
  PaymentDeclined: 'payment-declined',
  Undeliverable: 'undeliverable',
}

/** Why an order is cancelled when a step fails with `error`, which may have been through a journal and be no `Error` any more. */
export function reasonOf(error: unknown): { readonly reason: CancelReason; readonly detail: string } {
  const { name, message } = error as { readonly name: string; readonly message: string }
  return { reason: reasons[name] ?? 'payment-unavailable', detail: message }
}
