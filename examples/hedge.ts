import { setTimeout as sleep } from 'node:timers/promises'
import { hedge, RetryBudget } from 'holdfast/resilience'
import { seededRandom } from 'holdfast/testing'

// A replica answers in 5 ms, but one call in twenty is stuck for 200 ms behind something else.
const random = seededRandom(7)
let asked = 0
let stopped = 0
async function read(signal: AbortSignal): Promise<void> {
  asked++
  signal.addEventListener('abort', () => stopped++)
  await sleep(random() < 0.05 ? 200 : 5, undefined, { signal })
}

async function measure(what: string, call: () => Promise<void>): Promise<void> {
  asked = stopped = 0
  const took: number[] = []
  for (let round = 0; round < 8; round++) {
    const calls = Array.from({ length: 50 }, async () => {
      const start = performance.now()
      await call()
      took.push(performance.now() - start)
    })
    await Promise.all(calls)
  }
  const at = (q: number): string => took.toSorted((a, b) => a - b)[Math.floor(q * took.length)]!.toFixed(0)
  console.log(`${what}: p50 ${at(0.5)} ms, p99 ${at(0.99)} ms; ${asked} asked, ${stopped} stopped, for 400 calls`)
}

await measure('plain         ', () => read(new AbortController().signal))

// A second one is asked when the first takes 30 ms; whichever is first counts, and the other is stopped.
const hedged = hedge({ delayMs: 30 })
await measure('hedged        ', () => hedged.execute(({ signal }) => read(signal)))

// The budget bounds what a slow service is sent on top: here one extra call for a hundred first ones.
const budget = new RetryBudget({ ratio: 0.01, minPerSecond: 0 })
const bounded = hedge({ delayMs: 30, budget })
await measure('with a budget ', () => bounded.execute(({ signal }) => read(signal)))

// All attempts have failed: one error, with all of theirs.
await hedged
  .execute(({ attempt }) => Promise.reject(new Error(`replica ${attempt} is down`)))
  .catch((error: AggregateError) => console.log(`${error.message}:`, error.errors.map(String).join(', ')))
