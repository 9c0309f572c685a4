import { setTimeout as sleep } from 'node:timers/promises'
import { CacheManager, MemoryCacheStore } from 'holdfast/cache'

interface Price {
  readonly cents: number
}

// Two processes of a shop, here in one: each with a first level of its own, both on the same second level.
const shared = new MemoryCacheStore()
await using berlin = new CacheManager<Record<string, Price>>({ l2: shared, maxStalenessMs: 300 })
await using lisbon = new CacheManager<Record<string, Price>>({ l2: shared, maxStalenessMs: 300 })

let cents = 100
let queries = 0
const load = async (): Promise<Price> => {
  queries++
  const read = { cents }
  await sleep(50) // a slow database
  return read
}

const callers = [berlin, lisbon].flatMap((cache) => Array.from({ length: 500 }, () => cache.getOrSet('tea', load)))
await Promise.all(callers)
console.log(`1000 callers in two processes: ${queries} query`)

const slow = berlin.getOrSet('coffee', load) // reads the price of now …
await sleep(10)
cents = 200
await berlin.delete('tea', 'coffee') // … which is changed while it is on its way
console.log(`a load that was overtaken still answers its caller: ${(await slow).cents}`)
console.log(`but it is not stored; the next one loads: ${(await berlin.getOrSet('coffee', load)).cents}`)

console.log(`Lisbon may not know of the new price of tea yet: ${(await lisbon.getOrSet('tea', load)).cents}`)
await sleep(300)
console.log(`after maxStalenessMs it does, without any message: ${(await lisbon.getOrSet('tea', load)).cents}`)

const failing = (): never => {
  throw new Error('database is down')
}
await berlin.getOrSet('cake', load, { ttlMs: 100, graceMs: 60_000 })
await sleep(150)
console.log(`an old price beats an error: ${(await berlin.getOrSet('cake', failing)).cents}`)
console.log('counted:', JSON.stringify(berlin.stats()))
