import { ManualClock } from 'holdfast/testing'
import { startStorefront, type StartOptions, type Storefront } from '../../examples/storefront/storefront.js'
import type { Ledger } from '../../examples/storefront/payment-provider.js'
import { until } from '../support/until.js'

/** Far more than a test lets pass on its way to it. */
const PATIENCE_MS = 1e9
const OPEN_MS = 1

/**
 * A storefront on a free port, and a client for it. How long the shop waits for its payment provider, and how long the circuit stays open,
 * is up to the test, unless `payment` is given: however slow the machine is, nothing is given up by itself.
 */
export async function openStorefront(options: Partial<StartOptions> = {}): Promise<Client> {
  const clock = new ManualClock()
  const storefront = await startStorefront(
    {
      host: '127.0.0.1',
      port: 0,
      checkout: 'orchestrated',
      load: false,
      ordersPerSecond: 5,
      payment: { timeoutMs: PATIENCE_MS, openMs: OPEN_MS, clock },
      ...options,
    },
    () => {},
  )
  return new Client(storefront, clock)
}

export interface Answer {
  readonly status: number
  readonly headers: Headers
  // oxlint-disable-next-line typescript/no-explicit-any -- whatever came: the test says what it should be
  readonly body: any
}

/** Speaks to a storefront as a customer does: over HTTP. Each order comes from a customer of its own. */
export class Client {
  #users = 0
  #givenUp = 0

  constructor(
    readonly storefront: Storefront,
    private readonly clock: ManualClock,
  ) {}

  async send(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await fetch(new URL(path, this.storefront.url), {
      method,
      headers: {
        'x-user-id': `user-${++this.#users}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return {
      status: response.status,
      headers: response.headers,
      body: /json/.test(response.headers.get('content-type') ?? '') ? JSON.parse(text) : text,
    }
  }

  get = (path: string): Promise<Answer> => this.send('GET', path)

  switch = (wanted: object): Promise<Answer> => this.send('PATCH', '/switches', wanted)

  /** @returns the order's id */
  async place(order: object = {}): Promise<string> {
    const { body } = await this.send('POST', '/orders', {
      items: [{ sku: 'rope', quantity: 1 }],
      shipTo: 'Arco',
      ...order,
    })
    return body.id
  }

  /** The order when it has come to its end. */
  async ended(id: string): Promise<any> {
    return until(async () => {
      await this.#pass()
      const { body } = await this.get(`/orders/${id}`)
      return ['shipped', 'cancelled'].includes(body.status) ? body : undefined // else it is placed, or not known yet
    })
  }

  /** What the payment provider's books say. */
  async ledger(): Promise<Ledger> {
    return (await fetch(`${this.storefront.paymentUrl}/ledger`)).json() as never
  }

  /** Waits until no checkout is under way. */
  async settled(): Promise<void> {
    const { checkouts } = this.storefront.shop
    await until(async () => {
      await this.#pass()
      const all = [checkouts.orchestrated, checkouts.choreographed].map((checkout) => checkout.view(1).counts)
      return all.every(({ running, compensating }) => running + compensating === 0)
    })
  }
  /** The shop loses its patience with a request that hangs: the next one, if it has done so with all before. */
  async giveUp(): Promise<void> {
    this.#givenUp = await until(async () => {
      const { hung } = await this.ledger()
      return hung > this.#givenUp && hung
    })
    await this.clock.advance(PATIENCE_MS)
  }

  /** Once the provider is well, time passes: what hangs is given up, and an open circuit tries again. */
  async #pass(): Promise<void> {
    const { behaviour, hung } = await this.ledger()
    if (behaviour !== 'ok') return
    await this.clock.advance(hung > this.#givenUp ? PATIENCE_MS : OPEN_MS)
    this.#givenUp = hung
  }
}
