import { getEventListeners } from 'node:events'
import {
  adaptiveConcurrency,
  bulkhead,
  CircuitBreaker,
  compose,
  fallback,
  hedge,
  MemoryCircuitBreakerStore,
  retry,
  RetryBudget,
  timeout,
  type Operation,
} from '../../src/resilience/index.js'
import { ManualClock } from '../../src/testing/index.js'

// A process of its own, so that its heap, timers and listeners are those of these calls alone. Prints what is left, as JSON.

const [what = '', count = '0'] = process.argv.slice(2)
const CALLS = Number(count)
const AT_ONCE = 1_000
const left = (): { heap: number; timers: number } => {
  globalThis.gc?.()
  return {
    heap: process.memoryUsage().heapUsed,
    timers: process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length,
  }
}

const boom = new Error('boom')
const succeeds: Operation<number> = () => 1
const succeedsLater: Operation<number> = async () => 1
const fails: Operation<number> = () => Promise.reject(boom)
const reads: Operation<number> = ({ signal }) => (signal.aborted ? 0 : 1)
const hangs: Operation<number> = () => new Promise(() => {})
const stops: Operation<number> = ({ signal }) =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

/** So many calls under one signal, and under signals of their own that abort: all ways out of a call, in turn. */
async function calls(): Promise<object> {
  const clock = new ManualClock()
  const budget = new RetryBudget({ clock })
  const circuit = new CircuitBreaker({
    window: { kind: 'time', durationMs: 1_000, minimumCalls: 1e9, failureRatio: 1 },
    clock,
  })
  const policy = compose(
    fallback(() => 0),
    retry({ backoff: () => 1, budget, clock }),
    circuit,
    bulkhead({ maxConcurrent: 300, maxQueued: 300, queueTimeoutMs: 5, clock }),
    adaptiveConcurrency({ initial: 200, max: 200, maxQueued: 100, clock }),
    hedge({ delayMs: 20, budget, clock }),
    timeout({ ms: 50, clock }),
  )
  const real = compose(retry(), circuit, bulkhead({ maxConcurrent: 10_000 }), timeout(60_000))
  const operations = [succeeds, succeedsLater, fails, reads, hangs, stops]
  const forever = new AbortController()
  let ran = 0
  const run = async (n: number): Promise<void> => {
    for (; n > 0; n -= AT_ONCE) {
      const own = new AbortController()
      const all = Array.from({ length: AT_ONCE }, (_, i) => {
        const operation = operations[i % 20] ?? succeeds
        const { signal } = i % 3 === 0 ? own : forever
        const calling = i % 2 === 0 || operation === hangs ? policy : real
        ran++
        return calling.execute(operation, { signal: operation === stops ? own.signal : signal })
      })
      const ended = Promise.allSettled(all)
      await clock.advance(10)
      own.abort(boom)
      await clock.advance(500)
      await ended
    }
  }
  await run(CALLS / 10)
  const before = left()
  await run(CALLS)
  const after = left()
  return {
    ran,
    grew: after.heap - before.heap,
    timers: after.timers + clock.pendingTimers,
    listeners: getEventListeners(forever.signal, 'abort').length,
  }
}

/** So many circuits, each called and some of them open: then none has a timer, and the process ends by itself. */
async function circuits(): Promise<object> {
  const store = new MemoryCircuitBreakerStore()
  const all: CircuitBreaker[] = []
  for (let i = 0; i < CALLS; i++) {
    const circuit = new CircuitBreaker({
      window: { kind: 'consecutive', failures: 1 },
      halfOpen: { others: { waitMs: 1_000 } },
      ...(i % 1_000 === 0 ? { name: `c${i}`, store } : {}),
    })
    all.push(circuit)
    await circuit.execute(i % 2 === 0 ? succeeds : fails).catch(() => {})
  }
  return { circuits: all.length, open: all.filter(({ state }) => state === 'open').length, timers: left().timers }
}

console.log(JSON.stringify(await { calls, circuits }[what]!()))
