import { onTestFinished } from 'vitest'
import { openBackends, type Backends } from '../../examples/storefront/backends.js'
import { startPaymentProvider } from '../../examples/storefront/payment-provider.js'
import { openShop } from '../../examples/storefront/shop.js'

/** A shop without HTTP, gone with the test, whose backends are in memory but for what `exchange` gives; patient with its provider. */
export async function openShopOn(exchange: (memory: Backends) => Partial<Backends>) {
  const backends = await openBackends({})
  const provider = await startPaymentProvider()
  const shop = await openShop({
    backends: { ...backends, ...exchange(backends) },
    paymentUrl: provider.url,
    payment: { timeoutMs: 60_000 },
    checkout: 'orchestrated',
    load: { on: false, ordersPerSecond: 1 },
  })
  onTestFinished(async () => {
    await Promise.all([shop.close(), provider.close()])
    await backends.close()
  })
  return shop
}
