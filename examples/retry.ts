import { setTimeout as sleep } from 'node:timers/promises'
import { CircuitBreaker, compose, exponential, retry, retryHistory, timeout } from 'holdfast/resilience'

// Three tries, each with 100 ms of its own, around a circuit: the outermost policy comes first.
const policy = compose(
  retry({ attempts: 3, backoff: exponential({ initialMs: 50, jitter: 'none' }), maxElapsedMs: 2_000 }),
  new CircuitBreaker(),
  timeout(100),
)
const start = performance.now()
const log = (text: string): void => console.log(`${(performance.now() - start).toFixed(0).padStart(5)} ms  ${text}`)

log('--- the first try hangs, the second is told to wait, the third succeeds')
const value = await policy.execute(async ({ attempt, signal }) => {
  log(`try ${attempt}`)
  if (attempt === 1) await sleep(60_000, undefined, { signal }) // ends when the timeout aborts the signal
  if (attempt === 2) throw Object.assign(new Error('429 Too Many Requests'), { headers: { 'retry-after': '0.3' } })
  return 'hello'
})
log(`got '${value}'`)

log('--- every try fails: the last error comes out, and the others can be read from it')
try {
  await policy.execute(({ attempt }) => Promise.reject(new Error(`failure ${attempt}`)))
} catch (error) {
  const history = retryHistory(error)
  log(`${(error as Error).message}, stopped by '${history?.stoppedBy}' after ${history?.attempts} tries`)
  for (const earlier of history?.errors ?? []) log(`  ${(earlier as Error).message}`)
}

log('--- the caller gives up during a wait')
const caller = AbortSignal.timeout(20)
await policy
  .execute(() => Promise.reject(new Error('no')), { signal: caller })
  .catch((error: unknown) => log(`ended at once by the caller's own signal: ${error === caller.reason}`))
