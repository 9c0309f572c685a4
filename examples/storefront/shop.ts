import { CacheManager } from 'holdfast/cache'
import { MemoryCheckpoints, Repository, subscribe, type Recorded } from 'holdfast/event-sourcing'
import { perSecond, RateLimiter } from 'holdfast/rate-limit'
import type { Backends } from './backends.js'
import { Adoption } from './adoption.js'
import type { CheckoutKind } from './checkout.js'
import { ChoreographedCheckout } from './checkout-choreography.js'
import { OrchestratedCheckout } from './checkout-saga.js'
import { priceOf } from './catalogue.js'
import { createCommands, type Done, type ShopCommands } from './commands.js'
import { EventFeed } from './event-feed.js'
import { Live } from './live.js'
import { Metrics } from './metrics.js'
import { Order, type OrderEvent } from './order.js'
import { PaymentClient, type PaymentClientOptions } from './payment-client.js'
import type { Switches } from './payloads.js'
import { createQueries, type OrderCache } from './queries.js'
import { orderIdOf } from './read-model.js'
import type { Conversation } from './shop-messages.js'
import { Snapshots } from './snapshot.js'

/** What a shop is made from. */
export interface ShopParts {
  readonly backends: Backends
  /** Where the payment provider is. */
  readonly paymentUrl: string
  readonly payment?: PaymentClientOptions | undefined
  readonly checkout: CheckoutKind
  /** How the services of a choreographed checkout talk; closed with the shop. @defaultValue that of `backends` */
  readonly talk?: Conversation | undefined
  /** The built-in load, as far as the switches of the page reach. */
  readonly load: { on: boolean; ordersPerSecond: number }
}

export type Shop = Awaited<ReturnType<typeof openShop>>

/** The one place where everything is made and put together, from the bottom up. */
export async function openShop({ backends, paymentUrl, payment, checkout, load, talk = backends.talk }: ShopParts) {
  const { events: store, readModel: view, inventory, carrier, notes, oneDatabase } = backends
  const metrics = new Metrics()

  // Write side: commands decide on orders, orders are rebuilt from their events.
  const orders = new Repository<Order, never, OrderEvent>(store, Order, {
    category: 'order',
    cache: { max: 1_000 }, // a checkout comes back to its order again and again
  })
  const commands = createCommands(orders)

  // Services, and the two ways to let them work together.
  const payments = new PaymentClient(paymentUrl, payment)
  const services = { commands, payments, inventory, carrier, notes, oneDatabase }
  const checkouts = {
    orchestrated: new OrchestratedCheckout(services, { store: backends.sagas }),
    choreographed: await ChoreographedCheckout.open(services, talk),
  }
  let current = checkout

  // Read side: a projection of the log in a database of its own, a cache in two levels in front of it.
  const projection = view.run()
  const { head } = await store.readPage({ limit: 1 })
  await projection.reached(head, 60_000)
  // A first level this small leaves something to do for the second.
  const cache = new CacheManager<OrderCache>({ l1: { maxEntries: 25 }, ...backends.cache })
  // Every process follows the log for itself, whichever of them projects it.
  const feed = new EventFeed()
  const follow = async (event: Recorded<OrderEvent>): Promise<void> => {
    feed.add(event)
    if (projection.position < event.position) await projection.reached(event.position)
    await cache.delete(orderIdOf(event)) // before the position moves on: who waits for it never gets the old entry
    if (event.position <= head) return
    checkouts.choreographed.follow(event)
    if (event.type === 'OrderShipped') metrics.ended('completed')
    if (event.type === 'OrderCancelled') metrics.ended('cancelled')
  }
  const from = Math.max(0, head - feed.kept) // the page begins with a few that were there before
  const following = subscribe(store, new MemoryCheckpoints(), 'follow', follow, { pollMs: 100, from })
  const queries = createQueries({ view, cache, store, orders, payments }, following)

  /** What a process left half-way the saga store and the outbox know. This is for what it took in and did not even begin with. */
  const adoption = oneDatabase ? new Adoption(view, (basket) => checkouts[current].start(basket)) : undefined

  const limiter = new RateLimiter({
    limits: perSecond(10, { burst: 20, name: 'per-user' }),
    store: backends.buckets,
    prefix: 'storefront:',
    onStoreFailure: 'allow', // a shop without a limiter for a while is better than a closed one
  })

  const switches = {
    read: (): Switches => ({ ...state, checkout: current, load: load.on, ordersPerSecond: load.ordersPerSecond }),

    async change(wanted: Partial<Switches>): Promise<Switches> {
      if (wanted.payment) await payments.misbehave(wanted.payment)
      if (wanted.stock) inventory.empty = wanted.stock === 'out'
      if (wanted.broken) {
        inventory.locked = wanted.broken === 'undo'
        carrier.broken = wanted.broken === 'pickup'
      }
      state.payment = wanted.payment ?? state.payment
      state.stock = wanted.stock ?? state.stock
      state.broken = wanted.broken ?? state.broken
      current = wanted.checkout ?? current
      load.on = wanted.load ?? load.on
      load.ordersPerSecond = wanted.ordersPerSecond ?? load.ordersPerSecond
      return switches.read()
    },
  }
  const state: Pick<Switches, 'payment' | 'stock' | 'broken'> = { payment: 'ok', stock: 'ok', broken: 'nothing' }
  const snapshots = new Snapshots({
    view,
    cache,
    limiter,
    payments,
    checkouts,
    metrics,
    switches,
    about: backends.about,
  })
  const live = new Live(() => snapshots.make())

  return {
    queries,
    limiter,
    metrics,
    live,
    feed,
    payments,
    inventory,
    carrier,
    checkouts,
    switches,
    about: async () => ({ ...backends.about, checkout: current, orders: await view.counts() }),

    /** Places an order and sends it through the checkout of the moment. */
    async place(input: ShopCommands['PlaceOrder']['in']): Promise<Done> {
      const done = await commands.send('PlaceOrder', input, { idempotencyKey: `place:${input.orderId}` })
      const { orderId, items, shipTo } = input
      // A repeat must not start what has started, and may even have ended, by now: that could undo a shipped order.
      const { state: order } = await orders.load(orderId)
      if (order.status !== 'placed' || order.checkout) return done
      const begin = checkouts[current].start({ orderId, items, shipTo, cents: priceOf(items) })
      await (adoption ? begin.catch(() => {}) : begin) // the order is taken: what could not begin with it now will do so later
      return done
    },

    /** Asks for an order to be undone: the checkout that has it turns back. */
    async cancel(input: ShopCommands['RequestCancel']['in']): Promise<Done> {
      const done = await commands.send('RequestCancel', input)
      const { orderId } = input
      const { checkout: kind } = (await orders.load(orderId)).state
      if (kind) await checkouts[kind as CheckoutKind].cancel(orderId)
      // Nothing has begun, and nothing will: an order that is asked to be cancelled is accepted no more.
      else await commands.send('CancelOrder', { orderId, reason: 'customer', detail: '' })
      return done
    },

    /** Ends the streams of all who watch. */
    hangUp(): void {
      live.close()
      feed.close()
    },

    async close(): Promise<void> {
      live.close()
      feed.close()
      await adoption?.close()
      await Promise.all([checkouts.orchestrated.close(), checkouts.choreographed.close()])
      await Promise.all([following.stop(), projection.stop()])
      await cache.close()
    },
  }
}
