import { setTimeout as sleep } from 'node:timers/promises'
import { CacheManager, cached } from 'holdfast/cache'

await using cache = new CacheManager({ defaults: { ttlMs: 60_000 } })

class Exchange {
  queries = 0

  @cached({ cache, name: 'Exchange.rate', refreshAhead: 0.8 })
  async rate(from: string, to: string): Promise<number> {
    this.queries++
    await sleep(50) // a slow bank
    return from === to ? 1 : 1.1
  }
}

const exchange = new Exchange()
const rates = await Promise.all(Array.from({ length: 100 }, () => exchange.rate('EUR', 'USD')))
console.log(`100 calls: ${new Set(rates).size} rate, ${exchange.queries} query`)
await exchange.rate('EUR', 'EUR')
console.log(`other arguments are another entry: ${exchange.queries} queries`)
await cache.clear()
await exchange.rate('EUR', 'USD')
console.log(`cleared: ${exchange.queries} queries`)
