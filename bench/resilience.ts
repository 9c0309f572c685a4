import {
  bulkhead as cockatielBulkhead,
  circuitBreaker,
  ConsecutiveBreaker,
  handleAll,
  retry as cockatielRetry,
  SamplingBreaker,
  timeout as cockatielTimeout,
  TimeoutStrategy,
  wrap,
} from 'cockatiel'
import { bulkhead, CircuitBreaker, compose, hedge, retry, timeout } from 'holdfast/resilience'
import * as mollitia from 'mollitia'
import Opossum from 'opossum'
import { sequential, type Candidate, type Comparison } from './harness.js'

const ok = async (): Promise<number> => 1
const boom = new Error('boom')
const fails = async (): Promise<number> => {
  throw boom
}

/** The least a breaker can do: what every other candidate is measured against. */
function handWritten(threshold: number): (operation: () => Promise<number>) => Promise<number> {
  let failures = 0
  let openUntil = 0
  return async (operation) => {
    if (openUntil > 0 && performance.now() < openUntil) throw new Error('open')
    try {
      const value = await operation()
      failures = 0
      return value
    } catch (error) {
      if (++failures >= threshold) openUntil = performance.now() + 60_000
      throw error
    }
  }
}

const swallow =
  (call: () => Promise<unknown>): (() => Promise<void>) =>
  async () => {
    try {
      await call()
    } catch {
      // what is measured is the way here
    }
  }

const NEVER = 1e9 // failures: a circuit that does not open
const HOUR = 3_600_000
const FLOOR = 'hand-written consecutive breaker (floor)'

function success(): Comparison {
  const floor = handWritten(5)
  const consecutive = new CircuitBreaker()
  const rates = { minimumCalls: 100, failureRatio: 0.5 }
  const count = new CircuitBreaker({ window: { kind: 'count', size: 100, ...rates } })
  const time = new CircuitBreaker({ window: { kind: 'time', durationMs: 10_000, ...rates } })
  const peer = circuitBreaker(handleAll, { halfOpenAfter: 60_000, breaker: new ConsecutiveBreaker(5) })
  const sampling = circuitBreaker(handleAll, {
    halfOpenAfter: 60_000,
    breaker: new SamplingBreaker({ threshold: 0.5, duration: 10_000 }),
  })
  const opossum = new Opossum(ok, { timeout: false })
  const circuit = new mollitia.Circuit({ func: ok, options: { modules: [new mollitia.SlidingCountBreaker({})] } })
  return {
    title: 'Circuit breaker, successful call',
    heap: true,
    plot: true,
    candidates: [
      { name: FLOOR, batch: sequential(() => floor(ok)) },
      { name: 'bare async function', batch: sequential(ok) },
      { name: 'holdfast, consecutive', batch: sequential(() => consecutive.execute(ok)) },
      { name: 'holdfast, count window', batch: sequential(() => count.execute(ok)) },
      { name: 'holdfast, time window', batch: sequential(() => time.execute(ok)) },
      { name: 'cockatiel 4, consecutive', batch: sequential(() => peer.execute(ok)) },
      { name: 'cockatiel 4, sampling', batch: sequential(() => sampling.execute(ok)) },
      { name: 'opossum 10', batch: sequential(() => opossum.fire()) },
      { name: 'mollitia, count window', batch: sequential(() => circuit.execute()) },
    ],
    targets: [
      { candidate: 'holdfast, consecutive', than: FLOOR, times: 1.2 },
      { candidate: 'holdfast, consecutive', than: 'cockatiel 4, consecutive', times: 0.9 },
      { candidate: 'holdfast, time window', than: 'cockatiel 4, sampling', times: 0.75 },
      { candidate: 'holdfast, consecutive', than: 'opossum 10', times: 1 / 6 },
      { candidate: 'holdfast, consecutive', bytes: 850 },
    ],
  }
}

