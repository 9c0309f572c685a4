import { setTimeout as sleep } from 'node:timers/promises'
import { CircuitBreaker, MemoryCircuitBreakerStore } from 'holdfast/resilience'

// Four processes of a shop, here in one, with one circuit among them. In real life each has a store of its own on one Redis:
// const store = new RedisCircuitBreakerStore(new Redis('redis://localhost:6379'), { quorum: 2 }) // holdfast/resilience/redis
const store = new MemoryCircuitBreakerStore({ quorum: 2, syncMs: 20 })
const fleet = ['berlin', 'lisbon', 'oslo', 'rome'].map((name) => ({
  name,
  circuit: new CircuitBreaker({ name: 'payments', window: { kind: 'consecutive', failures: 3 }, openMs: 300, store }),
}))

const down = new Set<string>() // those who can't reach the provider
const asked = new Map<string, number>()
const pay = (name: string) => async (): Promise<string> => {
  asked.set(name, (asked.get(name) ?? 0) + 1)
  await sleep(2)
  if (down.has(name)) throw new Error('connection refused')
  return 'paid'
}

/** Every process sells for so long. */
async function sell(ms: number): Promise<void> {
  asked.clear()
  const end = performance.now() + ms
  const shops = fleet.map(async ({ name, circuit }) => {
    while (performance.now() < end) {
      await circuit.attempt(pay(name)).catch(() => {})
      await sleep(5)
    }
  })
  await Promise.all(shops)
  console.log(fleet.map(({ name, circuit }) => `${name} ${circuit.state} (asked ${asked.get(name) ?? 0})`).join(', '))
}

await sell(100)
console.log('--- the network of Rome breaks: it opens its own circuit and, under a quorum of two, no other')
down.add('rome')
await sell(200)
console.log('--- the provider goes down: two that have seen it are enough, all open')
for (const { name } of fleet) down.add(name)
await sell(200)
console.log('--- it comes back: one of the four makes the trial, and its success closes all')
down.clear()
const closed: string[] = []
for (const { name, circuit } of fleet)
  circuit.on('stateChange', ({ from, to }) => to === 'closed' && closed.push(`${name} (${from})`))
await sell(500)
console.log(`closed: ${closed.join(', ')}`)
