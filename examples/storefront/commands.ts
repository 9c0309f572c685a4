import { NotFoundError } from 'holdfast'
import { CommandBus } from 'holdfast/cqrs'
import type { ExpectedVersion, Repository } from 'holdfast/event-sourcing'
import { ProblemError } from 'holdfast/http'
import type { Item } from './catalogue.js'
import type { CancelReason, Order, OrderEvent, Placed } from './order.js'

/** Where an order stands after a command. */
export interface Done {
  readonly version: number
  /** What a read model must have reached to show it. */
  readonly position: number
  /** Whether it made anything happen. */
  readonly changed: boolean
}

interface About {
  readonly orderId: string
}

interface InTransaction {
  /** What is recorded holds only if this transaction of the log's database commits. */
  readonly tx?: unknown
}

/** Everything that can be told to the write model, by the outside and by the services of a checkout. */
export interface ShopCommands {
  PlaceOrder: { in: About & { userId: string; items: readonly Item[]; shipTo: string }; out: Done }
  RequestCancel: { in: About & { detail: string; expectedVersion?: number | undefined }; out: Done }
  AcceptOrder: { in: About & InTransaction & { checkout: string }; out: Done }
  RecordStock: { in: About & InTransaction; out: Done }
  RecordPayment: { in: About & InTransaction; out: Done }
  ShipOrder: { in: About & InTransaction & { tracking: string }; out: Done }
  /** `checkout`: only if no other kind of checkout has the order. */
  CancelOrder: { in: About & InTransaction & { reason: CancelReason; detail: string; checkout?: string }; out: Done }
  RecordRelease: { in: About & InTransaction; out: Done }
  RecordRefund: { in: About & InTransaction; out: Done }
}

/**
 * The write side: each command loads its order from its events, lets it decide, and appends what has happened. When two
 * commands meet on one order, the repository lets the second decide again on what the first has left.
 */
export function createCommands(orders: Repository<Order, never, OrderEvent>): CommandBus<ShopCommands> {
  const bus = new CommandBus<ShopCommands>()

  /** A command that changes an order as `decide` says. */
  const on = <Type extends Exclude<keyof ShopCommands, 'PlaceOrder'>>(
    type: Type,
    decide: (order: Order, input: ShopCommands[Type]['in']) => void,
    expected?: (input: ShopCommands[Type]['in']) => ExpectedVersion | undefined,
  ): void => {
    bus.on(type, async (input, { metadata }) => {
      const { orderId } = input
      const run = (order: Order): void => {
        if (order.status === 'new') throw new NotFoundError(`there is no order ${orderId}`)
        decide(order, input)
      }
      const { tx } = input as InTransaction
      const options = { metadata, expectedVersion: expected?.(input), tx }
      const { version, position, events } = await orders.handle(orderId, run, options)
      return { version, position, changed: events.length > 0 }
    })
  }

  bus.on('PlaceOrder', async ({ orderId, userId, items, shipTo }, context) => {
    const place = (order: Order): void => order.place({ userId, items, shipTo })
    // The context has the idempotency key: a repeat decides nothing, and gives what came of the first.
    const { version, position, events, duplicate } = await orders.handle(orderId, place, context)
    const [first] = events
    const same = first?.type === 'OrderPlaced' && sameOrder(first.data, { items, shipTo })
    if (!same)
      throw new ProblemError(422, {
        code: 'IDEMPOTENCY_KEY_REUSED',
        detail: 'this Idempotency-Key came with another order before',
      })
    return { version, position, changed: !duplicate }
  })

  on(
    'RequestCancel',
    (order, { detail }) => order.requestCancel(detail),
    ({ expectedVersion }) => expectedVersion,
  )
  on('AcceptOrder', (order, { checkout }) => order.accept(checkout))
  on('RecordStock', (order) => order.recordStock())
  on('RecordPayment', (order) => order.recordPayment())
  on('ShipOrder', (order, { tracking }) => order.ship(tracking))
  on('CancelOrder', (order, { reason, detail, checkout }) => {
    if (!checkout || !order.checkout || order.checkout === checkout) order.cancel(reason, detail)
  })
  on('RecordRelease', (order) => order.recordRelease())
  on('RecordRefund', (order) => order.recordRefund())
  return bus
}

const sameOrder = (a: Pick<Placed, 'items' | 'shipTo'>, b: Pick<Placed, 'items' | 'shipTo'>): boolean =>
  textOf(a) === textOf(b)

const textOf = ({ items, shipTo }: Pick<Placed, 'items' | 'shipTo'>): string =>
  JSON.stringify([shipTo, ...items.map(({ sku, quantity }) => [sku, quantity])])