function failure(): Comparison {
  const floor = handWritten(NEVER)
  const ours = new CircuitBreaker({ window: { kind: 'consecutive', failures: NEVER } })
  const peer = circuitBreaker(handleAll, { halfOpenAfter: 60_000, breaker: new ConsecutiveBreaker(NEVER) })
  // With its percentiles, the default, a failure costs more the more calls the window holds: no figure would be the figure.
  const opossum = new Opossum(fails, { timeout: false, volumeThreshold: NEVER, rollingPercentilesEnabled: false })
  return {
    title: 'Circuit breaker, failing call',
    heap: true,
    plot: true,
    candidates: [
      { name: FLOOR, batch: sequential(swallow(() => floor(fails))) },
      { name: 'holdfast, consecutive', batch: sequential(swallow(() => ours.execute(fails))) },
      { name: 'cockatiel 4, consecutive', batch: sequential(swallow(() => peer.execute(fails))) },
      { name: 'opossum 10, no percentiles', batch: sequential(swallow(() => opossum.fire())) },
    ],
    targets: [{ candidate: 'holdfast, consecutive', than: FLOOR, times: 1.15 }],
  }
}

/** A failing call in a window that holds so many. */
async function full(): Promise<Comparison> {
  const filled = async (calls: number): Promise<CircuitBreaker> => {
    const window = { kind: 'time', durationMs: HOUR, minimumCalls: NEVER, failureRatio: 1 } as const
    const circuit = new CircuitBreaker({ window })
    for (let i = 0; i < calls; i++) await circuit.execute(ok)
    return circuit
  }
  const [few, many] = [await filled(1_000), await filled(50_000)]
  return {
    title: 'Circuit breaker, failing call by the number of calls in the window',
    candidates: [
      { name: 'holdfast, 1,000 calls', batch: sequential(swallow(() => few.execute(fails))) },
      { name: 'holdfast, 50,000 calls', batch: sequential(swallow(() => many.execute(fails))) },
    ],
    targets: [{ candidate: 'holdfast, 50,000 calls', than: 'holdfast, 1,000 calls', times: 1.15 }],
  }
}

async function refusal(): Promise<Comparison> {
  const floor = handWritten(1)
  const ours = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: HOUR })
  const peer = circuitBreaker(handleAll, { halfOpenAfter: HOUR, breaker: new ConsecutiveBreaker(1) })
  const opossum = new Opossum(fails, { timeout: false, resetTimeout: HOUR, volumeThreshold: 0 })
  const breaker = new mollitia.SlidingCountBreaker({
    slidingWindowSize: 2,
    minimumNumberOfCalls: 2,
    openStateDelay: HOUR,
  })
  const circuit = new mollitia.Circuit({ func: fails, options: { modules: [breaker] } })
  for (let i = 0; i < 3; i++) {
    for (const open of [
      () => floor(fails),
      () => ours.execute(fails),
      () => peer.execute(fails),
      () => opossum.fire(),
      () => circuit.execute(),
    ])
      await swallow(open)()
  }
  return {
    title: 'Circuit breaker, refused call',
    plot: true,
    candidates: [
      { name: FLOOR, batch: sequential(swallow(() => floor(ok))) },
      { name: 'holdfast, execute', batch: sequential(swallow(() => ours.execute(ok))) },
      { name: 'holdfast, attempt', batch: sequential(() => ours.attempt(ok)) },
      { name: 'cockatiel 4', batch: sequential(swallow(() => peer.execute(ok))) },
      { name: 'opossum 10', batch: sequential(swallow(() => opossum.fire())) },
      { name: 'mollitia', batch: sequential(swallow(() => circuit.execute())) },
    ],
    targets: [
      { candidate: 'holdfast, execute', than: 'cockatiel 4', times: 0.4 },
      { candidate: 'holdfast, attempt', ns: 300 },
    ],
  }
}

let limits = 1_000
/** A time limit that no other candidate has: Node keeps the timers of one duration in one list, and who finds it made by another pays less. */
const limitMs = (): number => ++limits * 2

