import { setTimeout as sleep } from 'node:timers/promises'
import { bulkhead, isHoldfastError } from 'holdfast/resilience'

// A report server that can do two reports at once: two more may wait their turn, but not for longer than 250 ms.
const reports = bulkhead({ maxConcurrent: 2, maxQueued: 2, queueTimeoutMs: 250 })
reports.on('refused', ({ running, queued, waitedMs }) =>
  log(`       refused after ${Math.round(waitedMs)} ms: ${running} running, ${queued} waiting`),
)
const start = performance.now()
const log = (text: string): void => console.log(`${(performance.now() - start).toFixed(0).padStart(5)} ms  ${text}`)

async function ask(who: string, takesMs: number, signal?: AbortSignal): Promise<void> {
  try {
    await reports.execute(
      async () => {
        log(`${who} begins`)
        await sleep(takesMs)
      },
      { signal },
    )
    log(`${who} has the report`)
  } catch (error) {
    log(`${who}: ${isHoldfastError(error, 'BULKHEAD_FULL') ? error.message : `gave up (${String(error)})`}`)
  }
}

log('--- five ask at once: two begin, two wait, one is refused')
await Promise.all(['ada', 'bob', 'cyd', 'dan', 'eve'].map((who) => ask(who, 100)))

log('--- who gives up leaves the line at once, and who has waited too long is refused')
const fay = new AbortController()
const calls = [ask('ada', 400), ask('bob', 400), ask('fay', 100, fay.signal), ask('gus', 100)]
fay.abort('changed her mind')
await Promise.all(calls)

const tried = await Promise.all(Array.from({ length: 10 }, () => reports.attempt(() => sleep(20))))
log(`--- of ten at once ${tried.filter(({ ok }) => ok).length} were let in; now ${reports.running} are running`)
