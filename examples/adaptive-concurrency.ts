import { setTimeout as sleep } from 'node:timers/promises'
import { adaptiveConcurrency, compose, timeout } from 'holdfast/resilience'

// A server with a number of workers, each busy for 5 ms with a call; the other calls wait. Nobody has told us the number.
let workers = 8
let busy = 0
const line: (() => void)[] = []
async function handle(): Promise<void> {
  if (busy >= workers) await new Promise<void>((resolve) => line.push(resolve))
  busy++
  await sleep(5)
  busy--
  if (busy < workers) line.shift()?.()
}

const limiter = adaptiveConcurrency({ algorithm: 'gradient', initial: 4, max: 200 })
const policy = compose(limiter, timeout(500)) // a TimeoutError says that the server is overloaded

/** A hundred callers who ask again and again, for a second. */
async function load(what: string): Promise<void> {
  const end = performance.now() + 1_000
  const took: number[] = []
  let refused = 0
  const callers = Array.from({ length: 100 }, async () => {
    while (performance.now() < end) {
      const start = performance.now()
      const { ok } = await policy.attempt(handle)
      if (ok) took.push(performance.now() - start)
      else {
        refused++
        await sleep(5) // a refusal is quick: the caller comes back later
      }
    }
  })
  await Promise.all(callers)
  const median = took.toSorted((a, b) => a - b)[took.length >> 1]!.toFixed(0)
  console.log(`${what}: limit ${limiter.limit}, ${took.length} done in ${median} ms each, ${refused} refused`)
}

for (let second = 1; second <= 2; second++) await load('eight workers ')
workers = 2
for (let second = 1; second <= 2; second++) await load('two workers   ')
