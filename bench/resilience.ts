import {
  circuitBreaker,
  ConsecutiveBreaker,
  handleAll,
  retry as cockatielRetry,
  SamplingBreaker,
  timeout as cockatielTimeout,
  TimeoutStrategy,
  wrap,
} from 'cockatiel'
import { CircuitBreaker, compose, retry, timeout } from 'holdfast/resilience'
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

const NEVER = 1e9 // failures in a row: a circuit that does not open

function success(): Candidate[] {
  const floor = handWritten(5)
  const consecutive = new CircuitBreaker()
  const time = new CircuitBreaker({
    window: { kind: 'time', durationMs: 10_000, minimumCalls: 100, failureRatio: 0.5 },
  })
  const peerConsecutive = circuitBreaker(handleAll, { halfOpenAfter: 60_000, breaker: new ConsecutiveBreaker(5) })
  const peerSampling = circuitBreaker(handleAll, {
    halfOpenAfter: 60_000,
    breaker: new SamplingBreaker({ threshold: 0.5, duration: 10_000 }),
  })
  const opossum = new Opossum(ok, { timeout: false })
  return [
    { name: 'hand-written consecutive breaker (floor)', batch: sequential(() => floor(ok)) },
    { name: 'bare async function', batch: sequential(ok) },
    { name: 'holdfast, consecutive', batch: sequential(() => consecutive.execute(ok)) },
    { name: 'holdfast, time window', batch: sequential(() => time.execute(ok)) },
    { name: 'cockatiel 4, consecutive', batch: sequential(() => peerConsecutive.execute(ok)) },
    { name: 'cockatiel 4, sampling', batch: sequential(() => peerSampling.execute(ok)) },
    { name: 'opossum 10', batch: sequential(() => opossum.fire()) },
  ]
}

function failure(): Candidate[] {
  const floor = handWritten(NEVER)
  const ours = new CircuitBreaker({ window: { kind: 'consecutive', failures: NEVER } })
  const peer = circuitBreaker(handleAll, { halfOpenAfter: 60_000, breaker: new ConsecutiveBreaker(NEVER) })
  return [
    { name: 'hand-written consecutive breaker (floor)', batch: sequential(swallow(() => floor(fails))) },
    { name: 'holdfast, consecutive', batch: sequential(swallow(() => ours.execute(fails))) },
    { name: 'cockatiel 4, consecutive', batch: sequential(swallow(() => peer.execute(fails))) },
  ]
}

async function refusal(): Promise<Candidate[]> {
  const floor = handWritten(1)
  const ours = new CircuitBreaker({ window: { kind: 'consecutive', failures: 1 }, openMs: 3_600_000 })
  const peer = circuitBreaker(handleAll, { halfOpenAfter: 3_600_000, breaker: new ConsecutiveBreaker(1) })
  const opossum = new Opossum(fails, { timeout: false, resetTimeout: 3_600_000, volumeThreshold: 0 })
  for (const open of [() => floor(fails), () => ours.execute(fails), () => peer.execute(fails), () => opossum.fire()])
    await swallow(open)()
  return [
    { name: 'hand-written consecutive breaker (floor)', batch: sequential(swallow(() => floor(ok))) },
    { name: 'holdfast, execute', batch: sequential(swallow(() => ours.execute(ok))) },
    { name: 'holdfast, attempt', batch: sequential(() => ours.attempt(ok)) },
    { name: 'cockatiel 4', batch: sequential(swallow(() => peer.execute(ok))) },
    { name: 'opossum 10', batch: sequential(swallow(() => opossum.fire())) },
  ]
}

/** Retry around breaker around timeout in one function, as one would write it once for one call. */
function handWrittenPipeline(operation: () => Promise<number>): () => Promise<number> {
  const breaker = handWritten(5)
  const limited = async (): Promise<number> => {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('late')), 1_000)
    })
    try {
      return await Promise.race([operation(), late])
    } finally {
      clearTimeout(timer)
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

function pipeline(): Candidate[] {
  const floor = handWrittenPipeline(ok)
  const ours = compose(retry({ attempts: 3 }), new CircuitBreaker(), timeout(1_000))
  const peer = wrap(
    cockatielRetry(handleAll, { maxAttempts: 3 }),
    circuitBreaker(handleAll, { halfOpenAfter: 60_000, breaker: new ConsecutiveBreaker(5) }),
    cockatielTimeout(1_000, TimeoutStrategy.Cooperative),
  )
  return [
    { name: 'the three in one hand-written function (floor)', batch: sequential(floor) },
    { name: 'holdfast, signal not read', batch: sequential(() => ours.execute(ok)) },
    {
      name: 'holdfast, signal read',
      batch: sequential(() => ours.execute(async ({ signal }) => (signal.aborted ? 0 : 1))),
    },
    { name: 'cockatiel 4', batch: sequential(() => peer.execute(ok)) },
  ]
}

/** Circuit breaker, and retry + breaker + timeout in one pipeline. */
export async function resilience(): Promise<readonly Comparison[]> {
  return [
    { title: 'Circuit breaker, successful call', candidates: success() },
    { title: 'Circuit breaker, failing call', candidates: failure() },
    { title: 'Circuit breaker, refused call', candidates: await refusal() },
    { title: 'Retry + breaker + timeout, successful call', candidates: pipeline() },
  ]
}
