import { isHoldfastError, isRejectedError } from 'holdfast'
import { exponential } from 'holdfast/resilience'
import { MemorySagaStore, saga, SagaOrchestrator, type SagaEvents } from 'holdfast/saga'
import { reasonOf, type Basket, type Checkout, type CheckoutsView, type Services, type StepState } from './checkout.js'
import { CheckoutTrails } from './checkout-trail.js'
import { OutOfStock } from './inventory.js'
import { OrderRefusal } from './order.js'
import { PaymentDeclined, PaymentUnavailable } from './payment-client.js'

/** Undoing goes on until it is done: no order is left half-way because the provider was away for an hour. */
const untilItWorks = { attempts: 1_000_000, backoff: exponential({ initialMs: 200, maxMs: 2_000, jitter: 'equal' }) }

/**
 * Checkout with a conductor: one definition says what is done, in which order, and how each step is undone. Stock is set
 * aside before money is taken, because putting it back costs nothing and a refund costs fees and patience: what is cheap to
 * undo comes first. Handing over the parcel is the pivot: before it everything can be undone, after it nothing is.
 */
function checkoutSaga(
  { commands, payments, inventory, carrier }: Services,
  failureOf: (id: string) => Promise<unknown>,
) {
  return saga<Basket>('checkout', { version: 1 })
    .step('order', {
      run: ({ input: { orderId } }) => commands.send('AcceptOrder', { orderId, checkout: 'orchestrated' }),
      uncertain: () => true, // whatever came: an order that can't begin must still end
      // Undone last: who reads "cancelled" can rely on everything else being undone.
      compensate: async ({ input: { orderId }, sagaId }) =>
        commands.send('CancelOrder', { orderId, ...reasonOf(await failureOf(sagaId)) }),
      compensateRetry: untilItWorks,
    })
    .step('stock', {
      async run({ input: { orderId, items } }) {
        inventory.reserve(orderId, items)
        await commands.send('RecordStock', { orderId })
      },
      uncertain: (error) => !(error instanceof OutOfStock), // set aside, but the events could not be written
      async compensate({ input: { orderId } }) {
        inventory.release(orderId)
        await commands.send('RecordRelease', { orderId })
      },
      compensateRetry: untilItWorks,
    })
    .step('payment', {
      async run({ input: { orderId, cents }, signal }) {
        await payments.charge(orderId, cents, signal)
        await commands.send('RecordPayment', { orderId })
      },
      // Only a clear no means that no money moved. Anything else is refunded: the refund names the charge by its key.
      uncertain: (error) => !isNoCharge(error),
      async compensate({ input: { orderId }, signal }) {
        await payments.refund(orderId, signal)
        await commands.send('RecordRefund', { orderId })
      },
      compensateRetry: { ...untilItWorks, when: (error) => !(error instanceof PaymentDeclined) },
    })
    .step('parcel', {
      run: ({ input: { orderId, shipTo } }) => carrier.book(orderId, shipTo),
      compensate: ({ input: { orderId } }) => carrier.withdraw(orderId),
    })
    .pivot('shipping', {
      run: ({ input: { orderId }, results }) => commands.send('ShipOrder', { orderId, tracking: results.parcel }),
      // Only the order itself can say no. While its events can't be written, nobody knows whether it is shipped.
      retry: { ...untilItWorks, when: (error) => !(error instanceof OrderRefusal) },
    })
    .build()
}

const isNoCharge = (error: unknown): boolean =>
  error instanceof PaymentDeclined || error instanceof PaymentUnavailable || isRejectedError(error)

/** How the page calls what the orchestrator says of a step. */
const states: Readonly<Record<SagaEvents['node']['status'], StepState>> = {
  running: 'running',
  waiting: 'running',
  done: 'done',
  skipped: 'done',
  failed: 'failed',
  unknown: 'unknown',
  compensating: 'done',
  compensated: 'undone',
  stuck: 'done',
}

/** The orchestrated checkout: a saga per order, under the order's id. */
export class OrchestratedCheckout implements Checkout {
  readonly kind = 'orchestrated'
  readonly #services: Services
  readonly #definition: ReturnType<typeof checkoutSaga>
  readonly #orchestrator: SagaOrchestrator
  readonly #trails = new CheckoutTrails(this.kind, ['order', 'stock', 'payment', 'parcel', 'shipping'])

  constructor(services: Services) {
    this.#services = services
    this.#definition = checkoutSaga(services, async (id) => (await this.#orchestrator.get(id))?.failure?.error)
    this.#orchestrator = new SagaOrchestrator({
      store: new MemorySagaStore({ retainMs: 60_000 }),
      sagas: [this.#definition],
      concurrency: 256,
      graceMs: 1_000,
    })
    this.#orchestrator.on('node', ({ id, path, status }) => {
      if (status === 'failed' || status === 'unknown' || status === 'compensating') this.#trails.turnBack(id)
      this.#trails.mark(id, path, states[status])
    })
    this.#orchestrator.start()
  }

  async start(basket: Basket): Promise<void> {
    this.#trails.begin(basket.orderId)
    await this.#orchestrator.run(this.#definition, basket, { id: basket.orderId })
  }

  async cancel(orderId: string): Promise<void> {
    try {
      await this.#orchestrator.cancel(orderId, 'the customer has asked for it')
    } catch (error) {
      if (!isHoldfastError(error, 'NOT_FOUND')) throw error
      await this.#services.commands.send('CancelOrder', { orderId, reason: 'customer', detail: '' }) // not begun yet
    }
  }

  view(limit: number): CheckoutsView {
    return this.#trails.view(limit)
  }

  close(): Promise<void> {
    return this.#orchestrator.close()
  }
}
