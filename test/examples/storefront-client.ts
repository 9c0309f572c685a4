import { startStorefront, type StartOptions, type Storefront } from '../../examples/storefront/storefront.js'

/** A storefront on a free port, impatient with its payment provider so that tests are quick, and a client for it. */
export async function openStorefront(options: Partial<StartOptions> = {}): Promise<Client> {
  const storefront = await startStorefront(
    {
      host: '127.0.0.1',
      port: 0,
      checkout: 'orchestrated',
      load: false,
      ordersPerSecond: 5,
      payment: { timeoutMs: 100, openMs: 150 },
      ...options,
    },
    () => {},
  )
  return new Client(storefront)
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

  constructor(readonly storefront: Storefront) {}

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
      const { body } = await this.get(`/orders/${id}`)
      return ['shipped', 'cancelled'].includes(body.status) ? body : undefined // else it is placed, or not known yet
    })
  }

  /** What the payment provider's books say. */
  async ledger(): Promise<{ charged: number; refunded: number }> {
    return (await fetch(`${this.storefront.paymentUrl}/ledger`)).json() as never
  }

  /** Waits until no checkout is under way. */
  async settled(): Promise<void> {
    const { checkouts } = this.storefront.shop
    await until(() => {
      const all = [checkouts.orchestrated, checkouts.choreographed].map((checkout) => checkout.view(1).counts)
      return all.every(({ running, compensating }) => running + compensating === 0) || undefined
    })
  }
}

/** Asks again until there is an answer. */
export async function until<T>(look: () => T | undefined | Promise<T | undefined>, timeoutMs = 15_000): Promise<T> {
  for (const end = Date.now() + timeoutMs; ;) {
    // oxlint-disable-next-line no-await-in-loop -- one look after the other
    const seen = await look()
    if (seen !== undefined) return seen
    if (Date.now() > end) throw new Error(`nothing came within ${timeoutMs} ms`)
    // oxlint-disable-next-line no-await-in-loop
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
