import { CircuitBreaker, compose, constant, fallback, retry, RetryBudget } from 'holdfast/resilience'

// Recommendations that a page can do without: the last ones known are better than an error.
let lastKnown: readonly string[] = ['bestsellers']
let up = true
let asked = 0
const load = async (): Promise<readonly string[]> => {
  asked++
  if (!up) throw new Error('connection refused')
  return ['rope', 'helmet']
}

// One budget for all who call this service: extra tries are a tenth of the first ones, and ten more in ten seconds.
const budget = new RetryBudget({ ratio: 0.1, minPerSecond: 1, windowMs: 10_000 })
const circuit = new CircuitBreaker({
  window: { kind: 'count', size: 100, minimumCalls: 50, failureRatio: 0.5 },
  openMs: 10_000,
})
const reasons = new Map<string, number>()
const policy = compose(
  fallback((error) => {
    reasons.set(String(error), (reasons.get(String(error)) ?? 0) + 1)
    return lastKnown
  }), // outermost: sees what the others give up on
  retry({ attempts: 3, backoff: constant(1), budget }),
  circuit,
)

async function visit(times: number): Promise<void> {
  asked = 0
  reasons.clear()
  for (let i = 0; i < times; i++) {
    lastKnown = await policy.execute(load)
  }
  console.log(`${times} visits saw [${lastKnown.join(', ')}]; the service was asked ${asked} times`)
  for (const [reason, count] of reasons) console.log(`  ${count} × the last known, because of ${reason}`)
}

await visit(20)
console.log('--- the service goes down: the budget bounds the extra tries until the circuit opens')
up = false
console.log(`    ${budget.available.toFixed(0)} extra tries are left`)
await visit(200)
console.log(`    ${budget.available.toFixed(0)} extra tries are left, the circuit is ${circuit.state}`)