/** Retry, breaker, bulkhead and timeout in one function, as one would write it once for one call. */
function handWrittenPipeline(operation: () => Promise<number>): () => Promise<number> {
  const breaker = handWritten(5)
  const ms = limitMs()
  let running = 0
  const limited = async (): Promise<number> => {
    if (running >= 10) throw new Error('full')
    running++
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<number>((resolve, reject) => {
        timer = setTimeout(() => reject(new Error('late')), ms)
        operation().then(resolve, reject)
      })
    } finally {
      clearTimeout(timer)
      running--
    }
  }
  return async () => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await breaker(limited)
      } catch (error) {
        if (attempt === 3) throw error
      }
    }
  }
}

function pipeline(): Comparison {
  const floor = handWrittenPipeline(ok)
  const ours = compose(
    retry({ attempts: 3 }),
    new CircuitBreaker(),
    bulkhead({ maxConcurrent: 10 }),
    timeout(limitMs()),
  )
  const peer = wrap(
    cockatielRetry(handleAll, { maxAttempts: 2 }),
    circuitBreaker(handleAll, { halfOpenAfter: 60_000, breaker: new ConsecutiveBreaker(5) }),
    cockatielBulkhead(10),
    cockatielTimeout(limitMs(), TimeoutStrategy.Cooperative),
  )
  const circuit = new mollitia.Circuit({
    func: ok,
    options: {
      modules: [
        new mollitia.Retry({ attempts: 2 }),
        new mollitia.SlidingCountBreaker({}),
        new mollitia.Bulkhead({ concurrentSize: 10 }),
        new mollitia.Timeout({ delay: limitMs() }),
      ],
    },
  })
  const opossum = new Opossum(ok, { timeout: limitMs(), capacity: 10 })
  const name = 'the four in one hand-written function (floor)'
  return {
    title: 'Retry + breaker + bulkhead + timeout, successful call',
    heap: true,
    plot: true,
    candidates: [
      { name, batch: sequential(floor) },
      { name: 'holdfast, signal not read', batch: sequential(() => ours.execute(ok)) },
      {
        name: 'holdfast, signal read',
        batch: sequential(() => ours.execute(async ({ signal }) => (signal.aborted ? 0 : 1))),
      },
      { name: 'cockatiel 4', batch: sequential(() => peer.execute(ok)) },
      { name: 'mollitia', batch: sequential(() => circuit.execute()) },
      { name: 'opossum 10, which has no retry', batch: sequential(() => opossum.fire()) },
    ],
    targets: [
      { candidate: 'holdfast, signal not read', than: name, times: 2.2 },
      { candidate: 'holdfast, signal not read', than: 'cockatiel 4', times: 1 / 15 },
      { candidate: 'holdfast, signal read', than: 'cockatiel 4', times: 1 / 3 },
      { candidate: 'holdfast, signal not read', bytes: 2_000 },
    ],
  }
}

function alone(): Comparison {
  const ours: Record<string, { execute(operation: () => Promise<number>): Promise<unknown> }> = {
    'holdfast retry': retry(),
    'cockatiel 4 retry': cockatielRetry(handleAll, { maxAttempts: 2 }),
    'holdfast timeout': timeout(limitMs()),
    'cockatiel 4 timeout': cockatielTimeout(limitMs(), TimeoutStrategy.Cooperative),
    'holdfast bulkhead': bulkhead({ maxConcurrent: 10 }),
    'cockatiel 4 bulkhead': cockatielBulkhead(10),
    'holdfast hedge': hedge({ delayMs: limitMs() }),
  }
  const rest: Candidate[] = Object.entries(ours).map(([name, policy]) => ({
    name,
    batch: sequential(() => policy.execute(ok)),
  }))
  return {
    title: 'One policy, successful call',
    heap: true,
    candidates: [{ name: 'bare async function', batch: sequential(ok) }, ...rest],
  }
}

/** Circuit breaker in every way a call may end, the pipeline of four, and each policy alone. */
export async function resilience(): Promise<readonly Comparison[]> {
  return [success(), failure(), await full(), await refusal(), pipeline(), alone()]
}
