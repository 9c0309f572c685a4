import { isHoldfastError, isRejectedError } from 'holdfast'
import { exponential } from 'holdfast/resilience'
import {
  MemorySagaStore,
  saga,
  SagaOrchestrator,
  type SagaEvents,
  type SagaStore,
  type SagaSummary,
  type SagaView,
} from 'holdfast/saga'
import { reasonOf, type Basket, type Checkout, type CheckoutsView, type Services, type StepState } from './checkout.js'
import { CheckoutTrails } from './checkout-trail.js'
import { OutOfStock, StockRoomLocked } from './inventory.js'
import { OrderRefusal } from './order.js'
import { PaymentDeclined, PaymentUnavailable } from './payment-client.js'

/** Undoing goes on until it is done: no order is left half-way because the provider was away for an hour. */
const untilItWorks = { attempts: 1_000_000, backoff: exponential({ initialMs: 200, maxMs: 2_000, jitter: 'equal' }) }

/**
 * Checkout with a conductor: one definition says what is done, in which order, and how each step is undone. Stock is set
 * aside before money is taken, because putting it back costs nothing and a refund costs fees and patience: what is cheap to
 * undo comes first. The order that says "shipped" is the pivot: before it everything can be undone, after it nothing is.
 */
function checkoutSaga(
  { commands, payments, inventory, carrier, oneDatabase = false }: Services,
  failureOf: (id: string) => Promise<unknown>,
) {
  return (
    saga<Basket>('checkout', { version: 1 })
      .step('order', {
        run: ({ input: { orderId } }) => commands.send('AcceptOrder', { orderId, checkout: 'orchestrated' }),
        uncertain: () => true, // whatever came: an order that can't begin must still end
        // Undone last: who reads "cancelled" can rely on everything else being undone.
        compensate: async ({ input: { orderId }, sagaId }) =>
          commands.send('CancelOrder', { orderId, checkout: 'orchestrated', ...reasonOf(await failureOf(sagaId)) }),
        compensateRetry: untilItWorks,
      })
      // Shelves, the event about them and the progress of the saga: all of it or nothing, where one database has all three.
      .transaction('stock', {
        async run({ input: { orderId, items }, tx }) {
          if (oneDatabase) {
            await commands.send('RecordStock', { orderId, tx })
            await inventory.reserve(orderId, items, tx) // last, because all who order the same wait at this shelf
            return
          }
          await inventory.reserve(orderId, items)
          try {
            await commands.send('RecordStock', { orderId })
          } catch (error) {
            await inventory.release(orderId) // in memory nothing is rolled back
            throw error
          }
        },
        retry: { attempts: 5, when: (error) => oneDatabase && !(error instanceof OutOfStock) },
        timeoutMs: 5_000,
        async compensate({ input: { orderId }, tx }) {
          if (oneDatabase) await commands.send('RecordRelease', { orderId, tx })
          await inventory.release(orderId, oneDatabase ? tx : undefined)
          if (!oneDatabase) await commands.send('RecordRelease', { orderId })
        },
        compensateTimeoutMs: 5_000,
        // A locked door does not open by knocking: somebody has to decide.
        compensateRetry: { ...untilItWorks, when: (error) => !(error instanceof StockRoomLocked) },
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
      .step('pickup', {
        run: () => carrier.pickUp(),
        retry: { attempts: 3, backoff: exponential({ initialMs: 100 }) },
      })
      .build()
  )
}

const isNoCharge = (error: unknown): boolean =>
  error instanceof PaymentDeclined || error instanceof PaymentUnavailable || isRejectedError(error)

/** How the page calls what the orchestrator says of a step. */
const states: Readonly<Record<SagaView['nodes'][number]['status'], StepState>> = {
  pending: 'waiting',
  running: 'running',
  waiting: 'running',
  done: 'done',
  skipped: 'done',
  failed: 'failed',
  unknown: 'unknown',
  compensating: 'done',
  compensated: 'undone',
  stuck: 'stuck',
}

/** What an operator can do about a parked checkout. */
export interface OperatorOrder {
  readonly verb: 'retry' | 'skip' | 'resolve' | 'redrive'
  /** The step it is about: of `redrive` the one to begin with, of `retry` none. */
  readonly path: string
  readonly who: string
  readonly why: string
}

/** After so long others take over the sagas of a process that vanished. In memory there are no others. */
const LEASE_MS = 3_000
/** As many as a database serves well: what comes faster waits in the store, instead of everything for everything. */
const CONCURRENCY = 16
/** How long a checkout may be silent before it is asked how it stands: another process may have it. */
const SILENT_MS = 1_500
const LOOK_MS = 500
const LOOKS = 5

/** Where the sagas are. */
export interface OrchestratedOptions {
  /** @defaultValue this process's memory */
  readonly store?: SagaStore | undefined
}

/** The orchestrated checkout: a saga per order, under the order's id. */
export class OrchestratedCheckout implements Checkout {
  readonly kind = 'orchestrated'
  readonly #services: Services
  readonly #definition: ReturnType<typeof checkoutSaga>
  readonly #orchestrator: SagaOrchestrator
  readonly #trails = new CheckoutTrails(this.kind, ['order', 'stock', 'payment', 'parcel', 'shipping', 'pickup'])
  readonly #looking: NodeJS.Timeout

  constructor(services: Services, { store }: OrchestratedOptions = {}) {
    this.#services = services
    this.#definition = checkoutSaga(services, async (id) => (await this.#orchestrator.get(id))?.failure?.error)
    this.#orchestrator = new SagaOrchestrator({
      store: store ?? new MemorySagaStore({ retainMs: 60_000 }),
      sagas: [this.#definition],
      leaseMs: store ? LEASE_MS : undefined,
      concurrency: store ? CONCURRENCY : 256,
      graceMs: 1_000,
    })
    this.#orchestrator.on('node', (event) => this.#moved(event))
    this.#orchestrator.on('settled', ({ id, status }) => {
      if (status === 'parked') this.#trails.park(id)
    })
    this.#looking = setInterval(() => {
      for (const id of this.#trails.silent(SILENT_MS, LOOKS)) void this.#look(id)
    }, LOOK_MS).unref()
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

  /** One saga as it stands, wherever it runs. */
  saga(id: string): Promise<SagaView | undefined> {
    return this.#orchestrator.get(id)
  }

  /** Sagas that wait for an operator. */
  parked(limit: number): Promise<readonly SagaSummary[]> {
    return this.#orchestrator.list({ status: 'parked', limit })
  }

  /** Carries out what an operator has decided. @throws NotFoundError; SagaConflictError when it does not fit: nothing was done */
  async operate(id: string, { verb, path, ...by }: OperatorOrder): Promise<void> {
    if (verb === 'retry') await this.#orchestrator.retry(id, by)
    else if (verb === 'skip') await this.#orchestrator.skip(id, path, by)
    else if (verb === 'resolve') await this.#orchestrator.resolve(id, path, null, by)
    else await this.#orchestrator.redrive(id, { from: path, by })
  }

  close(): Promise<void> {
    clearInterval(this.#looking)
    return this.#orchestrator.close()
  }

  #moved({ id, path, status }: SagaEvents['node']): void {
    if (this.#trails.begin(id)) void this.#look(id) // somebody else had it
    const back = status === 'compensating' || status === 'compensated' || status === 'stuck'
    // what fails after the pivot turns nothing back
    if (back || (path !== 'pickup' && (status === 'failed' || status === 'unknown'))) this.#trails.turnBack(id)
    this.#trails.mark(id, path, states[status])
  }

  /** Asks how a saga stands: it may have been redriven, or have gone on elsewhere. */
  async #look(id: string): Promise<void> {
    const view = await this.#orchestrator.get(id).catch(() => undefined) // the page shows what was known last
    if (!view) return
    const steps = view.nodes.map(({ path, status }) => [path, states[status]] as const)
    this.#trails.set(id, { steps, turnedBack: view.failure !== undefined, parked: view.status === 'parked' })
  }
}
