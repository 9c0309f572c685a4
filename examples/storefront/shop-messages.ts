import type { SqlQueryable } from 'holdfast'
import { MemoryEventBus, type DeliveryContext, type EventBus, type MessageOf } from 'holdfast/messaging'
import { exponential } from 'holdfast/resilience'
import type { Basket } from './checkout.js'
import type { CancelReason } from './order.js'

/** A service could not do its part. */
export interface Failed {
  readonly orderId: string
  readonly reason: CancelReason
  readonly detail: string
}

/** Everything the services say to each other. A message tells what happened; whoever cares does the next thing. */
export interface ShopMessages {
  'order.accepted': Basket
  'payment.completed': Basket & { readonly transactionId: string }
  /** `unknown`: nobody can say whether the money moved. */
  'payment.failed': Failed & { readonly unknown: boolean }
  'inventory.reserved': Basket
  'inventory.failed': Failed
  'shipping.booked': { readonly orderId: string; readonly tracking: string }
  'shipping.failed': Failed
  'order.shipped': { readonly orderId: string }
  'order.cancelled': { readonly orderId: string }
  /** `charged`: it was known that the money had moved. */
  'payment.refunded': { readonly orderId: string; readonly charged: boolean }
  'inventory.released': { readonly orderId: string }
  'shipping.withdrawn': { readonly orderId: string }
  'order.refunded': { readonly orderId: string }
}

export type MessageType = keyof ShopMessages

/** Says that something happened. */
export type Say = <T extends MessageType>(type: T, data: ShopMessages[T]) => Promise<void>

/** What a service does, and what it says of it. @param tx what it does in the shop's database is done with this, if there is one */
export type Work = (say: Say, tx: SqlQueryable | undefined) => unknown

/** A message in the hands of a service. */
export interface Turn {
  readonly signal: AbortSignal
  /**
   * Where messages last, what `work` does with `tx` and what it says are one, and happen once, however often the message comes. What is
   * done beside it may be done twice. Every handler ends with it: a message that is not done with this way is said again.
   */
  readonly once: (work: Work) => Promise<void>
}

/** A handler per message that a service cares for. */
export type Handlers = { readonly [T in MessageType]?: (data: ShopMessages[T], turn: Turn) => unknown }

/** How the services of a choreographed checkout talk. */
export interface Conversation {
  /** What was said outlives those who said it, and other processes may hear it. */
  readonly lasts: boolean
  /** Does `work` and says what came of it, for one who was not spoken to. Where messages last it is all or nothing. */
  begin(work: Work): Promise<void>
  /** One service: a group of its own on the bus. */
  serve(group: string, handlers: Handlers): Promise<void>
  /** Everybody listens. */
  ready(): void
  close(): Promise<void>
}

/** A message that can't be handled now is handled later, however often it takes: no order is left half-way. */
const untilItWorks = { attempts: 1_000_000, backoff: exponential({ initialMs: 200, maxMs: 2_000, jitter: 'equal' }) }

/** Subscribes a service. */
export async function serveOn(
  bus: EventBus<ShopMessages>,
  {
    group,
    handlers,
    concurrency,
  }: { readonly group: string; readonly handlers: Handlers; readonly concurrency: number },
  onceFor: (messageId: string) => Turn['once'],
): Promise<void> {
  await bus.subscribe({
    group,
    types: Object.keys(handlers) as MessageType[],
    concurrency,
    retry: untilItWorks,
    graceMs: 1_000,
    handle: ({ id, type, data }, context: DeliveryContext) => {
      const turn = {
        get signal(): AbortSignal {
          return context.signal
        },
        once: onceFor(id),
      }
      return (handlers[type] as (data: unknown, turn: Turn) => unknown)(data, turn)
    },
  })
}

/** The key keeps the messages about one order in their order. Those about others overtake. */
export const messageOf = <T extends MessageType>(type: T, data: ShopMessages[T]): MessageOf<ShopMessages> =>
  ({ type, key: data.orderId, data }) as unknown as MessageOf<ShopMessages>

/** Talk over a bus and nothing else: what is said is said at once. For a bus in memory, whose messages end with the process. */
export class Talk implements Conversation {
  readonly lasts = false

  constructor(private readonly bus: EventBus<ShopMessages> = new MemoryEventBus<ShopMessages>()) {}

  async begin(work: Work): Promise<void> {
    await work(this.#say, undefined)
  }

  serve(group: string, handlers: Handlers): Promise<void> {
    return serveOn(this.bus, { group, handlers, concurrency: 64 }, () => (work) => this.begin(work))
  }

  ready(): void {}

  close(): Promise<void> {
    return this.bus.close()
  }

  readonly #say: Say = (type, data) => this.bus.publish(messageOf(type, data))
}
