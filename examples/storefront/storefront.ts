import { openBackends, type About } from './backends.js'
import type { EventBus } from 'holdfast/messaging'
import type { CheckoutKind } from './checkout.js'
import { Talk, type ShopMessages } from './shop-messages.js'
import { createApp } from './http.js'
import { Load } from './load.js'
import type { PaymentBooks } from './payment-books.js'
import type { PaymentClientOptions } from './payment-client.js'
import { startPaymentProvider } from './payment-provider.js'
import { listen } from './server.js'
import { openShop, type Shop } from './shop.js'

/** How a storefront is started. */
export interface StartOptions {
  readonly host: string
  readonly port: number
  readonly redis?: string | undefined
  readonly postgres?: string | undefined
  readonly readPostgres?: string | undefined
  readonly rabbitmq?: string | undefined
  /** Milliseconds after which a message that no service has handled is said again. @defaultValue 5_000 */
  readonly patienceMs?: number | undefined
  /** A payment provider that runs elsewhere. @defaultValue one is started */
  readonly paymentUrl?: string | undefined
  /** What a choreographed checkout talks over; closed with the shop. @defaultValue one in memory */
  readonly bus?: EventBus<ShopMessages> | undefined
  readonly checkout: CheckoutKind
  readonly load: boolean
  readonly ordersPerSecond: number
  /** How patient the shop is with the payment provider. */
  readonly payment?: PaymentClientOptions | undefined
}

/** A storefront that is open. */
export interface Storefront {
  readonly url: string
  readonly paymentUrl: string
  readonly about: About
  readonly shop: Shop
  /** Ends the load, takes no new request, lets what is under way come to its end, gives everything back. */
  close(): Promise<void>
}

/**
 * The payment provider, the shop, its server and its customers. @param tell says what the user should know
 * @throws BackendError when a server that was asked for can't be used; what the system says when the port can't be had
 */
export async function startStorefront(options: StartOptions, tell: (line: string) => void): Promise<Storefront> {
  const { host, port, checkout, load: on, ordersPerSecond, payment, bus } = options
  const opened: (() => Promise<unknown>)[] = []
  const close = async (): Promise<void> => {
    for (const one of opened.splice(0).toReversed()) await one()
  }
  const openProvider = async (books: PaymentBooks): Promise<string> => {
    const provider = await startPaymentProvider({ books })
    opened.push(() => provider.close())
    return provider.url
  }
  try {
    const backends = await openBackends(options)
    opened.push(() => backends.close())
    const paymentUrl = options.paymentUrl ?? (await openProvider(backends.books))
    const load = new Load({ on, ordersPerSecond })
    const shop = await openShop({ backends, paymentUrl, payment, checkout, load, talk: bus && new Talk(bus) })
    opened.push(() => shop.close())
    const server = await listen(createApp(shop).fetch, { host, port }, (wanted, got) =>
      tell(`storefront: port ${wanted} is taken, so it is ${got}`),
    )
    opened.push(async () => {
      shop.hangUp() // or the server would wait for the pages that watch
      await server.close()
    })
    load.start(server.url)
    opened.push(() => load.close())
    return { url: server.url, paymentUrl, about: backends.about, shop, close }
  } catch (error) {
    await close()
    throw error
  }
}
